"""Construction of torchvision's detectors."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from haq.network.models.torchvision_detectors.faster_rcnn import TwoStageDetector
from haq.network.models.torchvision_detectors.ssd import SsdDetector

Adapter = Callable[[Any, tuple[int, ...]], nn.Module]
DETECTORS: dict[str, tuple[Adapter, int]] = {
    "ssdlite320_mobilenet_v3_large": (SsdDetector, 320),
    "ssd300_vgg16": (SsdDetector, 300),
    "fasterrcnn_mobilenet_v3_large_320_fpn": (partial(TwoStageDetector, side=320), 320),
}
"""Function that makes a detector of torchvision's, and the side of its images in pixels."""


def build_detector(name: str, num_classes: int | None = None) -> nn.Module:
    """Build a detector of torchvision with random weights.

    Args:
        name: Name in `DETECTORS`.
        num_classes: Number of classes without the background; None for the 80 classes of COCO, in 91 columns as in
            torchvision's weights.

    Returns:
        The detector.
    """
    from torchvision.models import detection, get_model, get_model_weights

    assert name in detection.__dict__
    adapter, _ = DETECTORS[name]
    columns = _coco_columns(get_model_weights(name)) if num_classes is None else tuple(range(1, num_classes + 1))
    total = 91 if num_classes is None else num_classes + 1
    model = get_model(name, weights=None, weights_backbone=None, num_classes=total)
    return adapter(model, columns)


def _coco_columns(published: Any) -> tuple[int, ...]:
    """Return the columns of the classes; COCO's numbers have gaps."""
    names = published.COCO_V1.meta["categories"]
    return tuple(place for place, name in enumerate(names) if name not in ("__background__", "N/A"))
