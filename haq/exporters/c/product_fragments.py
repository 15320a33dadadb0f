"""C code of convolutions and matrix products."""

from haq.exporters.c.fragments import Fragment, Scope, image_shape
from haq.exporters.c.literals import array, structure
from haq.exporters.c.products import ProductCode
from haq.exporters.integer.arithmetic import Multiplier
from haq.exporters.integer.network import CodeTensor

_STRUCTURE_BYTES = 68
"""Bytes of a `struct haq_product` on a processor of 32 bits."""


def emit_product(code: ProductCode, scope: Scope) -> Fragment:
    """Return the C code of a product.

    Args:
        code: Product.
        scope: What the code refers to.

    Returns:
        The code.

    Raises:
        UserError: Its sums exceed 32 bits.
    """
    code.check()
    product = code.product
    kernels = [code.kernel, *([] if code.is_direct else [f"unpack_{code.bits}"])]
    if code.kernel == "convolution":
        kernels.append(code.packing.kernel)
    channels = len(product.bias)
    return Fragment(
        call=f"haq_{code.kernel}(&{scope.name}, {scope.pointers[product.source]}, {scope.pointers[product.output]}, "
        f"{scope.scratch or 0});",
        kernels=tuple(kernels),
        constants=_constants(code, scope),
        weight_bytes=len(code.stream),
        constant_bytes=len(code.stream) + 9 * channels + _STRUCTURE_BYTES,
        storage=f"packed {code.bits} bits",
    )


def _constants(code: ProductCode, scope: Scope) -> str:
    name = scope.name
    return "".join(
        (
            array("uint8_t", f"{name}_weights", code.stream),
            array("int32_t", f"{name}_factors", _factors(code)),
            array("int8_t", f"{name}_exponents", [_exponent(each, scope) for each in code.multipliers]),
            structure("haq_product", name, _members(code, name)),
        )
    )


def _factors(code: ProductCode) -> list[int]:
    """Return bias and mantissa of filter by filter."""
    pairs = zip(code.bias.tolist(), code.multipliers, strict=True)
    return [each for bias, multiplier in pairs for each in (bias, multiplier.mantissa)]


def _exponent(multiplier: Multiplier, scope: Scope) -> int:
    """Return an exponent as `requantize_any` reads it, or the places less one that `requantize_down` shifts by."""
    return multiplier.exponent if scope.has_any_factors else max(-multiplier.exponent - 1, 0)


def _members(code: ProductCode, name: str) -> dict[str, int | str]:
    product, is_convolution = code.product, code.kernel == "convolution"
    pointers = {part: f"{name}_{part}" for part in ("weights", "factors", "exponents")}
    dot: dict[str, int | str] = {
        "dot": f"haq_{code.packing.kernel}",
        "field": code.packing.field,
        "period": code.period,
    }
    return {
        **pointers,
        "unpack": "0" if code.is_direct else f"haq_unpack_{code.bits}",
        **(dot if is_convolution else {}),
        "row": code.filters.shape[2] * code.filters.shape[3],
        **_sizes("in", code.source),
        **_sizes("out", code.output),
        "kernel_height": code.filters.shape[1],
        "kernel_width": code.filters.shape[2],
        "stride_y": product.stride[0],
        "stride_x": product.stride[1],
        "top": product.padding[0],
        "left": product.padding[1],
        "dilation_y": product.dilation[0],
        "dilation_x": product.dilation[1],
        "groups": product.groups,
        "in_zero": code.source.zero_point,
        "out_zero": code.output.zero_point,
        "shift": product.shift,
        "low": product.low,
        "high": product.high,
    }


def _sizes(side: str, tensor: CodeTensor) -> dict[str, int | str]:
    channels, height, width = image_shape(tensor)
    return {f"{side}_height": height, f"{side}_width": width, f"{side}_channels": channels}
