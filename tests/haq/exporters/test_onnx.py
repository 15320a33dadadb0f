"""ONNX files compute what the search evaluated, name what they hold, and say which layers run in integers."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import Tensor, nn

import haq
from haq.config import search_config
from haq.errors import UserError
from haq.execution.structures import Structure, item_count, take, tensors
from haq.experiment.artifact import load_artifact
from haq.experiment.inputs import Inputs
from haq.experiment.loading import load_traced
from haq.exporters.deployable import Deployable, make_deployable
from haq.exporters.formats import Export, ExportedLayer, ExportOptions
from haq.exporters.onnx import OnnxExporter, OnnxRuntime
from haq.exporters.onnx.kernel_codes import Count
from haq.exporters.onnx.narrow import narrowed
from haq.exporters.onnx.reference import kernel_output
from haq.exporters.protocols import LayerCodes
from haq.layer_bits import LayerBits
from haq.network.layer_calls import weight_of
from haq.policy import Policy
from haq.tasks.base import Batch, SplitName
from haq.tasks.classification import ClassificationTask
from haq.tasks.distances import Distance, squared_distance
from haq.tasks.items import StoredSplit
from haq.tasks.metrics import Metric
from hardware_sim.cost import Bits
from tests.haq.conftest import Blobs


class Data:
    """The same few inputs in every split, without targets."""

    name = "inputs"
    metric = Metric(name="rmse", low=0.0, higher_is_better=False)

    def __init__(self, inputs: Structure) -> None:
        self.inputs = inputs

    def size(self, _: str) -> int:
        return item_count(self.inputs)

    def batches(self, _: str, *, batch_size: int) -> Iterator[Batch]:
        for start in range(0, self.size(""), batch_size):
            yield take(self.inputs, slice(start, start + batch_size)), torch.zeros(1)

    def example(self) -> Structure:
        return take(self.inputs, slice(1))

    def prepare(self) -> None: ...

    def validate(self, model: nn.Module) -> None: ...

    def distance(self, outputs: Structure, reference: Structure) -> Distance:
        return squared_distance(outputs, reference)


class Fork(nn.Module):
    """A layer that two others read, an addition and a padding."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.first, self.second, self.head = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3), nn.Linear(8, 4)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(self.stem(image))
        x = torch.relu(self.first(self.left(x) + self.right(x)))
        scores: Tensor = self.head(self.second(nn.functional.pad(x, (1, 1, 1, 1))).mean(dim=(2, 3)))
        return scores


class Upscaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up, self.head = nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 4, 2, 2), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(torch.relu(self.up(torch.relu(self.stem(x)))))
        return scores


class Tokens(nn.Module):
    """An embedding, and a layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.mix, self.head = nn.Embedding(10, 8), nn.Linear(8, 8), nn.Linear(8, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        scores: Tensor = self.head(torch.relu(self.mix(torch.relu(self.mix(self.embedding(tokens))))))
        return scores


def images(side: int = 6) -> Tensor:
    return torch.rand(8, 3, side, side, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Case:
    """A network, its inputs and the bits of its layers."""

    make: Callable[[], nn.Module]
    inputs: Callable[[], Structure]
    w_bits: Callable[[int], Bits] = lambda _: 3
    a_bits: Callable[[int], Bits] = lambda _: 5


@dataclass(frozen=True)
class Exported:
    """A network with its file."""

    network: Deployable

    @property
    def inputs(self) -> Structure:
        return self.network.check_inputs()

    @cached_property
    def export(self) -> Export:
        return OnnxExporter().build(self.network, ExportOptions())

    @cached_property
    def model(self) -> onnx.ModelProto:
        return onnx.load_model_from_string(self.export.main)

    @cached_property
    def layers(self) -> dict[str, ExportedLayer]:
        return {layer.name: layer for layer in self.export.layers}

    @cached_property
    def codes(self) -> dict[str, LayerCodes]:
        found = OnnxRuntime().layer_codes(self.export, self.network, self.inputs)
        return {layer.layer: layer for layer in found}

    def outputs(self, export: Export | None = None) -> list[Tensor]:
        return list(tensors(OnnxRuntime().runner(export or self.export, self.network)(self.inputs)))


def deployable(case: Case) -> Deployable:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = case.make().eval()
    data: Any = Data(case.inputs())
    config = search_config(model="network", data="inputs")
    found = load_traced(config, model=model, example=data.example()).layers
    layers = tuple(
        LayerBits(name=layer.name, kind=layer.kind, w_bits=case.w_bits(n), a_bits=case.a_bits(n))
        for n, layer in enumerate(found)
    )
    policy = Policy(model="network", hardware=None, objective=None, layers=layers)
    return make_deployable(load_artifact(policy, config, inputs=Inputs(model=model, task=data)))


CASES: Mapping[str, Case] = {
    "fork": Case(Fork, images),
    "upscaled": Case(Upscaled, images, w_bits=lambda _: 8, a_bits=lambda _: 8),
    "tokens": Case(Tokens, lambda: torch.randint(10, (8, 5), generator=torch.Generator().manual_seed(0))),
    "floats": Case(
        lambda: nn.Sequential(nn.Linear(6, 16, bias=False), nn.GELU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)),
        lambda: torch.randn(8, 5, 6, generator=torch.Generator().manual_seed(0)),
        w_bits=lambda layer: None if layer == 1 else 4,
        a_bits=lambda layer: None if layer == 0 else 8,
    ),
}


@cache
def exported_case(name: str) -> Exported:
    return Exported(deployable(CASES[name]))


@pytest.fixture(params=CASES)
def exported(request: pytest.FixtureRequest) -> Exported:
    return exported_case(request.param)


@pytest.fixture
def fork() -> Exported:
    return exported_case("fork")


def test_outputs_are_those_of_the_evaluated_network(exported: Exported) -> None:
    expected = list(tensors(exported.network.evaluated(exported.inputs)))
    for found, wanted in zip(exported.outputs(), expected, strict=True):
        assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_compact_files_compute_the_same_in_the_same_kernels(exported: Exported) -> None:
    export = OnnxExporter().build(exported.network, ExportOptions(compact=True))
    for found, wanted in zip(exported.outputs(export), exported.outputs(), strict=True):
        assert torch.equal(found, wanted)
    assert [layer.is_integer for layer in export.layers] == [layer.is_integer for layer in exported.export.layers]
    assert len(export.main) <= len(exported.export.main)


def test_integer_kernels_are_exact_and_others_differ_by_ties(exported: Exported, has_exact_kernels: bool) -> None:
    for layer in exported.codes.values():
        assert layer.compared > 0
        assert layer.differing <= (0 if layer.is_integer and has_exact_kernels else 0.01 * layer.compared)


def test_every_layer_in_float_has_a_reason(exported: Exported) -> None:
    assert all(layer.is_integer != bool(layer.reason) for layer in exported.export.layers)


def test_weights_are_stored_as_codes_except_those_in_float(exported: Exported) -> None:
    for layer in exported.export.layers:
        assert layer.storage == ("float32" if layer.w_bits is None else "int8")


def test_a_layer_that_several_read_with_equal_quantizers_is_an_integer_kernel(fork: Exported) -> None:
    assert fork.layers["stem"].is_integer
    assert fork.layers["left"].reason == "its output is added in float"
    assert fork.layers["first"].is_integer  # the zeros around its output are those of the layer that reads it
    assert fork.layers["second"].reason == "its output is averaged in float"
    assert fork.layers["head"].is_integer


def test_inputs_and_outputs_have_the_names_of_the_network_and_any_batch(fork: Exported) -> None:
    (given,), (found,) = fork.model.graph.input, fork.model.graph.output
    assert (given.name, found.name) == ("image", "output")
    assert given.type.tensor_type.shape.dim[0].dim_param == found.type.tensor_type.shape.dim[0].dim_param == "batch"
    run = OnnxRuntime().runner(fork.export, fork.network)
    assert torch.equal(run(fork.inputs[:3]), run(fork.inputs)[:3])


def test_the_file_holds_the_policy_and_nothing_of_this_machine(fork: Exported) -> None:
    metadata = {each.key: each.value for each in fork.model.metadata_props}
    assert Policy.model_validate_json(metadata["haq.policy"], by_alias=True) == fork.network.policy
    assert metadata["haq.model"] == json.loads(metadata["haq.policy"])["model"]
    assert fork.model.producer_name == "haq"
    assert not any(node.metadata_props or node.doc_string for node in fork.model.graph.node)
    assert b".py" not in fork.export.main


def test_weights_that_layers_share_are_stored_once() -> None:
    found = exported_case("tokens")
    assert (found.layers["mix"].weight_bytes, found.layers["mix:2"].weight_bytes) == (64, 0)
    assert found.layers["embedding"].reason == "values are looked up, not multiplied"


def test_several_inputs_and_outputs_have_names(motion: nn.Module, regression: Any) -> None:
    found = Exported(
        deployable(Case(lambda: motion, lambda: next(iter(regression.batches("search", batch_size=8)))[0]))
    )
    assert [value.name for value in found.model.graph.input] == ["position", "speed"]
    assert [value.name for value in found.model.graph.output] == ["output.0", "output.1.hidden"]


def learning_task() -> ClassificationTask:
    names: tuple[SplitName, ...] = ("train", "calibration", "search", "report")
    splits = {name: StoredSplit(Blobs(40, seed)) for seed, name in enumerate(names)}
    return ClassificationTask(name="blobs", splits=splits, num_classes=4, facts={})


def test_a_trained_network_is_exported_with_the_weights_and_grids_that_it_learned(tiny_net: nn.Module) -> None:
    artifact = haq.finetune(tiny_net, learning_task(), policy=(4, 4), epochs=2, batch_size=20, lr=0.01).artifact
    assert artifact is not None
    network = make_deployable(artifact)
    trained = artifact.quantized.trained_network(network.network.priced.model, network.trace)
    for layer, site in enumerate(network.trace.sites):
        learned = trained.weights[str(layer)](weight_of(trained.model, site))
        assert torch.equal(learned, network.quantizers.weight(layer, network.bits[0][layer] or 0))
        x = torch.linspace(-4, 4, 999)
        assert torch.equal(
            trained.inputs[str(layer)](x), network.quantizers.input(x, layer, network.bits[1][layer] or 0)
        )
    found = Exported(network)
    (outputs,), (expected,) = found.outputs(), tensors(network.evaluated(found.inputs))
    assert (outputs - expected).norm() < 0.05 * expected.norm()
    assert sum(layer.differing for layer in found.codes.values()) <= 1


def test_recurrent_networks_are_refused_in_one_line() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(4, 8, batch_first=True), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            scores: Tensor = self.head(self.lstm(x)[0])
            return scores

    network = deployable(Case(Recurrent, lambda: torch.rand(8, 3, 4), w_bits=lambda _: 8, a_bits=lambda _: 8))
    with pytest.raises(UserError, match=r"^--format onnx: .* use --format packed") as caught:
        OnnxExporter().build(network, ExportOptions())
    assert "\n" not in str(caught.value)


def test_the_reference_rounds_halves_to_even_after_adding_the_bias() -> None:
    node = helper.make_node("QLinearConv", list("abcdefghi"), ["y"], domain="com.microsoft", channels_last=1)
    x, w = np.array([[[[3, 130]]]], np.uint8), np.array([[[[2]], [[-1]]]], np.int8)
    one = np.float32(1)
    inputs: list[Any] = [x, one, np.uint8(128), w, np.array([one]), np.zeros(1, np.int8), np.float32(2), np.uint8(7)]
    # (3 - 128) * 2 - (130 - 128) = -252; with the bias 255 the accumulator is 3, and 3 / 2 is rounded to 2
    assert kernel_output(node, [*inputs, np.array([255], np.int32)]).tolist() == [[[[9]]]]


def test_a_count_has_the_codes_that_differ() -> None:
    assert Count.of(np.array([1, 2, 3]), np.array([1, 0, 3])) + Count(2, 1) == Count(5, 2)


@pytest.mark.parametrize(("bits", "width"), [(2, 2), (3, 4), (4, 4), (5, 8)])
def test_codes_are_stored_in_the_narrowest_width_that_fits(bits: int, width: int) -> None:
    largest = 2 ** (bits - 1) - 1
    codes = np.resize(np.arange(-largest, largest + 1), 4096).astype(np.int8) << (8 - bits)
    found = narrowed(codes, (2, 4, 8))
    assert found.width == width
    assert (found.values * found.factor == codes).all()
