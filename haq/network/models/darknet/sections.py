"""Layers of the sections of Darknet's cfg files."""

from collections.abc import Callable, Collection

from torch import nn

from haq.network.models.darknet.cfg import Section
from haq.network.models.darknet.network import Route, Shortcut
from haq.network.models.darknet.plan import Plan, PlannedLayer, Shape
from haq.network.models.yolo.blocks import ACTIVATIONS, Convolution
from haq.network.models.yolo.heads import YoloHead
from haq.network.models.yolo.loss import LossSettings


def _convolution(section: Section, plan: Plan) -> PlannedLayer:
    section.require_known(
        ("filters", "size", "stride", "pad", "padding", "groups", "batch_normalize", "activation", "stopbackward")
    )
    c_in, height, width = plan.shape(plan.last)
    c_out, kernel = section.integer("filters", low=1), section.integer("size", 1, low=1, high=255)
    stride, groups = section.integer("stride", 1, low=1, high=255), section.integer("groups", 1, low=1)
    padding = kernel // 2 if section.integer("pad", 0, high=1) else section.integer("padding", 0, high=255)
    norm = bool(section.integer("batch_normalize", 0, high=1))
    activation = section.choice("activation", "logistic", ACTIVATIONS)
    if c_in % groups or c_out % groups:
        raise section.error(f"groups={groups} does not divide {c_in} input channels and {c_out} filters")
    size = _positive(section, *((side + 2 * padding - kernel) // stride + 1 for side in (height, width)))
    return PlannedLayer(
        lambda: Convolution(
            c_in, c_out, kernel, stride=stride, padding=padding, groups=groups, norm=norm, activation=activation
        ),
        (plan.last,),
        (c_out, *size),
        c_out * (c_in // groups) * kernel * kernel,
    )


def _route(section: Section, plan: Plan) -> PlannedLayer:
    section.require_known(("layers", "groups", "group_id"))
    sources = plan.sources(section, "layers")
    groups = section.integer("groups", 1, low=1)
    group = section.integer("group_id", 0, high=groups - 1)
    shapes = [plan.shape(source) for source in sources]
    if len({shape[1:] for shape in shapes}) > 1:
        raise section.error(f"its layers have outputs of different sizes: {_sizes(shapes)}")
    if any(channels % groups for channels, *_ in shapes):
        raise section.error(f"groups={groups} does not divide the channels of its layers: {_sizes(shapes)}")
    channels = sum(channels // groups for channels, *_ in shapes)
    return PlannedLayer(lambda: Route(groups, group), sources, (channels, *shapes[0][1:]))


def _shortcut(section: Section, plan: Plan) -> PlannedLayer:
    section.require_known(("from", "activation"))
    sources = (plan.last, *plan.sources(section, "from"))
    shapes = [plan.shape(source) for source in sources]
    if len(set(shapes)) > 1:
        raise section.error(f"its layers have outputs of different shapes: {_sizes(shapes)}")
    activation = section.choice("activation", "linear", ACTIVATIONS)
    return PlannedLayer(lambda: Shortcut(activation), sources, shapes[0])


def _upsample(section: Section, plan: Plan) -> PlannedLayer:
    section.require_known(("stride",))
    stride = section.integer("stride", 2, low=1, high=16)
    channels, height, width = plan.shape(plan.last)
    return PlannedLayer(
        lambda: nn.Upsample(scale_factor=stride, mode="nearest"),
        (plan.last,),
        (channels, stride * height, stride * width),
    )


def _maxpool(section: Section, plan: Plan) -> PlannedLayer:
    """Plan a pooling. Darknet pads by size - 1 pixels in all, of which half, rounded down, are before the first."""
    section.require_known(("size", "stride", "padding"))
    stride = section.integer("stride", 1, low=1, high=255)
    kernel = section.integer("size", stride, low=1, high=255)
    padding = section.integer("padding", kernel - 1, high=254)
    channels, height, width = plan.shape(plan.last)
    # With a window of 2 and a stride of 2, a last incomplete window is what one pixel of padding adds.
    is_rounded_up = kernel == stride == 2 and padding == 1
    if (padding % 2 and not is_rounded_up) or padding > kernel:
        raise section.error(
            f"a padding of {padding} pixels for a window of {kernel} and a stride of {stride} is not supported"
        )
    size = _positive(section, *((side + padding - kernel) // stride + 1 for side in (height, width)))
    return PlannedLayer(
        lambda: nn.MaxPool2d(kernel, stride, padding // 2, ceil_mode=is_rounded_up), (plan.last,), (channels, *size)
    )


def _dropout(section: Section, plan: Plan) -> PlannedLayer:
    section.require_known(("probability",))
    probability = section.number("probability", 0.5, low=0, high=1)
    return PlannedLayer(lambda: nn.Dropout(probability), (plan.last,), plan.shape(plan.last))


TRAINING_OPTIONS = (
    *("jitter", "truth_thresh", "random", "resize", "max", "max_delta", "label_smooth_eps", "objectness_smooth"),
    *("cls_normalizer", "iou_normalizer", "obj_normalizer", "delta_normalizer", "iou_loss", "nms_kind", "beta_nms"),
    *("focal_loss", "counters_per_class", "iou_thresh_kind", "map"),
)
"""Options of `[yolo]` that change neither boxes nor scores."""


def _yolo(section: Section, plan: Plan) -> PlannedLayer:
    section.require_known(
        (
            "mask",
            "anchors",
            "classes",
            "num",
            "scale_x_y",
            "ignore_thresh",
            "iou_thresh",
            "new_coords",
            *TRAINING_OPTIONS,
        )
    )
    section.integer("new_coords", 0, high=0)
    num, classes = section.integer("num", 1, low=1, high=1000), section.integer("classes", 20, low=1, high=10**4)
    sizes = section.numbers("anchors")
    if len(sizes) != 2 * num:
        raise section.error(f"num={num} anchors have {2 * num} widths and heights, found {len(sizes)}")
    mask = section.integers("mask", tuple(range(num)))
    if not all(0 <= place < num for place in mask):
        raise section.error(f"mask={','.join(map(str, mask))} is outside the {num} anchors")
    channels, height, width = plan.shape(plan.last)
    if plan.last < 0 or channels != len(mask) * (5 + classes):
        raise section.error(
            f"{len(mask)} anchors and {classes} classes need {len(mask) * (5 + classes)} filters, found {channels}"
        )
    _, image_height, image_width = plan.image
    stride = image_height // height
    if (stride * height, stride * width) != (image_height, image_width):
        raise section.error(f"the image of {image_width}x{image_height} is no multiple of its {width}x{height} cells")
    anchors = tuple((sizes[2 * place], sizes[2 * place + 1]) for place in mask)
    plan.heads[plan.last] = YoloHead(anchors, stride, section.number("scale_x_y", 1.0, low=0.1, high=10))
    plan.classes.add(classes)
    ignore, assign = section.number("ignore_thresh", 0.5, low=0, high=1), section.number("iou_thresh", 1, low=0, high=1)
    settings = LossSettings(ignore_iou=ignore, assign_iou=assign)
    if plan.settings not in (None, settings):
        first = f"ignore_thresh={plan.settings.ignore_iou:g} and iou_thresh={plan.settings.assign_iou:g}"
        raise section.error(
            f"ignore_thresh={ignore:g} and iou_thresh={assign:g} differ from {first} of the first [yolo]; "
            "give all sections the same"
        )
    plan.settings = settings
    return PlannedLayer(nn.Identity, (plan.last,), plan.shape(plan.last))


SECTIONS: dict[str, Callable[[Section, Plan], PlannedLayer]] = {
    "convolutional": _convolution,
    "route": _route,
    "shortcut": _shortcut,
    "upsample": _upsample,
    "maxpool": _maxpool,
    "dropout": _dropout,
    "yolo": _yolo,
}
"""Functions that plan the layer of a section."""


def _positive(section: Section, height: int, width: int) -> tuple[int, int]:
    if min(height, width) < 1:
        raise section.error("its input is smaller than its window")
    return height, width


def _sizes(shapes: Collection[Shape]) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in shapes)
