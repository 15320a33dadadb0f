"""Networks with several inputs and outputs: exported and verified, or refused in one line."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from haq.config import search_config
from haq.errors import UserError
from haq.experiment.artifact import Artifact, load_artifact
from haq.experiment.inputs import Inputs
from haq.exporters.export import export_artifact
from haq.exporters.registry import make_exporter, make_runtime
from haq.layer_bits import LayerBits
from haq.network.layers import trace_layers
from haq.policy import Policy
from haq.tasks.detection.task import DetectionTask, heads_of


@pytest.fixture
def artifact(motion: nn.Module, regression: Any) -> Artifact:
    """A network of a dict of two tensors to a tuple of a prediction and a dict, at 8 bits."""
    layers = trace_layers(motion, regression.example())
    bits = tuple(LayerBits(name=layer.name, kind=layer.kind, w_bits=8, a_bits=8) for layer in layers)
    policy = Policy(model="motion", hardware=None, objective=None, layers=bits)
    return load_artifact(policy, search_config(engine="torch"), inputs=Inputs(motion, regression))


@pytest.mark.parametrize("name", ["onnx", "packed", "qonnx", "aimet"])
def test_formats_with_floats_between_layers_take_several_tensors(name: str, artifact: Artifact, tmp_path: Path) -> None:
    exporter = make_exporter(name)
    if all(make_runtime(runtime).missing() for runtime in exporter.runtimes):
        pytest.skip(f"no runtime of {name} is here")
    record = export_artifact(artifact, name, out=tmp_path / f"net{exporter.suffix}")
    assert record.outputs is not None
    assert record.outputs.noise < 0.01
    assert record.outputs.same_predictions is None
    assert record.outputs.items == "drives"


@pytest.mark.parametrize("name", ["c", "tflite"])
def test_formats_in_integers_alone_refuse_several_tensors(name: str, artifact: Artifact, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="one input and one output, not 2 and 2; ") as caught:
        export_artifact(artifact, name, out=tmp_path / f"net.{name}")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


class TupleHeads:
    """Heads of a network that returns a tuple of one tensor; other outputs raise."""

    def __init__(self, heads: Any) -> None:
        self.heads, self.num_classes = heads, heads.num_classes

    def detect(self, outputs: Any) -> Any:
        (output,) = outputs
        return self.heads.detect(output)

    def loss(self, outputs: Any, targets: Any) -> Any:
        (output,) = outputs
        return self.heads.loss(output, targets)

    def parts(self, outputs: Any) -> Any:
        (output,) = outputs
        return self.heads.parts(output)


class TupleNet(nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network, self.detection = network, TupleHeads(network.detection)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.network(x),)


@pytest.mark.parametrize("name", ["c", "tflite"])
def test_formats_in_integers_alone_take_a_tuple_of_one_tensor(
    name: str, cell_net: nn.Module, cells: DetectionTask, tmp_path: Path
) -> None:
    exporter = make_exporter(name)
    if all(make_runtime(runtime).missing() for runtime in exporter.runtimes):
        pytest.skip(f"no runtime of {name} is here")
    model = TupleNet(cell_net).eval()
    task = replace(cells, heads=heads_of(model))
    layers = trace_layers(model, task.example())
    bits = tuple(LayerBits(name=layer.name, kind=layer.kind, w_bits=8, a_bits=8) for layer in layers)
    policy = Policy(model="tuple", hardware=None, objective=None, layers=bits)
    artifact = load_artifact(policy, search_config(engine="torch"), inputs=Inputs(model, task))
    record = export_artifact(artifact, name, out=tmp_path / f"net{exporter.suffix}")
    assert record.outputs is not None
    assert record.outputs.noise < 0.01
