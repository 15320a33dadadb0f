"""Workflows on unusual networks give the results of an equivalent plain network, or raise."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import haq
from haq.config import search_config
from haq.errors import UserError
from haq.evaluation.evaluator import Evaluator
from haq.evaluation.protocols import Evaluation
from haq.execution.progress import Silent
from haq.experiment.artifact import load_artifact
from haq.experiment.evaluate import evaluate_artifact
from haq.experiment.preparation import prepare_network
from haq.experiment.prior.fisher import network_fisher
from haq.experiment.problem import Network
from haq.network.layers import trace
from haq.tasks.base import SplitName
from haq.tasks.classification import ClassificationTask
from haq.tasks.items import StoredSplit

Run = Callable[[Any, Tensor], Tensor]


class Through(nn.Module):
    """Network that runs another through a given function."""

    def __init__(self, net: nn.Module, run: Run) -> None:
        super().__init__()
        self.net, self.run = net, run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self.net, x)


class Parts(nn.Module):
    """Backbone and head, with an operation without gradient between them."""

    def __init__(self, net: nn.Module, between: Run) -> None:
        super().__init__()
        self.net, self.between = net, between

    def forward(self, x: Tensor) -> Tensor:
        features = self.between(self.backbone, x)
        scores: Tensor = self.net.get_submodule("classifier")(features.flatten(1))
        return scores

    def backbone(self, x: Tensor) -> Tensor:
        conv, bn, mix = (self.net.get_submodule(name) for name in ("conv", "bn", "mix"))
        features: Tensor = torch.relu(mix(torch.relu(bn(conv(x)))))
        return features


def in_place(net: nn.Module, x: Tensor) -> Tensor:
    return net(x.sub_(0.5).mul_(2))  # type: ignore[no-any-return]


def out_of_place(net: nn.Module, x: Tensor) -> Tensor:
    return net((x - 0.5) * 2)  # type: ignore[no-any-return]


@torch.no_grad()
def without_gradients(run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return run(x)


def in_inference_mode(run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.inference_mode():
        return run(x)


def with_train(task: ClassificationTask) -> ClassificationTask:
    return replace(task, splits={**task.splits, "train": task.splits["search"]})


def prepared(model: nn.Module, task: ClassificationTask, **settings: Any) -> Network:
    return prepare_network(search_config(**{"engine": "torch", **settings}), model=model, task=task)


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_in_place_network_is_evaluated_like_plain_network(
    tiny_net: nn.Module, tiny_task: ClassificationTask, engine: str
) -> None:
    def evaluations(run: Run) -> list[Evaluation]:
        network = prepared(Through(tiny_net, run), tiny_task, engine=engine)
        evaluator = Evaluator(network.engine, network.task, "search")
        return [evaluator.evaluate((bits,) * 3, (bits,) * 3) for bits in (2, 4, 3)]

    assert evaluations(in_place) == evaluations(out_of_place)


@pytest.mark.parametrize("between", [without_gradients, in_inference_mode])
def test_layers_without_gradient_are_measured_and_reported(
    tiny_net: nn.Module, tiny_task: ClassificationTask, between: Run
) -> None:
    plain = network_fisher(prepared(Parts(tiny_net, lambda run, x: run(x)), tiny_task))
    found = network_fisher(prepared(Parts(tiny_net, between), tiny_task))
    assert found.warnings == ("no gradient reaches net.conv, net.mix: their sensitivities are measured, not estimated",)
    assert found.forward_images > plain.forward_images
    assert plain.warnings == ()
    assert np.array_equal(found.losses[2], plain.losses[2])
    few = slice(1, 5)  # more bits change nothing that can be measured
    ratio = found.losses[:2, :, few] / plain.losses[:2, :, few]
    assert 0.2 < ratio.min() < ratio.max() < 5


def test_layers_before_rounding_are_measured(tiny_net: nn.Module, tiny_task: ClassificationTask) -> None:
    found = network_fisher(prepared(Parts(tiny_net, lambda run, x: (run(x) * 8).round() / 8), tiny_task))
    assert "net.conv, net.mix" in found.warnings[0]
    assert found.losses[0, 0, 0] > 0


def test_network_that_fails_with_gradients_is_measured(tiny_net: nn.Module, tiny_task: ClassificationTask) -> None:
    network = prepared(Through(tiny_net, lambda net, x: torch.from_numpy(net(x).numpy())), tiny_task)
    found = network_fisher(network)
    assert found.warnings[0].startswith(
        "sensitivities are measured, as the network has no gradients: RuntimeError: Can't"
    )
    assert (found.losses[:, 0, 0] > 0).all()


def test_sensitivity_estimate_keeps_max_norm_embeddings() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        words = nn.Embedding(9, 4, max_norm=0.5)
        model = nn.Sequential(words, nn.Flatten(), nn.Linear(12, 4))
    before = words.weight.detach().clone()
    items = [(torch.tensor([number % 9, 1, 2]), number % 4) for number in range(20)]
    splits: dict[SplitName, StoredSplit] = dict.fromkeys(("calibration", "search", "report"), StoredSplit(items))
    network = prepared(model, ClassificationTask(name="words", splits=splits, num_classes=4, facts={}))
    quantized = network.quantizers.weight(0, 3).clone()
    network_fisher(network)
    assert torch.equal(words.weight, before)
    assert torch.equal(network.quantizers.weight(0, 3), quantized)


def test_inference_mode_network_is_searched_but_not_trained(tiny_net: nn.Module, tiny_task: ClassificationTask) -> None:
    task = with_train(tiny_task)
    model = Through(tiny_net, in_inference_mode)
    result = haq.search(model, task, episodes=3, engine="torch", budget=0.9)
    assert any("no gradient reaches net.conv" in warning for warning in result.summary.warnings)
    haq.reconstruct(model, task, steps=2, engine="torch")
    with pytest.raises(UserError, match="no gradient reaches"):
        haq.finetune(model, task, epochs=1)


def test_training_ignores_caller_torch_settings(tiny_net: nn.Module, tiny_task: ClassificationTask) -> None:
    task = with_train(tiny_task)
    with torch.no_grad():
        haq.finetune(tiny_net, task, epochs=1)
        haq.reconstruct(tiny_net, task, steps=2, engine="torch")
        assert not torch.is_grad_enabled()


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_does_not_change_training(
    tiny_net: nn.Module, tiny_task: ClassificationTask, use_reentrant: bool
) -> None:
    task = with_train(tiny_task)
    plain, saving = Through(tiny_net, lambda net, x: net(x)), partial(checkpoint, use_reentrant=use_reentrant)
    tuned = [haq.finetune(Through(tiny_net, run), task, epochs=1).network for run in (plain.run, saving)]
    first, second = (each.state_dict() for each in tuned)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    learned = [haq.reconstruct(Through(tiny_net, run), task, steps=3, engine="torch") for run in (plain.run, saving)]
    assert learned[0].summary.divergence == learned[1].summary.divergence


DATA = """
import torch
from torch import nn

def model():
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))

def data():
    images = torch.rand(24, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    items = [(image, number % 4) for number, image in enumerate(images)]
    return {"calibration": items, "search": items, "report": items}
"""


def test_lazy_network_is_reproduced_in_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"lazy_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(DATA)
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    result = haq.search(f"{name}:model", f"{name}:data", episodes=2, engine="torch", budget=1.0, out=run)
    torch.rand(5)
    found = evaluate_artifact(
        load_artifact(run / "policy.json", search_config(model=f"{name}:model", data=f"{name}:data"))
    )
    assert found["accuracy"] == result.summary.accuracy
    assert found["accuracy_fp32"] == result.summary.accuracy_fp32


class Hollow(nn.Module):
    """Network with a length of 0."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return 0


def test_network_of_length_zero_is_trained(tiny_net: nn.Module, tiny_task: ClassificationTask, tmp_path: Path) -> None:
    task = with_train(tiny_task)
    haq.reconstruct(Hollow(tiny_net), task, steps=1, engine="torch")
    for resume in (False, True):
        haq.finetune(Hollow(tiny_net), task, epochs=1, out=tmp_path / "run", resume=resume)


class Scaled(nn.Conv2d):
    """Layer with extra state that is not a tensor."""

    state: Any

    def get_extra_state(self) -> Any:
        return self.state

    def set_extra_state(self, state: Any) -> None:
        self.state = state


def with_state(state: Any) -> nn.Module:
    layer = Scaled(1, 4, 3)
    layer.state = state
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(64, 4))


def trained(model: nn.Module, tiny_task: ClassificationTask, **settings: Any) -> Any:
    return haq.finetune(model, with_train(tiny_task), epochs=1, **settings)


def test_extra_state_is_saved_with_finetuned_network(tiny_task: ClassificationTask, tmp_path: Path) -> None:
    trained(with_state({"largest": 3.0}), tiny_task, out=tmp_path / "run")
    fresh = with_state(None)
    again = trained(fresh, tiny_task, out=tmp_path / "run", resume=True).network
    assert again.model.get_submodule("0").state == {"largest": 3.0}


def test_state_dict_with_additional_entries_is_saved(tiny_task: ClassificationTask, tmp_path: Path) -> None:
    def model() -> nn.Module:
        net = with_state(None)
        net.register_state_dict_post_hook(  # type: ignore[no-untyped-call]
            lambda _module, state, _prefix, _metadata: state.update(version=3)
        )
        return net

    trained(model(), tiny_task, out=tmp_path / "run")
    trained(model(), tiny_task, out=tmp_path / "run", resume=True)


@pytest.mark.parametrize("state", [(1, 2), {"scale": torch.ones(1)}, object(), float("nan")])
def test_unsupported_extra_state_raises_before_training(tiny_task: ClassificationTask, state: Any) -> None:
    with pytest.raises(UserError, match=r"the network cannot be saved: 0\._extra_state \("):
        trained(with_state(state), tiny_task, watcher=Untouched())


class Untouched(Silent):
    """Watcher that fails when training begins."""

    def begin(self, *_: Any, **__: Any) -> None:
        pytest.fail("learning began")


class Experts(nn.Module):
    """Network that routes each item to an expert by its first features."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate, self.head = nn.Linear(36, 8), nn.Linear(8, 3), nn.Linear(8, 4)
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x.flatten(1)))
        chosen, mixed = self.gate(x).argmax(dim=1), torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            if (chosen == number).any():
                mixed[chosen == number] = expert(x[chosen == number])
        scores: Tensor = self.head(x + mixed)
        return scores


def test_network_that_routes_items_is_reconstructed(tiny_task: ClassificationTask) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = Experts()
    assert len(trace(model, tiny_task.example()).layers) == 4  # one expert sees the item
    result = haq.reconstruct(model, tiny_task, policy=(3, 8), steps=100, engine="torch")
    assert result.summary.search_divergence < result.summary.search_divergence_start
