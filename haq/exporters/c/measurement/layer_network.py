"""Integer networks of a single shape of layer, with random weights."""

import numpy as np

from haq.exporters.integer.network import Codes, CodeTensor, IntegerNetwork, Product
from hardware_sim.cost import UnsupportedError
from hardware_sim.layer import Layer

MEASURED_KINDS = ("conv", "depthwise", "linear")
INPUT, OTHER, OUTPUT = "input", "other", "output"


def layer_network(layer: Layer, w_bits: int, a_bits: int) -> IntegerNetwork:
    """Build an integer network that applies two layers of the same shape to its input.

    With a single layer the compiler would specialize the kernel for its sizes, as it cannot in a whole network. The
    output is that of the second layer, and nothing reads that of the first.

    Input and output are unsigned and of the same width, as between layers with a ReLU. A linear layer that is applied
    to several positions is a convolution with a kernel of one pixel.

    Args:
        layer: Shape of the layer.
        w_bits: Bits of the weights, 2 to 8.
        a_bits: Bits of input and output, 2 to 8.

    Returns:
        The network; the same arguments give the same weights.

    Raises:
        UnsupportedError: There is no kernel for the layer.
    """
    check_kind(layer)
    is_vector = layer.kind == "linear" and layer.output_size == (1, 1)
    before, after = ((), ()) if is_vector else (layer.input_size, layer.output_size)
    weights = [_weights(layer, w_bits, seed, kernel=() if is_vector else layer.kernel) for seed in range(2)]
    # A sum of n products deviates by about sqrt(n) of their size, which is to be a quarter of the range of codes.
    spread = float(np.sqrt(weights[0][0].size) * 2 ** (w_bits - 2) * 2 ** (a_bits - 1))
    source = _unsigned(INPUT, (layer.c_in, *before), 1.0, a_bits)
    other, output = (
        _unsigned(name, (layer.c_out, *after), spread / 2 ** (a_bits - 2), a_bits) for name in (OTHER, OUTPUT)
    )
    products = (_product(layer, weights[0], w_bits, other), _product(layer, weights[1], w_bits, output))
    tensors = {tensor.name: tensor for tensor in (source, other, output)}
    return IntegerNetwork(name=layer.name, input=INPUT, output=OUTPUT, tensors=tensors, operations=products)


def check_kind(layer: Layer) -> None:
    """Check that there is a C kernel for a layer.

    Args:
        layer: The layer.

    Raises:
        UnsupportedError: There is none.
    """
    if layer.kind not in MEASURED_KINDS:
        known = ", ".join(MEASURED_KINDS)
        raise UnsupportedError(f"layer {layer.name} ({layer.kind}) has no C kernel; only {known} have")


def _unsigned(name: str, shape: tuple[int, ...], scale: float, a_bits: int) -> CodeTensor:
    """Describe unsigned codes; those of 8 bits are stored 128 lower, in signed bytes."""
    lowest = -128 if a_bits == 8 else 0
    highest = lowest + 2**a_bits - 1
    return CodeTensor(name=name, shape=shape, scale=scale, zero_point=lowest, q_min=lowest, q_max=highest)


def _weights(layer: Layer, w_bits: int, seed: int, *, kernel: tuple[int, ...]) -> Codes:
    generator = np.random.default_rng(seed)
    largest = 2 ** (w_bits - 1) - 1
    shape = (layer.c_out, layer.c_in // layer.groups, *kernel)
    weights = generator.integers(-largest, largest, shape, dtype=np.int8, endpoint=True)
    weights.flat[0] = largest  # kernels are chosen by the largest code
    return weights


def _product(layer: Layer, weights: Codes, w_bits: int, output: CodeTensor) -> Product:
    return Product(
        layer=layer.name,
        source=INPUT,
        output=output.name,
        weights=weights,
        w_bits=w_bits,
        w_scale=np.linspace(0.75, 1.25, layer.c_out),
        bias=np.zeros(layer.c_out, dtype=np.int32),
        low=output.q_min,
        high=output.q_max,
        stride=layer.stride,
        padding=_padding(layer),
        dilation=layer.dilation,
        groups=layer.groups,
    )


def _padding(layer: Layer) -> tuple[int, int, int, int]:
    """Derive the padding from the sizes of input and output; an odd row or column goes to the end."""
    missing = [
        max((out - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
        for size, out, kernel, stride, dilation in zip(
            layer.input_size, layer.output_size, layer.kernel, layer.stride, layer.dilation, strict=True
        )
    ]
    top, left = (each // 2 for each in missing)
    return top, left, missing[0] - top, missing[1] - left
