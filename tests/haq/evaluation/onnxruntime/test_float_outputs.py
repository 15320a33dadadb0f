"""Convolutions whose output stays in float are products of integer matrices, with equal results."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from haq.evaluation.engines.onnxruntime import export_marked, make_template, open_session
from haq.evaluation.engines.onnxruntime.float_outputs import MIN_CHANNELS, EvaluatedLowering
from haq.evaluation.engines.onnxruntime.lowering import Lowering
from haq.network.layers import trace
from haq.quantization.corrections import Corrections
from haq.quantization.quantizers import Quantizers

CHANNELS = MIN_CHANNELS


class Residual(nn.Module):
    """A layer and a convolution whose output is added to another tensor."""

    def __init__(self, conv: nn.Module, shortcut: nn.Module, *, pad: tuple[int, ...] = (0, 0, 0, 0)) -> None:
        super().__init__()
        self.first, self.conv, self.shortcut, self.pad = nn.Conv2d(3, CHANNELS, 1), conv, shortcut, pad

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        total: Tensor = self.conv(nn.functional.pad(y, self.pad)) + self.shortcut(y)
        return total


def seeded(layer: nn.Module) -> nn.Module:
    """Return a layer with weights that do not depend on the order of tests."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-0.2, 0.2, generator=generator)
    return layer


def conv(size: int | tuple[int, int] = 3, **others: object) -> nn.Conv2d:
    return nn.Conv2d(CHANNELS, 5, size, **others)  # type: ignore[arg-type]


CASES: dict[str, nn.Module] = {
    "1x1": Residual(conv(1), conv(1)),
    "1x1 with strides": Residual(conv(1, stride=2), conv(1, stride=2)),
    "3x3": Residual(conv(padding=1), conv(1)),
    "3x3 without bias": Residual(conv(padding=1, bias=False), conv(1, bias=False)),
    "strides": Residual(conv(padding=1, stride=2), conv(1, stride=2)),
    "strides that leave a row": Residual(conv(stride=3), conv(2, stride=3)),
    "dilation": Residual(conv(padding=2, dilation=2), conv(1)),
    "two sizes": Residual(conv((1, 3), padding=(0, 1)), conv((3, 1), padding=(1, 0))),
    "zeros on one side": Residual(conv(), conv(1), pad=(0, 2, 1, 1)),
}


@pytest.fixture(scope="module", params=list(CASES))
def lowered(request: pytest.FixtureRequest) -> tuple[onnx.ModelProto, onnx.ModelProto, Tensor]:
    """Graph with products of matrices, graph with convolutions, and inputs."""
    model = seeded(CASES[request.param]).eval()
    inputs = torch.randn(6, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    traced = trace(model, inputs[:1])
    template = make_template(export_marked(model, traced, inputs[:1]), traced)
    quantizers = Quantizers(model, traced, lambda: [inputs])
    bits = (8, 3, 5), (8, 4, 6)
    products = EvaluatedLowering(template, quantizers, bits, corrections=Corrections()).model()
    convolutions = Lowering(template, quantizers, bits, corrections=Corrections(), fold=True).model()
    return products, convolutions, inputs


def test_outputs_equal_those_of_convolutions(lowered: tuple[onnx.ModelProto, onnx.ModelProto, Tensor]) -> None:
    *graphs, inputs = lowered
    found, expected = (
        open_session(graph.SerializeToString(), threads=1).run(None, {"x": inputs.numpy()})[0] for graph in graphs
    )
    assert found.shape == expected.shape
    # Rounding moves few codes between the two layers by a step.
    apart = np.abs(found - expected) / np.abs(expected).max()
    assert (apart > 1e-5).mean() < 0.05
    assert apart.max() < 0.05


def test_products_are_integer_kernels(lowered: tuple[onnx.ModelProto, onnx.ModelProto, Tensor], tmp_path: Path) -> None:
    graph, path = lowered[0], tmp_path / "optimized.onnx"
    open_session(graph.SerializeToString(), threads=1, optimized=str(path))
    operators = [node.op_type for node in onnx.load(str(path)).graph.node]
    assert sum(operator.startswith("MatMulInteger") for operator in operators) == 3
    assert not any("Conv" in operator for operator in operators)


@pytest.mark.parametrize(
    ("layer", "is_product"),
    [
        (conv(padding=1), True),
        (conv((2, 5)), False),
        (nn.Conv2d(CHANNELS, CHANNELS, 3, groups=CHANNELS), False),
        (nn.Conv2d(8, 5, 3), False),
        (nn.Conv2d(8, 5, 1), True),
    ],
)
def test_only_wide_convolutions_of_few_positions_become_products(layer: nn.Conv2d, is_product: bool) -> None:
    model = nn.Sequential(nn.Conv2d(3, layer.in_channels, 1), layer).eval()
    inputs = torch.randn(4, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    traced = trace(model, inputs[:1])
    template = make_template(export_marked(model, traced, inputs[:1]), traced)
    quantizers = Quantizers(model, traced, lambda: [inputs])
    lowering = EvaluatedLowering(template, quantizers, ((4, 4), (4, 4)), corrections=Corrections())
    operators = {node.op_type for node in lowering.model().graph.node}
    assert ("MatMul" in operators) == is_product
