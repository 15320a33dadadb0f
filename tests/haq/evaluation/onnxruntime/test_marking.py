"""Marks of layers and batch norms in the exported graph, and errors of networks that cannot be exported."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from haq.evaluation.engines.onnxruntime.errors import NotExportableError
from haq.evaluation.engines.onnxruntime.marking import INPUT, NORM, WEIGHT, export_marked, is_mark, layer_of, norm_of
from haq.network.layers import trace


class Answering(nn.Module):
    """Linear layer followed by a given function."""

    def __init__(self, answer: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.linear, self.answer = nn.Linear(4, 4), answer

    def forward(self, x: Tensor) -> object:
        return self.answer(self.linear(x))


def test_marks_name_layers_and_batch_norms_in_order() -> None:
    shared = nn.Conv2d(3, 3, 1)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, affine=False), shared, shared).eval()
    example = torch.zeros(1, 1, 5, 5)
    nodes = export_marked(model, trace(model, example), example).graph.node
    assert [layer_of(node) for node in nodes if is_mark(node, INPUT)] == [0, 1, 2]
    assert [layer_of(node) for node in nodes if is_mark(node, WEIGHT)] == [0, 1, 2]
    assert [norm_of(node) for node in nodes if is_mark(node, NORM)] == [("1.running_mean", 1)]


def test_integer_inputs_of_embeddings_have_no_mark() -> None:
    model, example = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2)).eval(), torch.zeros(1, 3, dtype=torch.int64)
    nodes = export_marked(model, trace(model, example), example).graph.node
    assert [layer_of(node) for node in nodes if is_mark(node, INPUT)] == [1]
    assert [layer_of(node) for node in nodes if is_mark(node, WEIGHT)] == [0, 1]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda _: "text", "str without tensors"),
        (lambda y: y if y.sum() > 0 else -y, "data-dependent"),
        (torch.special.bessel_j0, "bessel_j0"),
    ],
)
def test_export_failure_raises_one_line_reason(answer: Callable[[Tensor], object], reason: str) -> None:
    model, example = Answering(answer).eval(), torch.zeros(1, 4)
    with pytest.raises(NotExportableError, match=reason) as caught:
        export_marked(model, trace(model, example), example)
    assert "\n" not in str(caught.value)


def test_export_with_other_layers_than_the_trace_raises() -> None:
    class TwiceInPairs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return x + 1 if torch.compiler.is_compiling() else self.linear(x)

    model, example = TwiceInPairs().eval(), torch.zeros(1, 4)
    with pytest.raises(NotExportableError, match="linear is in the exported network 0 times"):
        export_marked(model, trace(model, example), example)


@pytest.mark.parametrize("name", ['fc"1', "class"])
def test_names_that_torch_writes_as_wrong_code_are_named(name: str) -> None:
    model, example = nn.Sequential(), torch.zeros(1, 4)
    model.add_module(name, nn.Linear(4, 4))
    with pytest.raises(NotExportableError) as caught:
        export_marked(model.eval(), trace(model, example), example)
    assert f"torch's exporter takes no module of the name {name!r}; rename it" in str(caught.value)
