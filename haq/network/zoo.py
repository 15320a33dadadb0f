"""Construction of models by name: built in, of torchvision, timm or a Darknet cfg, or by a callable of the user."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from haq.errors import UserError, suggestion
from haq.execution.networks import switch_to_eval
from haq.execution.structures import InputKind
from haq.execution.user_code import call_user_code, is_user_code
from haq.network.libraries import build_timm, build_torchvision, timm_input, torchvision_input
from haq.network.models.cifar_resnet import CifarResNet
from haq.network.models.darknet.building import build_darknet, cfg_input_shape
from haq.network.models.digits_cnn import DigitsCNN
from haq.network.models.digits_training import train_digits
from haq.network.models.language_models import LANGUAGE_MODELS, STEPS, stored_vocabulary_size
from haq.network.models.mobilenet_v1 import MobileNetV1
from haq.network.models.resnet8 import ResNet8
from haq.network.models.shapes_detector import ShapesDetector
from haq.network.models.shapes_training import train_shapes
from haq.network.models.yolo.yolov4 import YoloV4
from haq.network.models.yolo.yolov4_tiny import YoloV4Tiny
from haq.network.tracing.unwrapping import unwrapped
from haq.network.weight_files import load_weights, read_weights

Builder = Callable[..., nn.Module]
Shape = tuple[int, ...]

BUILT_IN: dict[str, tuple[Builder, Shape]] = {
    "digits_cnn": (DigitsCNN, (1, 16, 16)),
    **{f"cifar_resnet{depth}": (partial(CifarResNet, depth), (3, 32, 32)) for depth in (20, 32, 44, 56)},
    "resnet8": (ResNet8, (3, 32, 32)),
    "mobilenet_v1": (MobileNetV1, (3, 224, 224)),
    "shapes_detector": (ShapesDetector, (3, 64, 64)),
    "yolov4": (YoloV4, (3, 608, 608)),
    "yolov4_tiny": (YoloV4Tiny, (3, 416, 416)),
    **{name: (build, (STEPS,)) for name, build in LANGUAGE_MODELS.items()},
}
"""Builder of each model, and the shape of one input: [c, h, w] of images, [t] of tokens."""


@dataclass(frozen=True, slots=True)
class _Trained:
    """Built-in model that is trained on first use.

    Attributes:
        train: Function that returns the trained model, from the cache if it is there.
        num_classes: Number of outputs, or of classes of a detector.
    """

    train: Callable[[], nn.Module]
    num_classes: int


_TRAINED: Mapping[str, _Trained] = {
    "digits_cnn": _Trained(train_digits, 10),
    "shapes_detector": _Trained(train_shapes, 3),
}
"""Models with data of their own."""
_SCALABLE = ("mobilenet_v1", "yolov4", "yolov4_tiny")
"""Models whose name may be followed by a width, as in `mobilenet_v1:0.5`."""


def is_trained_on_use(spec: str) -> bool:
    """Return whether a model without a file of weights is trained when it is first loaded, which takes minutes.

    Args:
        spec: Name of the model.

    Returns:
        True for models with data of their own.

    Examples:
        >>> is_trained_on_use("digits_cnn"), is_trained_on_use("resnet8")
        (True, False)
    """
    return spec in _TRAINED


def load_model(
    spec: str, *, weights: str | Path | None = None, num_classes: int | None = None, seed: int = 0
) -> nn.Module:
    """Load a model by name, in evaluation mode.

    `digits_cnn` and `shapes_detector` are trained; other models without weights are initialized at random.
    `mobilenet_v1:0.5`, and `yolov4:0.5` likewise, has half the width. The caller's random state is unchanged.

    Args:
        spec: Name of the model.
        weights: File with trained weights.
        num_classes: Number of outputs; if None the model's default, or the vocabulary of a language model's weights. A
            user's function is called without arguments.
        seed: Seed of the random initialization.

    Returns:
        The model.

    Raises:
        UserError: The name is unknown, the weights do not fit, or a user's function does not return a model.

    Examples:
        >>> load_model("cifar_resnet20").linear
        Linear(in_features=64, out_features=10, bias=True)
    """
    if spec in _TRAINED and weights is None and num_classes in (None, _TRAINED[spec].num_classes):
        return _TRAINED[spec].train()
    if weights is not None and num_classes is None and spec in LANGUAGE_MODELS:
        num_classes = stored_vocabulary_size(read_weights(weights))
    model = build_model(spec, num_classes=num_classes, seed=seed)
    if weights is not None:
        load_weights(model, weights)
    return model


def build_model(spec: str, *, num_classes: int | None = None, seed: int = 0) -> nn.Module:
    """Build a model with random weights, in evaluation mode.

    Args:
        spec: Name of the model.
        num_classes: Number of outputs; the model's default if None. A user's function is called without arguments.
        seed: Seed of the random initialization.

    Returns:
        The model.

    Raises:
        UserError: The name is unknown, or a user's function does not return a model.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = _build(spec, {} if num_classes is None else {"num_classes": num_classes})
    switch_to_eval(model)
    return model


def is_model_name(spec: str) -> bool:
    """Return whether a name is that of a model that can be loaded, without checking that it exists.

    Args:
        spec: Name of a model.

    Returns:
        True for the forms that `load_model` takes.

    Examples:
        >>> is_model_name("torchvision:resnet18"), is_model_name("nets:small"), is_model_name("Sequential")
        (True, True, False)
        >>> is_model_name("lstm_300:tied"), is_model_name("lstm_300:other")
        (True, False)
    """
    return spec in BUILT_IN or spec.partition(":")[0] in _SOURCES or is_user_model(spec)


def is_user_model(spec: str) -> bool:
    """Return whether a name is that of a callable of the user, which loading the model calls.

    Args:
        spec: Name of a model.

    Returns:
        True for `package.module:callable`; False for built-in models and those of libraries.

    Examples:
        >>> is_user_model("nets:small"), is_user_model("torchvision:resnet18")
        (True, False)
    """
    source = spec.partition(":")[0]
    return source not in BUILT_IN and source not in _SOURCES and is_user_code(spec)


def input_kind(spec: str) -> InputKind | None:
    """Return what a model reads.

    Args:
        spec: Name of a model.

    Returns:
        `tokens` for language models, `images` for other models that are built in or of a library; None for a user's
        own model.

    Raises:
        UserError: The name has no known form.

    Examples:
        >>> input_kind("gpt_small"), input_kind("torchvision:resnet18"), input_kind("nets:small")
        ('tokens', 'images', None)
    """
    if not is_model_name(spec):
        raise _unknown(spec)
    if is_user_model(spec):
        return None
    return "tokens" if spec in LANGUAGE_MODELS else "images"


def default_input_shape(spec: str) -> Shape | None:
    """Return the shape of the inputs that a model was published for.

    Args:
        spec: Name of the model.

    Returns:
        Shape of one input, [c, h, w] of an image or [t] of tokens; None for a user's own model.

    Raises:
        UserError: torchvision or timm does not have the model.

    Examples:
        >>> default_input_shape("cifar_resnet20"), default_input_shape("torchvision:inception_v3")
        ((3, 32, 32), (3, 299, 299))
        >>> default_input_shape("mine:net") is None
        True
    """
    source, _, name = spec.partition(":")
    if source in BUILT_IN:
        return BUILT_IN[source][1]
    return _INPUTS[source](name) if source in _INPUTS else None


def default_example(spec: str) -> Tensor | None:
    """Return an input of the shape that a model was published for: zeros, or tokens for language models.

    Args:
        spec: Name of the model.

    Returns:
        Input [1, ...]; None for a user's own model.

    Raises:
        UserError: torchvision or timm does not have the model.

    Examples:
        >>> default_example("lstm_300").shape
        torch.Size([1, 35])
    """
    shape = default_input_shape(spec)
    if shape is None:
        return None
    return torch.zeros(1, *shape, dtype=torch.int64 if spec in LANGUAGE_MODELS else torch.float32)


def _build(spec: str, options: dict[str, Any]) -> nn.Module:
    source, _, name = spec.partition(":")
    if spec in BUILT_IN:
        return BUILT_IN[spec][0](**options)
    if source in _SOURCES:
        return _SOURCES[source](name, options)
    if not is_model_name(spec):
        raise _unknown(spec)
    model = call_user_code(spec, similar=_SOURCES)
    if not isinstance(model, nn.Module):
        raise UserError(f"{spec} returned a {type(model).__name__}; expected a torch.nn.Module")
    return unwrapped(model)


def _unknown(spec: str) -> UserError:
    others = "torchvision:NAME, timm:NAME, darknet:FILE.cfg or package.module:callable"
    return UserError(f"unknown model {spec!r}{suggestion(spec, BUILT_IN)}; expected {', '.join(BUILT_IN)}, {others}")


def _scaled(model: str, width: str, options: dict[str, Any]) -> nn.Module:
    """Build a model whose channels are multiplied by a width."""
    try:
        value = float(width)
    except ValueError:
        value = 0.0
    if not 0 < value <= 4:
        raise UserError(f"{model}:{width} has no width between 0 and 4; try {model}:0.75")
    return BUILT_IN[model][0](width=value, **options)


def _darknet(path: str, options: dict[str, Any]) -> nn.Module:
    if not path:
        raise UserError("darknet: names no file; give a Darknet cfg, such as darknet:yolov4.cfg")
    model = build_darknet(path)
    classes = options.get("num_classes", model.detection.num_classes)
    if classes != model.detection.num_classes:
        raise UserError(f"{path} has {model.detection.num_classes} classes, not {classes}; change its [yolo] sections")
    return model


_SOURCES: dict[str, Callable[[str, dict[str, Any]], nn.Module]] = {
    "torchvision": build_torchvision,
    "timm": build_timm,
    "darknet": _darknet,
    **{name: partial(_scaled, name) for name in _SCALABLE},
}
_INPUTS: dict[str, Callable[[str], Shape]] = {
    "torchvision": torchvision_input,
    "timm": timm_input,
    "darknet": cfg_input_shape,
}
