"""Round weights so that a layer's outputs, rather than its weights, come out close: GPTQ.

Frantar et al. 2022 (arXiv 2210.17323), which is optimal brain quantization (Frantar and Alistarh 2022, 2208.11580) with
one order of columns for all rows. Columns are rounded one after the other; what rounding adds to a column is made
up for by those that are still to come, as far as their inputs go together. How far says the inverse of the Hessian
H = E[x x^T] of the squared error of an output. One H serves all bit widths.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from haq.quantization.range import IntegerRange

DAMPING = 0.01
"""Of the mean of the Hessian's diagonal, added to the diagonal, as in the paper's code."""
_COLUMNS_AT_ONCE = 32


@dataclass(frozen=True, slots=True, eq=False)
class Feedback:
    """How the error of one column is made up for by the columns after it."""

    order: Tensor
    """[groups, columns]: the columns with the largest inputs come first, while most others can still make up."""
    factor: Tensor
    """[groups, columns, columns], float32, in that order: per unit of error in column i, column j > i changes by
    -factor[i, j]; 1 on the diagonal, 0 below."""
    importance: Tensor
    """[groups, columns], float32, in that order: the squared error of outputs that a unit of error in a column leaves,
    once all columns after it have made up for what they can."""

    @staticmethod
    def of(hessian: Tensor, *, damping: float = DAMPING) -> "Feedback":
        """From Hessians [groups, columns, columns], the mean of x x^T over the inputs of each group.

        With U the upper Cholesky factor of the inverse, column i passes U[i, j] / U[i, i] on (section 3.3, step 3).
        Inputs that are always zero neither give nor take. Raises ValueError for Hessians that are not finite.
        """
        if not hessian.isfinite().all():
            raise ValueError("Hessians must be finite")
        diagonal = hessian.diagonal(dim1=1, dim2=2).double()
        order = diagonal.argsort(dim=1, descending=True, stable=True)
        sorted_ = hessian.gather(1, order[:, :, None].expand_as(hessian)).double()
        sorted_ = sorted_.gather(2, order[:, None, :].expand_as(hessian))
        level = damping * diagonal.mean(dim=1, keepdim=True)
        sorted_.diagonal(dim1=1, dim2=2).add_(torch.where(level > 0, level, 1.0))
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(sorted_))
        upper = torch.linalg.cholesky(inverse).mT
        alone = upper.diagonal(dim1=1, dim2=2)
        return Feedback(order, (upper / alone[:, :, None]).float(), (alone**-2).float())


def gptq_codes(steps: Tensor, feedback: Feedback, grid: IntegerRange) -> tuple[Tensor, Tensor]:
    """Integer codes (int32) of weights given in units of their scales, both [groups, rows, columns].

    Also the squared error of each row's output [groups, rows] in units of squared scales, damping included.

    >>> together = torch.tensor([[[1.0, 1.0], [1.0, 1.0]]])  # two inputs that are always equal
    >>> steps, grid = torch.tensor([[[1.4, 2.4]]]), IntegerRange(4, signed=True)
    >>> gptq_codes(steps, Feedback.of(together), grid)[0].tolist()  # 1 and 2 would be 0.8 short
    [[[1, 3]]]
    """
    order = feedback.order[:, :, None].expand_as(steps.mT)
    wanted = steps.float().mT.gather(1, order)
    codes, squared = torch.empty_like(wanted), torch.zeros_like(wanted[:, 0])
    for start in range(0, wanted.shape[1], _COLUMNS_AT_ONCE):
        block = slice(start, start + _COLUMNS_AT_ONCE)
        factor = feedback.factor[:, block]
        codes[:, block], errors = _round_block(wanted[:, block], factor[:, :, block], grid)
        wanted[:, block.stop :] -= factor[:, :, block.stop :].mT @ errors
        squared += (feedback.importance[:, None, block] @ errors**2).squeeze(1)
    return torch.empty_like(codes).scatter_(1, order, codes).mT.to(torch.int32), squared


def _round_block(wanted: Tensor, factor: Tensor, grid: IntegerRange) -> tuple[Tensor, Tensor]:
    """Codes of a few columns that make up for each other's errors, and these errors; [groups, columns, rows]."""
    wanted, codes, errors = wanted.clone(), torch.empty_like(wanted), torch.empty_like(wanted)
    for column in range(wanted.shape[1]):
        here = wanted[:, column]
        codes[:, column] = here.round().clamp_(grid.q_min, grid.q_max)
        errors[:, column] = here - codes[:, column]
        wanted[:, column + 1 :].addcmul_(factor[:, column, column + 1 :, None], errors[:, column, None], value=-1)
    return codes, errors
