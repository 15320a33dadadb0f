"""AIMET encodings: names of the graph beside them, the grids of the quantizers, and the network that they give back."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from haq.config import search_config
from haq.errors import UserError
from haq.experiment.artifact import load_artifact
from haq.experiment.inputs import Inputs
from haq.exporters.agreement import compare_outputs
from haq.exporters.aimet.encodings import Encoding, activation_encoding, version_1, version_2
from haq.exporters.aimet.exporter import AimetExporter, encode
from haq.exporters.aimet.runtime import EncodingsRuntime
from haq.exporters.deployable import Deployable, make_deployable
from haq.exporters.formats import Export, ExportOptions
from haq.interchange.read import read_policy
from haq.layer_bits import uniform_bits
from haq.network.layers import trace_layers
from haq.policy import Policy
from haq.quantization.linear import QuantizerParameters
from haq.tasks.classification import ClassificationTask

Prepare = Callable[[nn.Module, int | None, int], Deployable]


@pytest.fixture(scope="module")
def digits(deployable: Deployable) -> Export:
    return AimetExporter().build(deployable, ExportOptions())


@pytest.fixture
def prepared(tiny_task: ClassificationTask) -> Prepare:
    """Makes a network ready to be exported."""

    def make(model: nn.Module, w_bits: int | None, a_bits: int) -> Deployable:
        layers = uniform_bits(trace_layers(model, tiny_task.example()), w_bits=w_bits, a_bits=a_bits)
        policy = Policy(model="net", hardware="bismo-edge", objective="size", layers=layers)
        config = search_config(hardware="bismo-edge", engine="torch")
        return make_deployable(load_artifact(policy, config, inputs=Inputs(model, tiny_task)))

    return make


def test_both_versions_name_tensors_of_the_graph(digits: Export) -> None:
    graph = onnx.load_model_from_string(digits.main).graph
    tensors = {value.name for value in (*graph.input, *graph.initializer)}
    tensors |= {name for node in graph.node for name in node.output}
    first, second = json.loads(digits.files[".encodings"]), json.loads(digits.files[".v2.encodings"])
    assert first["version"] == "1.0.0"
    assert second["version"] == "2.0.0"
    names = [each["name"] for part in ("activation_encodings", "param_encodings") for each in first[part]]
    assert sorted(names) == sorted(each["name"] for each in second["encodings"])
    assert len(set(names)) == len(names)
    assert set(names) <= tensors


def test_the_graph_has_no_quantizers_and_no_batch_norms(digits: Export) -> None:
    model = onnx.load_model_from_string(digits.main)
    onnx.checker.check_model(model, full_check=True)
    assert not {node.op_type for node in model.graph.node} & {"QuantizeLinear", "Quant", "BatchNormalization"}
    assert not {node.domain for node in model.graph.node} - {""}


def test_weights_and_encodings_give_the_codes_of_the_quantizers(deployable: Deployable) -> None:
    encoded = encode(deployable)
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in encoded.model.graph.initializer}
    found = {each.name: each for each in encoded.weights}
    for place, layer in enumerate(deployable.policy.layers):
        assert layer.w_bits is not None
        encoding, weight = found[f"{layer.name}.weight"], values[f"{layer.name}.weight"]
        shape = [-1 if axis == encoding.axis else 1 for axis in range(weight.ndim)]
        steps = weight / np.array(encoding.scale, np.float32).reshape(shape)
        codes = deployable.quantizers.codes(place, layer.w_bits).codes.numpy()
        codes = codes if codes.shape == weight.shape else codes.T
        assert encoding.bits == layer.w_bits
        assert (np.abs(np.rint(steps)) == np.abs(codes)).all()  # a batch norm may change signs of channels
        assert np.allclose(steps, np.rint(steps), atol=1e-4)


def test_encodings_are_read_as_the_policy_again(deployable: Deployable, digits: Export, tmp_path: Path) -> None:
    for suffix, content in digits.files.items():
        (tmp_path / f"net{suffix}").write_bytes(content)
    for suffix in (".encodings", ".v2.encodings"):
        path = tmp_path / f"net{suffix}"
        found = read_policy(path, deployable.trace.layers, model="net", graph=tmp_path / "net.onnx").policy
        assert (found.w_bits, found.a_bits) == deployable.bits


def test_a_signed_grid_is_stored_in_unsigned_codes() -> None:
    quantizer = QuantizerParameters(bits=5, signed=True, scale=0.5, zero_point=7, q_min=-16, q_max=15)
    encoding = activation_encoding("x", quantizer)
    (listed,) = json.loads(version_1((), (encoding,)))["activation_encodings"]
    assert (listed["bw"], listed["offset"], listed["scale"], listed["is_sym"]) == (5, [-23], [0.5], False)
    (typed,) = json.loads(version_2((), (encoding,)))["encodings"]
    assert typed == {"name": "x", "output_dtype": "uint5", "y_scale": 0.5, "y_zero_point": 23}


def test_weights_are_symmetric_and_per_channel() -> None:
    encoding = Encoding(name="w", bits=4, scale=(0.5, 0.25), axis=0)
    (listed,) = json.loads(version_1((encoding,), ()))["param_encodings"]
    assert (listed["enc_type"], listed["is_sym"], listed["offset"]) == ("PER_CHANNEL", True, [-8, -8])
    (typed,) = json.loads(version_2((encoding,), ()))["encodings"]
    assert typed == {"name": "w", "output_dtype": "int4", "axis": 0, "y_scale": [0.5, 0.25]}


class Shared(nn.Module):
    """Tensors that several layers read: with equal quantizers, beside a sum in float, and behind ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6)
        self.left, self.right = nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1)
        self.third, self.head = nn.Conv2d(6, 6, 1), nn.Linear(6, 4)
        nn.init.normal_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = self.left(x) + self.right(x)
        x = x + self.third(x)
        scores: Tensor = self.head(nn.functional.silu(x).mean(dim=(2, 3)))
        return scores


@pytest.mark.parametrize(("w_bits", "a_bits"), [(8, 8), (3, 5), (1, 2), (None, 4)])
def test_encodings_give_the_codes_of_the_quantized_network(w_bits: int | None, a_bits: int, prepared: Prepare) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network = prepared(Shared().eval(), w_bits, a_bits)
    export, runtime, inputs = (
        AimetExporter().build(network, ExportOptions()),
        EncodingsRuntime(),
        network.check_inputs(16),
    )
    layers = list(runtime.layer_codes(export, network, inputs))
    assert all(layer.compared for layer in layers)
    assert {layer.layer: layer.differing for layer in layers if layer.differing} == {}
    with torch.no_grad():
        found = runtime.runner(export, network)(inputs)
        assert compare_outputs(network.network.task, found, network.evaluated(inputs)).noise < 0.02


def test_a_lowest_code_whose_sign_changes_takes_one_bit_more(prepared: Prepare) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network = Shared().eval()
    with torch.no_grad():
        for norm in (each for each in network.modules() if isinstance(each, nn.BatchNorm2d)):
            norm.weight.neg_()
    export = AimetExporter().build(prepared(network, 2, 8), ExportOptions())
    notes = [note for note in export.notes if "one bit more" in note]
    assert len(notes) == 1
    assert notes[0].endswith("changes the sign of their lowest code: stem")


def test_a_tensor_has_an_identity_only_where_something_else_reads_it(prepared: Prepare) -> None:
    network = prepared(Shared().eval(), 4, 4)
    encoded = encode(network)
    model, names = encoded.model, [layer.name for layer in network.policy.layers]
    read = {names[place]: tensor for (place, _), tensor in encoded.read.items()}
    assert read["stem"] == "x"
    assert read["left"] == read["right"]
    assert [node.output[0] for node in model.graph.node if node.op_type == "Identity"] == [read["third"]]


def test_inputs_of_one_bit_are_refused(prepared: Prepare) -> None:
    with pytest.raises(UserError, match="--format aimet: the input of stem has 1 bit; AIMET has encodings of 2 bits"):
        AimetExporter().build(prepared(Shared().eval(), 4, 1), ExportOptions())
