"""Layer shapes of well-known ImageNet networks, to price them without building the networks.

Shapes and names are those of torchvision's models (MobileNet-V1, which it lacks, as in the paper), in order of call.
A sum of two tensors keeps the number of the later one; the layer that wrote it holds the earlier one.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from hardware_sim.layer import Layer, LayerKind, Size


class _Builder:
    """List of layers under construction; `conv` and `linear` return the number of the tensor that they write."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self._shapes: dict[int, tuple[int, Size]] = {0: (3, (224, 224))}

    def conv(self, name: str, c_out: int, *, reads: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> int:
        """Append a convolution that is padded so that only its stride shrinks the image."""
        c_in, size = self._shapes[reads]
        smaller = (-(-size[0] // stride), -(-size[1] // stride))
        kind: LayerKind = "depthwise" if groups == c_in else "conv"
        layer = Layer(
            name=name,
            kind=kind,
            c_in=c_in,
            c_out=c_out,
            kernel=(kernel, kernel),
            stride=(stride, stride),
            groups=groups,
            input_size=size,
            output_size=smaller,
            input_tensors=(reads,),
            output_tensor=len(self.layers) + 1,
        )
        return self._add(layer)

    def depthwise(self, name: str, *, reads: int, stride: int = 1) -> int:
        """Append a 3 x 3 depthwise convolution."""
        channels = self._shapes[reads][0]
        return self.conv(name, channels, reads=reads, kernel=3, stride=stride, groups=channels)

    def linear(self, name: str, c_out: int, *, reads: int) -> int:
        """Append a classifier on the globally pooled image."""
        c_in, number = self._shapes[reads][0], len(self.layers) + 1
        return self._add(
            Layer(name=name, kind="linear", c_in=c_in, c_out=c_out, input_tensors=(reads,), output_tensor=number)
        )

    def pool(self, number: int, *, stride: int) -> None:
        """Shrink a tensor."""
        channels, (height, width) = self._shapes[number]
        self._shapes[number] = channels, (height // stride, width // stride)

    def add(self, number: int, *, shortcut: int) -> int:
        """Add an earlier tensor to the one that was written last; the sum keeps the number of the latter."""
        self.layers[-1] = replace(self.layers[-1], held_tensors=(shortcut,))
        return number

    def channels(self, number: int) -> int:
        """Channels of a tensor."""
        return self._shapes[number][0]

    def _add(self, layer: Layer) -> int:
        self.layers.append(layer)
        self._shapes[len(self.layers)] = layer.c_out, layer.output_size
        return len(self.layers)


def mobilenet_v1() -> tuple[Layer, ...]:
    """Layers of MobileNet-V1 (Howard et al., 2017), width 1.

    Returns:
        Layers in the order of execution, on 224 x 224 images.

    Example:
        >>> len(mobilenet_v1()), sum(layer.weight_count for layer in mobilenet_v1())
        (28, 4209088)
    """
    build = _Builder()
    x = build.conv("conv0", 32, reads=0, kernel=3, stride=2)
    widths = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    for index, c_out in enumerate(widths, start=1):
        stride = 2 if index in (2, 4, 6, 12) else 1
        x = build.depthwise(f"dw{index}", reads=x, stride=stride)
        x = build.conv(f"pw{index}", c_out, reads=x)
    build.linear("fc", 1000, reads=x)
    return tuple(build.layers)


def mobilenet_v2() -> tuple[Layer, ...]:
    """Layers of MobileNet-V2 (Sandler et al., 2018), width 1.

    Returns:
        Layers in the order of execution, on 224 x 224 images.

    Example:
        >>> len(mobilenet_v2()), sum(layer.weight_count for layer in mobilenet_v2())
        (53, 3469760)
    """
    build = _Builder()
    x = build.conv("features.0.0", 32, reads=0, kernel=3, stride=2)
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    blocks = (
        (expand, c_out, stride if first == 0 else 1)
        for expand, c_out, count, stride in stages
        for first in range(count)
    )
    for index, (expand, c_out, stride) in enumerate(blocks, start=1):
        at = f"features.{index}.conv"
        expanded, entry = expand > 1, x
        if expanded:
            x = build.conv(f"{at}.0.0", build.channels(x) * expand, reads=x)
        x = build.depthwise(f"{at}.{int(expanded)}.0", reads=x, stride=stride)
        x = build.conv(f"{at}.{int(expanded) + 1}", c_out, reads=x)
        if stride == 1 and build.channels(entry) == c_out:
            x = build.add(x, shortcut=entry)
    x = build.conv("features.18.0", 1280, reads=x)
    build.linear("classifier.1", 1000, reads=x)
    return tuple(build.layers)


def resnet18() -> tuple[Layer, ...]:
    """Layers of ResNet-18 (He et al., 2016).

    Returns:
        Layers in the order of execution, on 224 x 224 images.

    Example:
        >>> len(resnet18()), sum(layer.weight_count for layer in resnet18())
        (21, 11678912)
    """
    return _resnet((2, 2, 2, 2), bottleneck=False)


def resnet50() -> tuple[Layer, ...]:
    """Layers of ResNet-50 (He et al., 2016) with the stride in the 3 x 3 convolutions.

    Returns:
        Layers in the order of execution, on 224 x 224 images.

    Example:
        >>> len(resnet50()), sum(layer.weight_count for layer in resnet50())
        (54, 25502912)
    """
    return _resnet((3, 4, 6, 3), bottleneck=True)


def _resnet(counts: tuple[int, ...], *, bottleneck: bool) -> tuple[Layer, ...]:
    build = _Builder()
    x = build.conv("conv1", 64, reads=0, kernel=7, stride=2)
    build.pool(x, stride=2)
    for stage, count in enumerate(counts, start=1):
        width = 32 * 2**stage
        for index in range(count):
            stride = 2 if index == 0 and stage > 1 else 1
            at = f"layer{stage}.{index}"
            x = _residual_block(build, at, width, reads=x, stride=stride, bottleneck=bottleneck)
    build.linear("fc", 1000, reads=x)
    return tuple(build.layers)


def _residual_block(build: _Builder, at: str, width: int, *, reads: int, stride: int, bottleneck: bool) -> int:
    c_out = 4 * width if bottleneck else width
    if bottleneck:
        x = build.conv(f"{at}.conv1", width, reads=reads)
        x = build.conv(f"{at}.conv2", width, reads=x, kernel=3, stride=stride)
        x = build.conv(f"{at}.conv3", c_out, reads=x)
    else:
        x = build.conv(f"{at}.conv1", width, reads=reads, kernel=3, stride=stride)
        x = build.conv(f"{at}.conv2", width, reads=x, kernel=3)
    if stride > 1 or build.channels(reads) != c_out:
        return build.add(build.conv(f"{at}.downsample.0", c_out, reads=reads, stride=stride), shortcut=x)
    return build.add(x, shortcut=reads)


NETWORKS: Mapping[str, Callable[[], tuple[Layer, ...]]] = {
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "resnet18": resnet18,
    "resnet50": resnet50,
}
