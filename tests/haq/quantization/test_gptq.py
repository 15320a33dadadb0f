"""GPTQ against its definition, solved directly for every column, and against rounding to the nearest."""

import pytest
import torch
from torch import Tensor

from haq.quantization import gptq
from haq.quantization.gptq import DAMPING, Feedback
from haq.quantization.range import IntegerRange

GRID = IntegerRange(4, signed=True, narrow=True)


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def hessian(groups: int, columns: int, *, samples: int = 400) -> Tensor:
    """Return the Hessian of correlated inputs: all contain a few common components."""
    common = some(groups, samples, 4, seed=1) @ some(groups, 4, columns, seed=2)
    x = common + 0.3 * some(groups, samples, columns, seed=3)
    return x.mT @ x / samples


def gptq_codes(steps: Tensor, feedback: Feedback, grid: IntegerRange) -> Tensor:
    return gptq.gptq_codes(steps, feedback, grid)[0]


def nearest(steps: Tensor, grid: IntegerRange = GRID) -> Tensor:
    return steps.round().clamp(grid.q_min, grid.q_max).int()


def output_error(steps: Tensor, codes: Tensor, h: Tensor) -> float:
    error = (steps - codes).double()
    return float((error @ h.double() * error).sum())


def one_column_after_the_other(row: Tensor, h: Tensor, grid: IntegerRange) -> Tensor:
    """Round columns one by one, solving for the later columns of least output error after each."""
    damped = h.double() + DAMPING * h.diagonal().double().mean() * torch.eye(len(h))
    order = damped.diagonal().argsort(descending=True, stable=True)
    damped, wanted = damped[order][:, order], row.double()[order]
    codes = torch.zeros_like(wanted)
    for place in range(len(wanted)):
        codes[place] = wanted[place].round().clamp(grid.q_min, grid.q_max)
        rest = slice(place + 1, None)
        if place + 1 < len(wanted):
            step = damped[rest, place] * (wanted[place] - codes[place])
            wanted[rest] += torch.linalg.solve(damped[rest, rest], step)
    found = torch.empty_like(codes)
    found[order] = codes
    return found.int()


@pytest.mark.parametrize("columns", [1, 9, 30, 300])
def test_codes_equal_column_by_column_reference(columns: int) -> None:
    """300 columns are more than two blocks. Float32 rounding may change the code of a weight close to a tie."""
    h, steps = hessian(1, columns), 3 * some(1, 4, columns)
    found = gptq_codes(steps, Feedback.of(h), GRID)
    expected = torch.stack([one_column_after_the_other(row, h[0], GRID) for row in steps[0]])[None]
    assert (found == expected).double().mean() > 0.995


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_output_error_is_less_than_with_round_to_nearest(bits: int) -> None:
    grid, h = IntegerRange(bits, signed=True, narrow=True), hessian(2, 60)
    steps = some(2, 20, 60) * grid.steps / 2.5
    codes = gptq_codes(steps, Feedback.of(h), grid)
    assert codes.min() >= grid.q_min
    assert codes.max() <= grid.q_max
    assert output_error(steps, codes, h) < 0.7 * output_error(steps, nearest(steps, grid), h)


def test_uncorrelated_inputs_give_round_to_nearest() -> None:
    steps = 3 * some(1, 5, 40)
    codes = gptq_codes(steps, Feedback.of(torch.diag(torch.rand(40) + 0.1)[None]), GRID)
    assert torch.equal(codes, nearest(steps))


def test_groups_use_separate_hessians() -> None:
    h, steps = hessian(3, 9), 3 * some(3, 2, 9)
    together = gptq_codes(steps, Feedback.of(h), GRID)
    alone = [gptq_codes(steps[[g]], Feedback.of(h[[g]]), GRID) for g in range(3)]
    assert torch.equal(together, torch.cat(alone))


def test_zero_inputs_have_no_influence() -> None:
    h, steps = hessian(2, 10), 3 * some(2, 3, 10)
    h[0, 4], h[0, :, 4], h[1] = 0, 0, 0
    codes = gptq_codes(steps, Feedback.of(h), GRID)
    assert torch.equal(codes[0, :, 4], nearest(steps)[0, :, 4])
    assert torch.equal(codes[1], nearest(steps)[1])


def test_codes_do_not_depend_on_unit_of_inputs() -> None:
    h, steps = hessian(1, 20), 3 * some(1, 4, 20)
    codes = [gptq_codes(steps, Feedback.of(h * factor), GRID) for factor in (1.0, 2.0**-40, 2.0**40)]
    assert torch.equal(codes[0], codes[1])
    assert torch.equal(codes[0], codes[2])


def test_fewer_samples_than_columns() -> None:
    steps = 3 * some(1, 4, 50)
    h = hessian(1, 50, samples=5)
    codes = gptq_codes(steps, Feedback.of(h), GRID)
    assert output_error(steps, codes, h) < output_error(steps, nearest(steps), h)


def test_non_finite_hessian_raises() -> None:
    with pytest.raises(ValueError, match="finite"):
        Feedback.of(torch.full((1, 2, 2), torch.nan))


@pytest.mark.parametrize("columns", [7, 200])
def test_returned_error_equals_output_error(columns: int) -> None:
    h, steps = hessian(2, columns), 3 * some(2, 5, columns)
    codes, error = gptq.gptq_codes(steps, Feedback.of(h), GRID)
    level = DAMPING * h.diagonal(dim1=1, dim2=2).mean(dim=1).double()
    damped = h.double() + level[:, None, None] * torch.eye(columns)
    difference = (steps - codes).double()
    expected = (difference @ damped * difference).sum(dim=2)
    torch.testing.assert_close(error.double(), expected, rtol=1e-3, atol=0)
