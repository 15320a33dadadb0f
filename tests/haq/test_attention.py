"""Every workflow on a small vision transformer, whose products of two activations are layers."""

import json
from dataclasses import replace
from inspect import getsource
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file
from torch import Tensor, nn

import haq
from haq.__main__ import main
from haq.config import SearchConfig
from haq.costs.pricing import allowed_bits
from haq.errors import UserError
from haq.evaluation.engines.onnxruntime import marking
from haq.experiment.preparation import prepare_network
from haq.experiment.prior.fisher import network_fisher
from haq.experiment.prior.measured import measured_losses
from haq.exporters.deployable import Deployable, make_deployable
from haq.exporters.formats import ExportOptions
from haq.exporters.onnx import OnnxExporter
from haq.exporters.registry import make_runtime
from haq.exporters.verify import verify_network
from haq.network.layers import trace
from haq.quantization.training.network import TrainableNetwork
from haq.tasks.classification import ClassificationTask
from haq.tasks.items import StoredSplit

PRODUCTS = ["block.self_attn.qk", "block.self_attn.pv", "pool.matmul", "pool.qk", "pool.pv"]
SETTINGS: dict[str, Any] = {"hardware": "bismo-edge", "budget": 0.5, "episodes": 3, "agent": "random"}


class Pool(nn.Module):
    """Attention of one learned query over all tokens, after one written as a product."""

    def __init__(self) -> None:
        super().__init__()
        self.key = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        keys = self.key(x)
        mixed = (x @ keys.mT).softmax(-1).sum(1)
        found: Tensor = F.scaled_dot_product_attention(x[:, :1] * mixed[:, :1, None], keys, x)
        return found[:, 0]


class SmallViT(nn.Module):
    """Patches of 3 x 3 pixels, an encoder layer and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 3, stride=3)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, activation="gelu", batch_first=True)
        self.pool, self.head = Pool(), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.pool(self.block(self.patches(x).flatten(2).mT)))
        return scores


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return SmallViT().eval()


@pytest.fixture(scope="module")
def task() -> ClassificationTask:
    images = torch.rand(48, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    items = StoredSplit([(image, number % 4) for number, image in enumerate(images)])
    splits = dict.fromkeys(("train", "calibration", "search", "report"), items)
    return ClassificationTask(name="random", splits=splits, num_classes=4, facts={})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def searched(vit: nn.Module, task: ClassificationTask, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    out = tmp_path_factory.mktemp("attention") / "run"
    return haq.search(vit, task, out=out, **SETTINGS), out


def test_layers_are_named_and_ends_are_no_products(vit: nn.Module) -> None:
    traced = trace(vit, torch.rand(1, 1, 6, 6))
    assert [layer.name for layer in traced.layers if layer.kind == "matmul"] == PRODUCTS
    assert traced.heads == ("head",)
    assert traced.refused == ()


def test_both_operands_are_stored_and_a_run_is_evaluated(
    searched: tuple[Any, Path], vit: nn.Module, task: ClassificationTask
) -> None:
    result, out = searched
    stored = load_file(out / "quantizers.safetensors")
    for name in PRODUCTS:
        assert {key for key in stored if key.startswith(name)} == {
            f"{name}.{operand}.{part}"
            for operand in ("input", "second_input")
            for part in ("scale", "zero_point", "range")
        }
    assert stored["block.self_attn.pv.input.range"][0] == 0  # shares of attention are not negative
    assert haq.evaluate(out, model=vit, task=task)["accuracy"] == result.summary.accuracy
    model = haq.load(out, model=vit, task=task).model
    with torch.no_grad():
        assert model(torch.rand(2, 1, 6, 6)).shape == (2, 4)


def test_a_run_without_the_quantizer_of_a_second_operand_is_refused(
    searched: tuple[Any, Path], vit: nn.Module, task: ClassificationTask
) -> None:
    loaded = haq.load(searched[1], model=vit, task=task)
    tensors = {key: value for key, value in loaded.quantizers.items() if "pool.qk.second_input" not in key}
    network = prepare_network(SearchConfig(model="vit", data="random", engine="torch"), model=vit, task=task)
    with pytest.raises(KeyError, match=r"pool\.qk\.second_input"):
        network.quantizers.load(tensors, loaded.policy.w_bits, loaded.policy.a_bits)


def test_width_of_the_second_operand_matters(vit: nn.Module, task: ClassificationTask) -> None:
    network = prepare_network(SearchConfig(model="vit", data="random", engine="torch"), model=vit, task=task)
    place = [layer.name for layer in network.priced.layers].index("block.self_attn.pv")
    floats = [None] * len(network.priced.layers)
    images = torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        exact = vit(images)
    errors = []
    for bits in (2, 4, 8):
        w_bits = [bits if layer == place else None for layer in range(len(floats))]
        with torch.no_grad():
            found = network.engine.runner((tuple(w_bits), tuple(floats)))(images)
        errors.append(float((found - exact).norm()))
    assert errors[0] > errors[1] > errors[2] > 0


def test_losses_of_second_operands_are_estimated_and_measured(vit: nn.Module, task: ClassificationTask) -> None:
    network = prepare_network(SearchConfig(model="vit", data="random", engine="torch"), model=vit, task=task)
    places = [place for place, layer in enumerate(network.priced.layers) if layer.name in PRODUCTS[1:4:2]]
    estimated, measured = network_fisher(network).losses[places], measured_losses(network, places).losses
    assert (estimated[..., 1] > 4 * estimated[..., 5]).all()
    assert (measured[..., 1] > 4 * measured[..., 5]).all()
    # Of the same order: random directions on 48 images.
    assert np.corrcoef(np.log(estimated[..., 1:6]).ravel(), np.log(measured[..., 1:6]).ravel())[0, 1] > 0.9


def test_both_operands_have_the_width_of_activations_under_the_size_objective(
    vit: nn.Module, task: ClassificationTask
) -> None:
    config = SearchConfig(model="vit", data="random", engine="torch", objective="size", a_bits=6, budget=("0.5",))
    network = prepare_network(config, model=vit, task=task)
    pinned = allowed_bits(config, network.priced).pinned or {}
    assert {name: pinned.get(name) for name in PRODUCTS} == dict.fromkeys(PRODUCTS, (6, 6))
    assert {name for name, pair in pinned.items() if pair == (8, 6)} == {"patches", "head"}


HEADER = """
import torch
import torch.nn.functional as F
from torch import Tensor, nn

"""
FOOTER = """
def model():
    torch.manual_seed(0)
    return SmallViT()

def data():
    images = torch.rand(24, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    items = [(image, number % 4) for number, image in enumerate(images)]
    return {"train": items, "calibration": items, "search": items, "report": items}
"""


def test_commands_run_from_layers_to_explain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"vit_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(HEADER + getsource(Pool) + "\n\n" + getsource(SmallViT) + FOOTER)
    monkeypatch.chdir(tmp_path)
    source = ("--model", f"{name}:model", "--data", f"{name}:data")

    def said(*arguments: str) -> Any:
        capsys.readouterr()
        assert main([*arguments]) == 0
        return json.loads(capsys.readouterr().out)

    layers = said("layers", *source, "--input", "1x6x6", "--json")
    (product,) = [layer for layer in layers["layers"] if layer["name"] == "block.self_attn.qk"]
    assert product["macs"] == 2 * 4 * 4 * 4
    assert (product["kind"], product["weight_count"], product["groups"]) == ("matmul", 0, 2)
    assert layers["refused"] == []
    search = ("search", *source, "--hardware", "bismo-edge", "--budget", "0.6", "--episodes", "5", "--agent", "random")
    assert main([*search, "--out", "run", "--quiet"]) == 0
    simulated = said("simulate", "run", "--json")
    assert {layer["name"] for layer in simulated["layers"] if layer["kind"] == "matmul"} == set(PRODUCTS)
    assert all(layer["latency_s"] > 0 for layer in simulated["layers"])
    assert said("evaluate", "run", "--json")["accuracy"] >= 0
    assert main(["plot", "run", "--kind", "policy", "--out", "policy.png"]) == 0
    assert main(["explain", "run"]) == 0
    assert main(["sensitivity", *source, "--fisher-only", "--out", "losses", "--quiet"]) == 0
    found = json.loads((tmp_path / "losses" / "sensitivity.json").read_text())
    assert [layer["name"] for layer in found["layers"] if layer["kind"] == "matmul"] == PRODUCTS


def test_fine_tuning_learns_the_grids_of_both_operands(
    vit: nn.Module, task: ClassificationTask, tmp_path: Path
) -> None:
    out = tmp_path / "tuned"
    result = haq.finetune(vit, task, policy=(4, 4), epochs=1, batch_size=16, out=out)
    network = result.network
    assert isinstance(network, TrainableNetwork)
    names = dict(network.quantizers())
    moved = [names[f"{name}.{part}"] for name in PRODUCTS for part in ("input", "second_input")]
    assert any(not torch.equal(each.scale.detach(), each.start_scale) for each in moved)
    loaded = haq.load(out, model=vit, task=task).model
    images = torch.rand(3, 1, 6, 6)
    with torch.no_grad():
        assert torch.equal(loaded(images), network(images))


def test_reconstruction_learns_the_scales_of_both_operands(
    vit: nn.Module, task: ClassificationTask, tmp_path: Path
) -> None:
    out = tmp_path / "learned"
    haq.reconstruct(vit, task, policy=(4, 4), steps=2, batch_size=16, out=out)
    stored = load_file(out / "quantizers.safetensors")
    assert all(f"{name}.second_input.scale" in stored for name in PRODUCTS)
    assert not any(key.startswith(name) and key.endswith("output.bias") for key in stored for name in PRODUCTS)


def test_packed_files_hold_both_quantizers(
    searched: tuple[Any, Path], vit: nn.Module, task: ClassificationTask, tmp_path: Path
) -> None:
    file = tmp_path / "vit.safetensors"
    haq.export(searched[1], format="packed", out=file, model=vit, task=task)
    images = torch.rand(4, 1, 6, 6)
    expected = haq.load(searched[1], model=vit, task=task).model
    with torch.no_grad():
        torch.testing.assert_close(haq.load_packed(file, vit)(images), expected(images))


def test_integer_graphs_agree_with_torch_and_are_exported_once(
    searched: tuple[Any, Path], vit: nn.Module, task: ClassificationTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("the graph of the search is in the cache")

    monkeypatch.setattr(marking, "export_marked", never)
    network = prepare_network(SearchConfig(model="vit", data="random"), model=vit, task=task)
    assert network.engine.name == "onnxruntime", network.engine_reason
    assert searched[0].summary.accuracy >= 0


@pytest.fixture(scope="module")
def deployable(searched: tuple[Any, Path], vit: nn.Module, task: ClassificationTask) -> Deployable:
    return make_deployable(haq.load(searched[1], model=vit, task=task))


@pytest.mark.parametrize("runtime", ["onnxruntime", "qonnx", "encodings"])
def test_exported_products_have_the_codes_and_the_score_of_the_search(
    runtime: str, searched: tuple[Any, Path], deployable: Deployable
) -> None:
    (record,) = verify_network(deployable, [runtime]).runtimes
    if make_runtime(runtime).missing():
        pytest.skip(str(record.missing))
    assert record.score == searched[0].summary.accuracy
    codes = {layer.layer: layer for layer in record.layers}
    assert all(codes[name].compared for name in PRODUCTS)
    # Rounding of float sums may move a code at the border of two.
    assert sum(layer.differing for layer in record.layers) <= 0.01 * sum(layer.compared for layer in record.layers)


def test_products_are_integer_kernels_of_onnxruntime(deployable: Deployable) -> None:
    layers = {layer.name: layer for layer in OnnxExporter().build(deployable, ExportOptions()).layers}
    assert all(layers[name].is_integer for name in PRODUCTS)
    assert {(layers[name].storage, layers[name].weight_bytes) for name in PRODUCTS} == {("no weights", 0)}


def test_an_exported_file_names_both_operands(deployable: Deployable) -> None:
    model = onnx.load_model_from_string(OnnxExporter().build(deployable, ExportOptions()).main)
    (product,) = [node for node in model.graph.node if node.name == "block.self_attn.qk/MatMul"]
    assert list(product.input) == ["block.self_attn.qk.input", "block.self_attn.qk.second_input"]
    assert list(product.output) == ["block.self_attn.qk.output"]


@pytest.mark.parametrize(
    ("bits", "reason"),
    [((None, 8), "its second operand is in float"), ((8, None), "its input is in float")],
)
def test_products_of_floats_are_exported_with_the_reason(
    bits: tuple[int | None, int | None], reason: str, deployable: Deployable
) -> None:
    place = [layer.name for layer in deployable.policy.layers].index("pool.matmul")
    layers = list(deployable.policy.layers)
    layers[place] = layers[place].model_copy(update=dict(zip(("w_bits", "a_bits"), bits, strict=True)))
    policy = deployable.policy.model_copy(update={"layers": tuple(layers)})
    quantized = replace(deployable.artifact.quantized, policy=policy)
    network = replace(deployable, artifact=replace(deployable.artifact, quantized=quantized))
    exported = OnnxExporter().build(network, ExportOptions())
    assert exported.layers[place].reason == reason
    (record,) = verify_network(network, ["onnxruntime"], images=4).runtimes
    assert record.layers[place].compared


@pytest.mark.parametrize(("format_name", "suffix"), [("c", "c"), ("tflite", "tflite")])
def test_integer_formats_refuse_products_by_name(
    format_name: str, suffix: str, searched: tuple[Any, Path], vit: nn.Module, task: ClassificationTask, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"layer block\.self_attn\.qk multiplies two activations, .* --format onnx"):
        haq.export(searched[1], format=format_name, out=tmp_path / f"vit.{suffix}", model=vit, task=task)
