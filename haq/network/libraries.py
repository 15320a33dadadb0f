"""Networks of torchvision and timm, without their published weights."""

from typing import Any

from torch import nn

from haq.errors import UserError, suggestion
from haq.network.models.torchvision_detectors.building import DETECTORS, build_detector

_NEED_INIT_WEIGHTS = ("googlenet", "inception_v3")
"""Models for which torchvision warns if no initialization is chosen."""


def build_torchvision(name: str, options: dict[str, Any]) -> nn.Module:
    """Build a classifier or a detector of torchvision with random weights.

    Args:
        name: Name of the model.
        options: Keyword arguments, such as `num_classes`.

    Returns:
        The model.

    Raises:
        UserError: torchvision does not have the model.
    """
    if name in DETECTORS:
        return build_detector(name, **options)
    if name in _NEED_INIT_WEIGHTS:
        options = {**options, "init_weights": True}
    model: nn.Module = _torchvision_with(name).get_model(name, weights=None, **options)
    return model


def torchvision_input(name: str) -> tuple[int, ...]:
    """Return the shape of one input of a model of torchvision.

    Args:
        name: Name of the model.

    Returns:
        The smallest crop of the published weights, [c, h, w]; larger ones are for variants of other resolutions.

    Raises:
        UserError: torchvision does not have the model.
    """
    if name in DETECTORS:
        return (3, DETECTORS[name][1], DETECTORS[name][1])
    published = _torchvision_with(name).get_model_weights(name)
    side = min(weights.transforms.keywords["crop_size"] for weights in published)
    return (3, side, side)


def build_timm(name: str, options: dict[str, Any]) -> nn.Module:
    """Build a model of timm with random weights.

    Args:
        name: Name of the model.
        options: Keyword arguments, such as `num_classes`.

    Returns:
        The model.

    Raises:
        UserError: timm is not installed or does not have the model.
    """
    model: nn.Module = _timm_with(name).create_model(name, pretrained=False, **options)
    return model


def timm_input(name: str) -> tuple[int, ...]:
    """Return the shape of one input of a model of timm.

    Args:
        name: Name of the model.

    Returns:
        The input of the published weights, [c, h, w].

    Raises:
        UserError: timm is not installed or does not have the model.
    """
    return tuple(_timm_with(name).get_pretrained_cfg(name, allow_unregistered=True).input_size)


def _torchvision_with(name: str) -> Any:
    """Return torchvision's module of classification models; raise UserError if it does not have the model."""
    from torchvision import models

    available = models.list_models(module=models)
    if name not in available:
        known = [*available, *DETECTORS]
        raise UserError(f"torchvision has no {name!r} that is supported here{suggestion(name, known)}")
    return models


def _timm_with(name: str) -> Any:
    """Return timm; raise UserError if it is not installed or does not have the model."""
    try:
        import timm
    except ImportError as error:
        raise UserError("timm is not installed; install haq with its extra 'timm'") from error
    if not timm.is_model(name):
        raise UserError(f"timm has no {name!r}{suggestion(name, timm.list_models())}")
    return timm
