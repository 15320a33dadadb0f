"""Construction of networks from Darknet's cfg files."""

from math import prod
from pathlib import Path

from haq.network.models.darknet.cfg import Section, read_cfg
from haq.network.models.darknet.network import DarknetNetwork, Step
from haq.network.models.darknet.plan import Plan, Shape
from haq.network.models.darknet.sections import SECTIONS
from haq.network.models.yolo.blocks import Convolution, init_prior_bias
from haq.network.models.yolo.heads import YoloHeads
from haq.network.models.yolo.loss import LossSettings

MAX_WEIGHTS = 2**28
"""Greatest number of weights, 1 GiB of float32; YOLOv4 has 64 million."""
MAX_FEATURES = 2**29
"""Greatest number of values of all layers for one image, 2 GiB of float32."""
MAX_SIDE = 4096
"""Greatest width and height of images, pixels."""


def build_darknet(path: str | Path) -> DarknetNetwork:
    """Build the network of a cfg file, with random weights.

    Args:
        path: Darknet's cfg file with sections `[convolutional]`, `[route]`, `[shortcut]`, `[upsample]`, `[maxpool]`,
            `[dropout]` and `[yolo]`.

    Returns:
        The network.

    Raises:
        UserError: The file cannot be read, has a section or option that is not supported, or describes no detector, or
            one that is too large. The message is one line with the number of the line.
    """
    net, *sections = read_cfg(path)
    plan = Plan(_image_shape(net))
    features = weights = 0
    for section in sections:
        if section.kind not in SECTIONS:
            raise section.error(f"is not supported; expected {', '.join(f'[{kind}]' for kind in SECTIONS)}")
        layer = SECTIONS[section.kind](section, plan)
        features += prod(layer.shape)
        weights += layer.weights
        if features > MAX_FEATURES:
            raise section.error(f"the layers up to here have more than {MAX_FEATURES} values for one image")
        if weights > MAX_WEIGHTS:
            raise section.error(f"the layers up to here have more than {MAX_WEIGHTS} weights")
        plan.steps.append(Step(layer.build(), layer.sources, layer.shape))
    if not plan.heads:
        raise net.error("the network has no [yolo] section, and so no outputs")
    if len(plan.classes) > 1:
        raise net.error(f"the [yolo] sections have different numbers of classes: {sorted(plan.classes)}")
    for number, head in plan.heads.items():
        module = plan.steps[number].module
        if isinstance(module, Convolution) and module.norm is None:
            init_prior_bias(module, anchors=len(head.anchors))
    (classes,) = plan.classes
    settings = plan.settings or LossSettings()
    heads = YoloHeads(tuple(plan.heads.values()), num_classes=classes, settings=settings)
    return DarknetNetwork(plan.steps, tuple(plan.heads), heads, input_size=_image_shape(net)[1:])


def cfg_input_shape(path: str | Path) -> Shape:
    """Read the shape of an image from a cfg file.

    Args:
        path: Darknet's cfg file.

    Returns:
        Channels, height and width.

    Raises:
        UserError: The file cannot be read, or does not give them.
    """
    return _image_shape(read_cfg(path)[0])


def _image_shape(net: Section) -> Shape:
    """Return the shape of images; the other options of `[net]` concern training."""
    height, width = (net.integer(name, low=1, high=MAX_SIDE) for name in ("height", "width"))
    return net.integer("channels", 3, low=1, high=64), height, width
