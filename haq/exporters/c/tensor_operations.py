"""C code of operations without weights."""

from haq.errors import UserError
from haq.exporters.c.fragments import Fragment, Scope, count_of, image_shape
from haq.exporters.c.literals import array, structure
from haq.exporters.integer.arithmetic import ADDITION_SHIFT, Multiplier, fixed_point
from haq.exporters.integer.network import CodeTensor, Concatenation, Elementwise, Pool, Rearrangement, Table

SUM_SCRATCH_BYTES = 2 * 256 * 4
"""Bytes of working memory of a sum: a table of int32 for each input."""
_SUM_BYTES, _TENSOR_PRODUCT_BYTES, _POOL_BYTES, _PADDING_BYTES, _TABLE_BYTES = 28, 16, 22, 20, 256
Members = dict[str, int | str]


def emit_elementwise(operation: Elementwise, scope: Scope) -> Fragment:
    """Return the C code of a sum or product of two tensors.

    Args:
        operation: Operation.
        scope: What the code refers to.

    Returns:
        The code.

    Raises:
        UserError: The scale of a sum is too small for those of its inputs.
    """
    first, second = operation.sources
    if scope.tensor(first).shape != scope.tensor(operation.output).shape:
        first, second = second, first
    channels, height, width = image_shape(scope.tensor(first))
    step = channels if scope.tensor(second).shape == scope.tensor(first).shape else 0
    is_sum = operation.operator == "add"
    make = _sum_members if is_sum else _product_members
    kind, function = ("haq_sum", "haq_add") if is_sum else ("haq_tensor_product", "haq_multiply_tensors")
    members = make(scope, first, second, operation.output)
    scratch = f", {scope.scratch}" if is_sum else ""
    members |= {"out_zero": scope.tensor(operation.output).zero_point, "low": operation.low, "high": operation.high}
    return Fragment(
        call=f"{function}(&{scope.name}, {scope.pointers[first]}, {scope.pointers[second]}, "
        f"{scope.pointers[operation.output]}, {height * width}, {channels}, {step}{scratch});",
        kernels=(operation.operator,),
        constants=structure(kind, scope.name, members),
        constant_bytes=_SUM_BYTES if is_sum else _TENSOR_PRODUCT_BYTES,
    )


def _sum_members(scope: Scope, first: str, second: str, output: str) -> Members:
    """Return the multipliers of a sum: inputs are brought to twice the larger scale, with 20 more bits."""
    a, b = scope.tensor(first), scope.tensor(second)
    unit = 2 * max(a.scale, b.scale)
    return {
        **_divisor("a_", fixed_point(a.scale / unit)),
        **_divisor("b_", fixed_point(b.scale / unit)),
        **_divisor("out_", _output_factor(unit, scope.tensor(output))),
        "a_zero": a.zero_point,
        "b_zero": b.zero_point,
    }


def _output_factor(unit: float, output: CodeTensor) -> Multiplier:
    """Return the factor from sums to output codes; raise UserError for one that the C code has no form for."""
    factor = fixed_point(unit / (2**ADDITION_SHIFT * output.scale))
    if factor.exponent > 0:
        raise UserError(f"{output.name}: the scale of the sum is less than a 2^19th of those of its inputs")
    return factor


def _divisor(prefix: str, multiplier: Multiplier) -> Members:
    return {f"{prefix}mantissa": multiplier.mantissa, f"{prefix}places": -multiplier.exponent}


def _product_members(scope: Scope, first: str, second: str, output: str) -> Members:
    a, b = scope.tensor(first), scope.tensor(second)
    multiplier = _multiplier("", fixed_point(a.scale * b.scale / scope.tensor(output).scale))
    return {**multiplier, "a_zero": a.zero_point, "b_zero": b.zero_point}


def _multiplier(prefix: str, multiplier: Multiplier) -> Members:
    return {f"{prefix}mantissa": multiplier.mantissa, f"{prefix}exponent": multiplier.exponent}


def emit_pool(operation: Pool, scope: Scope) -> Fragment:
    """Return the C code of a pooling operation.

    Args:
        operation: Operation.
        scope: What the code refers to.

    Returns:
        The code.
    """
    channels, height, width = image_shape(scope.tensor(operation.source))
    _, out_height, out_width = image_shape(scope.tensor(operation.output))
    members: Members = {"in_height": height, "in_width": width, "channels": channels}
    members |= {"out_height": out_height, "out_width": out_width}
    members |= {"kernel_height": operation.kernel[0], "kernel_width": operation.kernel[1]}
    members |= {"stride_y": operation.stride[0], "stride_x": operation.stride[1]}
    members |= {"top": operation.padding[0], "left": operation.padding[1]}
    kernel = f"{operation.operator}_pool"
    return Fragment(
        call=f"haq_{kernel}(&{scope.name}, {scope.pointers[operation.source]}, {scope.pointers[operation.output]});",
        kernels=(kernel,),
        constants=structure("haq_pool", scope.name, members),
        constant_bytes=_POOL_BYTES,
    )


def emit_concatenation(operation: Concatenation, scope: Scope) -> Fragment:
    """Return the C code of a concatenation.

    Args:
        operation: Operation.
        scope: What the code refers to.

    Returns:
        The code.
    """
    total, height, width = image_shape(scope.tensor(operation.output))
    calls, start = [], 0
    for source in operation.sources:
        channels = image_shape(scope.tensor(source))[0]
        target = f"{scope.pointers[operation.output]} + {start}"
        calls.append(f"haq_interleave({scope.pointers[source]}, {channels}, {target}, {total}, {height * width});")
        start += channels
    return Fragment(call="\n".join(calls), kernels=("interleave",))


def emit_table(operation: Table, scope: Scope) -> Fragment:
    """Return the C code of a function of single codes.

    Args:
        operation: Operation.
        scope: What the code refers to.

    Returns:
        The code.
    """
    count = count_of(scope.tensor(operation.source))
    return Fragment(
        call=f"haq_table({scope.name}, {scope.pointers[operation.source]}, {scope.pointers[operation.output]}, "
        f"{count});",
        kernels=("table",),
        constants=array("int8_t", scope.name, operation.codes.tolist()),
        constant_bytes=_TABLE_BYTES,
    )


def emit_rearrangement(operation: Rearrangement, scope: Scope) -> Fragment:
    """Return the C code of a change of shape or selection.

    Args:
        operation: Operation.
        scope: What the code refers to.

    Returns:
        The code; none for a flattened image whose codes stay where they are.
    """
    source, output = scope.pointers[operation.source], scope.pointers[operation.output]
    channels, height, width = image_shape(scope.tensor(operation.source))
    if operation.operator == "flatten":
        if source == output:
            return Fragment(call="", kernels=())
        return Fragment(call=f"haq_flatten({source}, {output}, {height * width}, {channels});", kernels=("flatten",))
    if operation.operator == "pad":
        return _pad(operation, scope)
    _, out_height, out_width = image_shape(scope.tensor(operation.output))
    strides = f"{operation.stride[0]}, {operation.stride[1]}"
    call = f"haq_subsample({source}, {width}, {channels}, {strides}, {output}, {out_height}, {out_width});"
    return Fragment(call=call, kernels=("subsample",))


def _pad(operation: Rearrangement, scope: Scope) -> Fragment:
    channels, height, width = image_shape(scope.tensor(operation.source))
    out_channels, out_height, out_width = image_shape(scope.tensor(operation.output))
    front, top, left = (*(before for before, _ in operation.padding), 0, 0)[:3]
    members: Members = {"in_height": height, "in_width": width, "in_channels": channels}
    members |= {"out_height": out_height, "out_width": out_width, "out_channels": out_channels}
    members |= {"top": top, "left": left, "front": front, "code": scope.tensor(operation.source).zero_point}
    return Fragment(
        call=f"haq_pad(&{scope.name}, {scope.pointers[operation.source]}, {scope.pointers[operation.output]});",
        kernels=("pad",),
        constants=structure("haq_padding", scope.name, members),
        constant_bytes=_PADDING_BYTES,
    )
