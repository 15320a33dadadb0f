"""Windows of convolutions and pooling: attributes of ONNX nodes, and shapes of outputs."""

from collections.abc import Sequence
from dataclasses import dataclass

from haq.evaluation.engines.onnxruntime.marking import attribute
from haq.evaluation.engines.onnxruntime.template import Node
from haq.exporters.integer.reading.steps import Padding

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows over an image.

    Attributes:
        kernel: Height and width.
        stride: Vertical and horizontal stride.
        padding: Rows and columns outside the image: top, left, bottom, right.
        dilation: Vertical and horizontal dilation.
        counts: Number of windows along the height and the width.
    """

    kernel: Pair
    stride: Pair
    padding: Padding
    dilation: Pair
    counts: Pair


def windows_of(node: Node, size: Sequence[int], kernel: Pair) -> Windows:
    """Return the windows of a node.

    Args:
        node: Convolution or pooling over images.
        size: Height and width of the image.
        kernel: Height and width of a window.

    Returns:
        The windows. With `ceil_mode` the padding includes what the last windows need.
    """
    stride, dilation = (_pair(attribute(node, name, [1, 1])) for name in ("strides", "dilations"))
    reach = [spread * (extent - 1) + 1 for extent, spread in zip(kernel, dilation, strict=True)]
    before, after = _padding(node, size, reach, stride)
    counts = [
        _count(extent + first + last - window, step, ceil=bool(attribute(node, "ceil_mode", 0)), room=extent + first)
        for extent, first, last, window, step in zip(size, before, after, reach, stride, strict=True)
    ]
    ends = [
        max(last, (count - 1) * step + window - extent - first)
        for count, step, window, extent, first, last in zip(counts, stride, reach, size, before, after, strict=True)
    ]
    padding = (before[0], before[1], ends[0], ends[1])
    return Windows(kernel, stride, padding, dilation, (counts[0], counts[1]))


def whole_image(size: Sequence[int]) -> Windows:
    """Return the one window that covers an image.

    Args:
        size: Height and width of the image.

    Returns:
        The window.
    """
    kernel = _pair(size)
    return Windows(kernel, kernel, (0, 0, 0, 0), (1, 1), (1, 1))


def _count(room_after_first: int, step: int, *, ceil: bool, room: int) -> int:
    """Return the number of windows; rounded up, the last one must begin inside the image or the padding before it."""
    if not ceil:
        return room_after_first // step + 1
    count = -(-room_after_first // step) + 1
    return count - 1 if (count - 1) * step >= room else count


def _padding(node: Node, size: Sequence[int], reach: Sequence[int], stride: Pair) -> tuple[list[int], list[int]]:
    mode = attribute(node, "auto_pad", b"NOTSET")
    if mode in (b"SAME_UPPER", b"SAME_LOWER"):
        totals = [
            max((-(-extent // step) - 1) * step + window - extent, 0)
            for extent, window, step in zip(size, reach, stride, strict=True)
        ]
        small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
        return (small, large) if mode == b"SAME_UPPER" else (large, small)
    pads = [0, 0, 0, 0] if mode == b"VALID" else list(attribute(node, "pads", [0, 0, 0, 0]))
    return pads[:2], pads[2:]


def _pair(values: Sequence[int]) -> Pair:
    return int(values[0]), int(values[1])
