"""Shapes of the tensors in which quantizers are stored."""

import pytest
import torch
from torch import Tensor

from haq.quantization.stored_tensors import misfit_text, require_shapes


def test_tensors_of_the_expected_shapes_and_types_pass() -> None:
    require_shapes(
        {
            "a.input.scale": torch.tensor(0.5),
            "a.input.zero_point": torch.tensor(3),
            "a.input.range": torch.tensor([-8, 7]),
            "a.weight.range": torch.tensor([-7, 7]),
            "a.code_range": torch.tensor([0, 15]),
            "a.weight.scale": torch.ones(4),
            "a.weight.codes": torch.zeros(4, 2, dtype=torch.int8),
        }
    )


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("a.input.scale", torch.ones(2), "a.input.scale is float32 of shape [2], not one float"),
        ("a.input.scale", torch.tensor(1), "a.input.scale is int64 of shape [], not one float"),
        ("a.input.zero_point", torch.tensor(1.0), "a.input.zero_point is float32 of shape [], not one integer"),
        ("b.weight.range", torch.tensor([1, 2, 3]), "b.weight.range is int64 of shape [3], not two integers"),
        ("b.code_range", torch.zeros(2), "b.code_range is float32 of shape [2], not two integers"),
    ],
)
def test_other_shapes_and_types_are_named(name: str, tensor: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match="not ") as caught:
        require_shapes({"a.weight.scale": torch.ones(1), name: tensor})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (KeyError("conv.weight"), "conv.weight is missing"),
        (ValueError("two\n  lines"), "two lines"),
        (ValueError(), "ValueError"),
        (ValueError("x" * 400), "x" * 300),
    ],
)
def test_errors_become_one_short_line(error: Exception, text: str) -> None:
    assert misfit_text(error) == text
