"""Exact execution of integer networks in numpy, which the runtimes of C programs and TFLite files are compared with."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from haq.exporters.integer.arithmetic import ADDITION_SHIFT, Wide, fixed_point, fixed_points, multiply
from haq.exporters.integer.convolution import accumulate
from haq.exporters.integer.network import (
    Codes,
    CodeTensor,
    Concatenation,
    Elementwise,
    IntegerNetwork,
    Operation,
    Pool,
    Product,
    Rearrangement,
    Table,
    sources_of,
)
from haq.exporters.integer.pooling import average, largest

IMAGES_AT_ONCE = 16

Tensors = Mapping[str, CodeTensor]


def run(network: IntegerNetwork, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a network.

    Args:
        network: Integer network.
        inputs: Inputs, [n, ...].

    Returns:
        Outputs, [n, ...].
    """
    parts = [inputs[start : start + IMAGES_AT_ONCE] for start in range(0, len(inputs), IMAGES_AT_ONCE)]
    return np.concatenate([dequantize(network, run_codes(network, part)[network.output]) for part in parts])


def run_codes(network: IntegerNetwork, inputs: NDArray[np.float32]) -> dict[str, Codes]:
    """Run a network and return the codes of all tensors.

    Args:
        network: Integer network.
        inputs: Inputs, [n, ...].

    Returns:
        Codes by tensor, [n, ...] each.
    """
    codes = {network.input: quantize(network, inputs)}
    codes.update(run_from(network, codes))
    return codes


def run_from(network: IntegerNetwork, given: Mapping[str, Codes]) -> Iterator[tuple[str, Codes]]:
    """Run a network from given codes.

    Args:
        network: Integer network.
        given: Codes by tensor, [n, ...] each; of these tensors the given codes are used instead of computed ones.

    Returns:
        Iterator over the names and codes that are computed, in order.
    """
    codes = dict(given)
    for operation in network.operations:
        found = run_operation(operation, network.tensors, *(codes[name] for name in sources_of(operation)))
        codes.setdefault(operation.output, found)
        yield operation.output, found


def quantize(network: IntegerNetwork, inputs: NDArray[np.float32]) -> Codes:
    """Quantize the inputs of a network in float32: divide, round to nearest with halves to even, add the zero point.

    Args:
        network: Integer network.
        inputs: Inputs, [n, ...].

    Returns:
        Codes, [n, ...].
    """
    tensor = network.tensors[network.input]
    codes = np.rint(inputs.astype(np.float32) / np.float32(tensor.scale)) + tensor.zero_point
    return np.asarray(np.clip(codes, tensor.q_min, tensor.q_max), np.int8)


def dequantize(network: IntegerNetwork, codes: Codes) -> NDArray[np.float32]:
    """Return the values of output codes.

    Args:
        network: Integer network.
        codes: Codes of its output, [n, ...].

    Returns:
        Values, [n, ...].
    """
    tensor = network.tensors[network.output]
    values: NDArray[np.float32] = (codes.astype(np.float32) - tensor.zero_point) * np.float32(tensor.scale)
    return values


def run_operation(operation: Operation, tensors: Tensors, *sources: Codes) -> Codes:
    """Compute one operation.

    Args:
        operation: Operation of an integer network.
        tensors: Tensors of the network.
        *sources: Codes of its input tensors, [n, ...] each.

    Returns:
        Codes of its output, [n, ...].
    """
    found: Wide | Codes
    match operation:
        case Product():
            found = _product(operation, tensors, sources[0])
        case Elementwise():
            found = _elementwise(operation, tensors, *sources)
        case Pool(operator="max"):
            found = largest(sources[0], operation)
        case Pool():
            found = average(sources[0], operation)
        case Concatenation():
            found = np.concatenate(sources, axis=1)
        case Table():
            found = operation.codes[sources[0].astype(np.int64) + 128]
        case Rearrangement():
            found = _rearranged(operation, tensors, sources[0])
    return np.asarray(found, np.int8)


def _product(operation: Product, tensors: Tensors, codes: Codes) -> Wide:
    source, output = tensors[operation.source], tensors[operation.output]
    sums = accumulate(operation, codes.astype(np.int64) - source.zero_point)
    channels = (-1, *(1 for _ in output.shape[1:]))
    sums = (sums << operation.shift) + operation.bias.reshape(channels)
    factors = fixed_points(source.scale * (operation.w_scale / 2**operation.shift) / output.scale)
    multipliers = type(factors)(*(part.reshape(channels) for part in factors))
    return np.clip(multiply(sums, multipliers) + output.zero_point, operation.low, operation.high)


def _elementwise(operation: Elementwise, tensors: Tensors, *codes: Codes) -> Wide:
    first, second = (tensors[name] for name in operation.sources)
    output = tensors[operation.output]
    values = [each.astype(np.int64) - tensor.zero_point for each, tensor in zip(codes, (first, second), strict=True)]
    if operation.operator == "multiply":
        found = multiply(values[0] * values[1], fixed_point(first.scale * second.scale / output.scale))
    else:
        largest_scale = 2 * max(first.scale, second.scale)
        total = sum(
            multiply(each << ADDITION_SHIFT, fixed_point(tensor.scale / largest_scale))
            for each, tensor in zip(values, (first, second), strict=True)
        )
        found = multiply(np.asarray(total), fixed_point(largest_scale / (2**ADDITION_SHIFT * output.scale)))
    return np.clip(found + output.zero_point, operation.low, operation.high)


def _rearranged(operation: Rearrangement, tensors: Tensors, codes: Codes) -> Codes:
    if operation.operator == "subsample":
        return codes[:, :, :: operation.stride[0], :: operation.stride[1]]
    if operation.operator == "pad":
        zero = tensors[operation.source].zero_point
        return np.pad(codes, ((0, 0), *operation.padding), constant_values=zero)
    return codes.reshape(len(codes), *tensors[operation.output].shape)
