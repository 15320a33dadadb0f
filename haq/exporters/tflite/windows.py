"""Padding of windows: operators of TFLite pad by `SAME` or not at all; other padding is an operator of its own."""

from typing import NamedTuple


class Axis(NamedTuple):
    """Windows along one axis of an image.

    Attributes:
        size: Pixels of the input.
        output: Number of windows.
        kernel: Pixels of a window.
        stride: Distance of windows.
        dilation: Distance of the pixels of a window.
        before: Padding before the first pixel.
    """

    size: int
    output: int
    kernel: int
    stride: int
    dilation: int
    before: int

    @property
    def needed(self) -> tuple[int, int]:
        """Padding before and after the pixels that windows reach."""
        reached = (self.output - 1) * self.stride + (self.kernel - 1) * self.dilation + 1
        return self.before, max(reached - self.size - self.before, 0)

    @property
    def same(self) -> tuple[int, int] | None:
        """Padding that `SAME` stands for; None where the number of windows is another."""
        if self.output != -(-self.size // self.stride):
            return None
        total = max((self.output - 1) * self.stride + (self.kernel - 1) * self.dilation + 1 - self.size, 0)
        return total // 2, total - total // 2


class WindowPadding(NamedTuple):
    """How an operator with windows pads.

    Attributes:
        same: Whether the operator pads by `SAME`; else it does not pad.
        before: Rows and columns to add before the image, by an operator of its own.
        after: Rows and columns to add after it.
    """

    same: bool
    before: tuple[int, int] = (0, 0)
    after: tuple[int, int] = (0, 0)

    @property
    def is_explicit(self) -> bool:
        """Whether an operator of its own pads."""
        return any(self.before + self.after)


def window_padding(vertical: Axis, horizontal: Axis) -> WindowPadding:
    """Choose how an operator with windows pads.

    Args:
        vertical: Windows along the height.
        horizontal: Windows along the width.

    Returns:
        No padding or `SAME` where they are equal to what is needed, else explicit padding.

    Examples:
        >>> window_padding(Axis(8, 8, 3, 1, 1, 1), Axis(8, 8, 3, 1, 1, 1))
        WindowPadding(same=True, before=(0, 0), after=(0, 0))
        >>> window_padding(Axis(8, 4, 3, 2, 1, 1), Axis(8, 4, 3, 2, 1, 1))
        WindowPadding(same=False, before=(1, 1), after=(0, 0))
    """
    rows, columns = vertical.needed, horizontal.needed
    if any(rows + columns) and vertical.same == rows and horizontal.same == columns:
        return WindowPadding(same=True)
    return WindowPadding(same=False, before=(rows[0], columns[0]), after=(rows[1], columns[1]))
