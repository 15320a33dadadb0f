"""Calls of layers that are not in the trace."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from haq.network.layers import trace
from haq.quantization.calibration_pass import calibrate


class Repeats(nn.Module):
    """Network that calls its layer as often as the sum of the inputs, and part of its weights for large sums."""

    def __init__(self) -> None:
        super().__init__()
        self.step, self.lstm = nn.Linear(4, 4), nn.LSTM(4, 4, batch_first=True)
        self.bank = nn.Parameter(torch.ones(2, 4, 4))
        self.volume = nn.Conv3d(1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(int(x.sum())):
            x = self.step(x)
        x = x + self.volume(x[:, None, None, None])[:, 0, 0, 0]
        x = self.lstm(x[:, None].expand(-1, len(x), -1))[0][:, -1]
        return F.linear(x, self.bank[0 if len(x) == 1 else 1])


def ones(count: int) -> Tensor:
    """Return inputs that sum to their count."""
    return F.one_hot(torch.zeros(count, dtype=torch.long), 4).float()


def warning(batches: list[Tensor], make: Callable[[], nn.Module] = Repeats) -> str | None:
    model = make()
    return calibrate(model, trace(model, ones(1)), batches).warning


def test_traced_calls_give_no_warning() -> None:
    assert warning([ones(1), ones(1)]) is None


@pytest.mark.parametrize(
    ("sizes", "step", "bank"), [([3], "2 of 3", "1 of 1"), ([3, 1], "2 of 4", "1 of 1"), ([3, 2], "3 of 5", "2 of 2")]
)
def test_untraced_calls_are_counted_in_warning(sizes: list[int], step: str, bank: str) -> None:
    assert warning([ones(size) for size in sizes]) == (
        f"the calibration inputs call layers that the example input does not: step ({step} calls), "
        f"bank[1] ({bank} calls); these calls run in float and are not priced"
    )


class Experts(nn.Module):
    """Network that applies to each item the layer of its largest feature."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.experts[int(item.argmax())](item) for item in x])


def test_warning_names_at_most_three_untraced_layers() -> None:
    model = Experts()
    traced = trace(model, torch.eye(8)[:1])
    assert {each.name for each in traced.refused} == {f"experts.{number}" for number in range(1, 8)}
    assert all("other inputs may use it" in each.reason for each in traced.refused)
    found = calibrate(model, traced, [torch.eye(8)]).warning
    assert found is not None
    assert "experts.1 (1 of 1 calls), experts.2 (1 of 1 calls), experts.3 (1 of 1 calls) and 4 more;" in found
