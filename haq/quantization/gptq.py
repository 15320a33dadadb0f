"""GPTQ: rounding of weights that minimizes the squared error of a layer's outputs instead of that of its weights.

Frantar et al. 2022 (arXiv 2210.17323), which is optimal brain quantization (Frantar and Alistarh 2022, 2208.11580) with
one order of columns for all rows. Columns are rounded one after the other; after each, the columns that are not yet
rounded are changed to compensate for its error, as far as their inputs are correlated. The inverse of the Hessian H =
E[x x^T] of the squared error of an output gives the change. One H serves all bit widths.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from haq.quantization.range import IntegerRange

DAMPING = 0.01
"""Part of the mean of the Hessian's diagonal that is added to the diagonal, as in the paper's code."""
_COLUMNS_AT_ONCE = 32


@dataclass(frozen=True, slots=True, eq=False)
class Feedback:
    """Factors with which the columns of a weight compensate for the rounding errors of earlier columns.

    Attributes:
        order: Order in which columns are rounded, [groups, columns]; those with the largest inputs come first, while
            most other columns can still compensate.
        factor: float32 [groups, columns, columns], in that order: per unit of error in column i, column j > i changes
            by -factor[i, j]; 1 on the diagonal, 0 below.
        importance: float32 [groups, columns], in that order: the squared error of outputs per squared unit of error in
            a column that remains after all later columns have compensated.
    """

    order: Tensor
    factor: Tensor
    importance: Tensor

    @staticmethod
    def of(hessian: Tensor, *, damping: float = DAMPING) -> "Feedback":
        """Compute the factors from Hessians.

        With U the upper Cholesky factor of the inverse, the error of column i is propagated with U[i, j] / U[i, i]
        (section 3.3, step 3). Inputs that are always zero have no influence.

        Args:
            hessian: Mean of x x^T over the inputs of each group, [groups, columns, columns].
            damping: Part of the mean of the diagonal that is added to the diagonal.

        Returns:
            The factors.

        Raises:
            ValueError: The Hessian is not finite.
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
    """Round weights with GPTQ.

    Args:
        steps: Weights in units of their scales, [groups, rows, columns].
        feedback: Factors of the layer's Hessian.
        grid: Range of the codes.

    Returns:
        Codes, int32 [groups, rows, columns], and the squared error of each row's output [groups, rows] in units of
        squared scales, damping included.

    Examples:
        >>> hessian = torch.tensor([[[1.0, 1.0], [1.0, 1.0]]])  # two inputs that are always equal
        >>> steps, grid = torch.tensor([[[1.4, 2.4]]]), IntegerRange(4, signed=True)
        >>> gptq_codes(steps, Feedback.of(hessian), grid)[0].tolist()  # rounding to 1 and 2 would lose 0.8
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
    """Round a few columns that compensate for each other's errors; return codes and errors [groups, columns, rows]."""
    wanted, codes, errors = wanted.clone(), torch.empty_like(wanted), torch.empty_like(wanted)
    for column in range(wanted.shape[1]):
        here = wanted[:, column]
        codes[:, column] = here.round().clamp_(grid.q_min, grid.q_max)
        errors[:, column] = here - codes[:, column]
        wanted[:, column + 1 :].addcmul_(factor[:, column, column + 1 :, None], errors[:, column, None], value=-1)
    return codes, errors
