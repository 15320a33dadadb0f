"""Agreement of integer inference in onnxruntime with fake quantization in torch: counts of differences, and tolerances.

Rounding is not continuous: a value halfway between two codes may get either, since float32 sums of the same products in
another order differ. One different code changes others in all later layers, so that the quantization errors of the
outputs are different samples, and outputs alone do not show whether the cause is rounding or a defect. So codes that
are computed from equal inputs are counted, where differences do not accumulate; and the difference of outputs is
related to that between torch and torch with as many codes moved by one step.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

TIE = 0.01
"""Largest distance, in steps, from the border between two codes of a value whose code may differ: a tie.

Float32 sums in another order change values by at most 0.0002 steps on the networks of results/engine_agreement.md; the
tolerance is larger to allow for longer sums. Kernels that saturate, or round by another rule, differ by half a step or
more.
"""
OUTPUT_ROUNDING = 1e-4
"""Tolerance of outputs computed from equal codes, relative to the largest output: float32 sums in another order."""
SPREAD = 3.0
"""Largest difference of outputs, relative to that caused by moving as many codes, at which engines agree.

Two samples of the same error have differences within 0.7 and 1.4 of each other; the ratio varies more if few codes
differ, since some have more influence.
"""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Counts of a comparison of the engines with one or more policies.

    Attributes:
        codes: Number of input codes of all layers, computed from equal inputs.
        differing: Number of these that differ.
        farthest: Largest distance from the border between two codes, in steps, of a value whose code differs.
        beyond: Number of codes that differ by more than a tie, by the name of the layer; `outputs` counts outputs of
            the network that differ by more than `OUTPUT_ROUNDING`.
        predictions: Number of predictions end to end, each engine with its corrections.
        other_predictions: Number of predictions of onnxruntime that differ from torch.
        moved_predictions: Number of predictions of torch that differ when as many codes are moved by one step.
        spread: Norm of the difference of outputs, relative to the one that moved codes cause; the largest of all
            policies.
    """

    codes: int = 0
    differing: int = 0
    farthest: float = 0.0
    beyond: Mapping[str, int] = field(default_factory=dict)
    predictions: int = 0
    other_predictions: int = 0
    moved_predictions: int = 0
    spread: float = 0.0

    @property
    def is_close(self) -> bool:
        """Whether the engines differ only by ties, and outputs by at most `SPREAD`."""
        return not self.beyond and self.spread <= SPREAD

    def __add__(self, other: "Agreement") -> "Agreement":
        """Combine two comparisons."""
        names = (*self.beyond, *other.beyond)
        return Agreement(
            self.codes + other.codes,
            self.differing + other.differing,
            max(self.farthest, other.farthest),
            {name: self.beyond.get(name, 0) + other.beyond.get(name, 0) for name in names},
            self.predictions + other.predictions,
            self.other_predictions + other.other_predictions,
            self.moved_predictions + other.moved_predictions,
            max(self.spread, other.spread),
        )

    def __str__(self) -> str:
        """Return a summary in one line."""
        if self.beyond:
            worst = max(self.beyond, key=lambda name: self.beyond[name])
            return (
                f"{sum(self.beyond.values()):,} of {self.codes:,} codes differ from torch by more than ties from equal "
                f"inputs, {self.beyond[worst]:,} of them in {worst}"
            )
        ends = (
            f"end to end {self.other_predictions} of {self.predictions} predictions differ from torch, "
            f"{self.moved_predictions} where as many codes are moved by a step"
        )
        if self.spread > SPREAD:
            return f"{ends}, and outputs {self.spread:.2g} times as far"
        return (
            f"codes from equal inputs and biases are those of torch in every layer but for {self.differing:,} ties of "
            f"{self.codes:,}; {ends}"
        )
