"""Every workflow on recurrent language models whose state is carried over batches, and on a small transformer."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import haq
from haq.__main__ import main
from haq.config import SearchConfig
from haq.errors import UserError
from haq.evaluation import float_run
from haq.evaluation.evaluator import Evaluator
from haq.experiment.loading import load_configured
from haq.experiment.preparation import prepare_network
from haq.experiment.prior.fisher import network_fisher
from haq.experiment.prior.measured import Cell, Sensitivities
from haq.experiment.problem import Network
from haq.network import zoo
from haq.network.layers import trace
from haq.network.models.language_models import RecurrentLanguageModel, TransformerLanguageModel
from haq.tasks.loading import load_task
from haq.tasks.predictions import predictions
from hardware_sim.catalog import device_names, load_accelerator
from hardware_sim.cost import UnsupportedError


def tiny(kind: str, vocabulary: int = 13) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        if kind == "gpt":
            return TransformerLanguageModel(num_classes=vocabulary, width=8, blocks=1, heads=2, context=16).eval()
        model = RecurrentLanguageModel(
            "gru" if kind == "gru" else "lstm", 8, num_classes=vocabulary, tied=kind == "tied"
        )
    for weight in model.parameters():
        weight.data.mul_(3)
    return model.eval()


@pytest.fixture(scope="module")
def data(tiny_text: Path) -> str:
    return f"text:{tiny_text}?length=5&streams=4"


@pytest.fixture(scope="module", params=["lstm", "gru", "tied", "gpt"])
def network(request: pytest.FixtureRequest, data: str) -> Network:
    config = SearchConfig(engine="torch", model="tiny", data=data, rounding="nearest")
    return prepare_network(config, model=tiny(request.param))


def uniform(network: Network, bits: int | None) -> Any:
    return ((bits,) * len(network.priced.layers),) * 2


def test_layers_in_float_give_the_perplexity_of_torch(network: Network) -> None:
    evaluator = Evaluator(network.engine, network.task, "search")
    found = evaluator.evaluate(*uniform(network, None))
    assert found.accuracy == pytest.approx(evaluator.accuracy_fp32, rel=1e-5)
    assert found.divergence == pytest.approx(0, abs=1e-6)


def test_fewer_bits_are_farther_from_float(network: Network) -> None:
    evaluator = Evaluator(network.engine, network.task, "search")
    few, many = (evaluator.evaluate(*uniform(network, bits)) for bits in (2, 8))
    assert 0 < many.divergence < few.divergence
    assert 0 < many.noise < few.noise


def test_quantized_and_float_network_carry_states_of_their_own(data: str) -> None:
    model = tiny("lstm")
    network = prepare_network(SearchConfig(engine="torch", model="tiny", data=data), model=model)
    runs = [network.engine.runner(bits) for bits in (None, uniform(network, 2))]
    states = [
        [each.inputs[1][0] for each in predictions(run, network.task, "search", batch_size=4)][-1] for run in runs
    ]
    assert not torch.allclose(*states)


def test_float_outputs_that_are_too_large_are_computed_again(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = prepare_network(SearchConfig(engine="torch", model="tiny", data=data), model=tiny("lstm"))
    stored = Evaluator(network.engine, network.task, "search").evaluate(*uniform(network, 3))
    monkeypatch.setattr(float_run, "MEMORY_LIMIT_BYTES", 10_000)
    again = Evaluator(network.engine, network.task, "search")
    assert again._float.outputs is None
    assert again.evaluate(*uniform(network, 3)) == stored


def test_sensitivities_are_estimated_and_measured(network: Network) -> None:
    losses = network_fisher(network, loss="divergence").losses
    kinds = [layer.kind for layer in network.priced.layers]
    quantized = [number for number, kind in enumerate(kinds) if kind != "embedding"]
    assert (losses[quantized][:, :, 1] > losses[quantized][:, :, 7]).all()
    measured = Sensitivities(network.engine, network.task, images=8).measure(
        Cell(quantized[0], "weights", 2), len(kinds)
    )
    assert measured.divergence > 0


def test_the_bits_of_tokens_change_nothing(network: Network) -> None:
    lookups = [number for number, layer in enumerate(network.priced.layers) if layer.kind == "embedding"]
    assert lookups
    table = network.priced.table
    for costs in (table.latency_s, table.energy_j, table.weight_bytes, table.bops):
        assert costs is not None
        integers = costs[lookups, :8, :8]
        assert (integers == integers[:, :, :1]).all()
    assert all(network.quantizers.activation(number, 2) is None for number in lookups)


def test_a_tied_decoder_is_one_decision_with_a_scale_for_each_token(data: str) -> None:
    network = prepare_network(SearchConfig(engine="torch", model="tiny", data=data), model=tiny("tied"))
    first, *_, last = network.priced.layers
    assert (first.name, first.kind, last.name, last.kind, last.tied_to) == (
        *("embedding", "embedding"),
        *("embedding:2", "linear", "embedding"),
    )
    codes = [network.quantizers.codes(number, 4) for number in (0, len(network.priced.layers) - 1)]
    assert codes[0] is codes[1]
    assert (codes[0].channel_axis, codes[0].scale.shape) == (0, (13,))
    assert network.quantizers.activation(len(network.priced.layers) - 1, 4) is not None


def test_only_the_decoder_is_a_head(data: str) -> None:
    model = tiny("lstm")
    found = trace(model, load_task(data, model=model).example())
    assert found.heads == ("decoder",)


@pytest.mark.parametrize("device", device_names())
def test_devices_price_language_models_or_refuse_them_by_name(device: str, data: str) -> None:
    model = tiny("lstm")
    layers = trace(model, load_task(data, model=model).example()).layers
    try:
        table = load_accelerator(device).table(layers)
    except UnsupportedError as error:
        assert "rnn.hh_l0" in str(error) or "embedding" in str(error)  # noqa: PT017
    else:
        assert table.latency_s is not None


def test_a_network_is_fine_tuned_with_carried_states(data: str) -> None:
    result = haq.finetune(tiny("lstm"), data, policy=(3, 3), epochs=2, batch_size=16, optimizer="adamw", lr=0.02)
    summary = result.summary
    assert (summary.metric.name, summary.metric.higher_is_better) == ("perplexity", False)
    assert summary.search_accuracy > summary.search_accuracy_start


def test_a_network_is_reconstructed(data: str) -> None:
    result = haq.reconstruct(tiny("gru"), data, policy=(3, 8), steps=2, batch_size=8)
    assert result.summary.metric.value == -result.summary.accuracy > 1


def test_policies_are_fine_tuned_during_a_search(data: str) -> None:
    found = haq.search(
        tiny("lstm"), data, episode_finetune_steps=2, episodes=1, agent="random", objective="size", budget=0.7
    )
    assert found.summary.metric.value > 1


@pytest.fixture
def built_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`lstm_300` with eight units."""

    def build(num_classes: int = 100) -> nn.Module:
        return tiny("lstm", num_classes)

    monkeypatch.setitem(zoo.BUILT_IN, "lstm_300", (build, (35,)))
    return


@pytest.mark.usefixtures("built_in")
def test_the_commands_work_from_search_to_export(data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, flags = tmp_path / "run", ["--model", "lstm_300", "--data", data, "--calibration", "max"]
    search = ["--objective", "size", "--budget", "0.6", "--agent", "random", "--episodes", "3", "--quiet"]
    assert main(["search", *flags, *search, "--out", str(run)]) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert summary["metric"]["value"] == -summary["accuracy"] > 1
    assert json.loads((run / "config.json").read_text())["data"] == data
    capsys.readouterr()
    assert main(["evaluate", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == pytest.approx(summary["accuracy"], rel=1e-6)
    assert main(["plot", str(run), "--kind", "policy", "--out", str(tmp_path / "policy.png")]) == 0
    assert (tmp_path / "policy.png").stat().st_size > 1000
    capsys.readouterr()
    assert main(["evaluate", str(run)]) == 0
    assert "report segments: " in capsys.readouterr().out
    assert main(["export", str(run), "--format", "packed", "--out", str(tmp_path / "lm.safetensors")]) == 0
    assert (tmp_path / "lm.safetensors").is_file()
    capsys.readouterr()
    assert main(["export", str(run), "--format", "onnx", "--out", str(tmp_path / "lm.onnx")]) == 2
    assert "all steps of rnn.hh_l0" in capsys.readouterr().err


@pytest.mark.usefixtures("built_in")
def test_methods_are_compared(data: str, tmp_path: Path) -> None:
    flags = ["--model", "lstm_300", "--data", data, "--calibration", "max", "--objective", "size", "--budgets", "0.6"]
    methods = ["--agents", "random,uniform", "--at", "2", "--seeds", "1", "--prior", "none", "--quiet"]
    assert main(["compare", *flags, *methods, "--out", str(tmp_path / "compared")]) == 0
    assert list((tmp_path / "compared").glob("*.md"))


@pytest.mark.usefixtures("built_in")
def test_layers_are_listed_with_the_vocabulary_of_the_data(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    for given, vocabulary in (([], 100), (["--data", data], 13)):
        assert main(["layers", "--model", "lstm_300", *given, "--json"]) == 0
        layers = json.loads(capsys.readouterr().out)["layers"]
        assert (layers[0]["name"], layers[0]["c_in"], layers[-1]["c_out"]) == ("embedding", vocabulary, vocabulary)


@pytest.mark.usefixtures("built_in")
def test_weights_of_another_vocabulary_are_refused(
    data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "other.pth"
    torch.save(tiny("lstm", 20).state_dict(), path)
    assert main(["search", "--model", "lstm_300", "--weights", str(path), "--data", data]) == 2
    assert "a vocabulary of 20 tokens" in capsys.readouterr().err


def test_other_calibration_segments_give_other_quantizers(data: str) -> None:
    model = tiny("lstm")
    task = load_task(data, model=model)
    small = replace(task, splits={**task.splits, "calibration": task.splits["search"]})  # type: ignore[type-var,attr-defined]
    found = small.with_other_calibration()
    assert found is not None
    other, shared = found
    assert shared == 0
    assert other.size("calibration") == task.size("search")


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        ("lstm_300", "digits", "lstm_300 is a language model, and digits has images; give text, --data text:DIR"),
        ("gpt_small", "imagefolder:nowhere", "give text, --data text:DIR"),
        ("torchvision:resnet18", "text:nowhere", "torchvision:resnet18 is a network for images, and text:nowhere is"),
        ("digits_cnn", "text:nowhere", "give a language model, such as lstm_300"),
        ("lstm_300:foo", "text:nowhere", "unknown model 'lstm_300:foo'; did you mean lstm_300"),
    ],
)
def test_networks_and_data_of_different_inputs_are_refused_before_they_are_loaded(
    model: str, data: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load_configured(SearchConfig(model=model, data=data))


def test_longer_segments_than_the_context_are_refused(tiny_text: Path) -> None:
    with pytest.raises(UserError, match="20 tokens exceed the context of 16"):
        prepare_network(SearchConfig(model="tiny", data=f"text:{tiny_text}?length=20"), model=tiny("gpt"))
