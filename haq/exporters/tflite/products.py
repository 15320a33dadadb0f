"""Convolutions of TFLite for the products of an integer network."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from haq.exporters.formats import ExportedLayer
from haq.exporters.integer.network import Codes, IntegerNetwork, Product, code_bits
from haq.exporters.tflite.flatbuffer import Operator, Quantization
from haq.exporters.tflite.graph import Graph, layout
from haq.exporters.tflite.storage import (
    DECODE_NAME,
    STORED_BITS,
    Bytes,
    lookup_table,
    pack_indices,
    pack_int4,
)
from haq.exporters.tflite.windows import Axis, window_padding
from hardware_sim.weight_storage import IntegerStorage, choose_storage, storage_bytes

CONVOLUTION = Operator("CONV_2D", 3, "Conv2DOptions")
CONVOLUTION_INT4 = Operator("CONV_2D", 7, "Conv2DOptions")
DEPTHWISE = Operator("DEPTHWISE_CONV_2D", 3, "DepthwiseConv2DOptions")
DEPTHWISE_INT4 = Operator("DEPTHWISE_CONV_2D", 6, "DepthwiseConv2DOptions")  # 7 means the same to kernels that have it
DECODE = Operator(DECODE_NAME)
INPUT_BITS = 8


def fit_to_storage(network: IntegerNetwork, *, lookup_tables: bool) -> IntegerNetwork:
    """Round the biases of a network to steps that its weights in a file have.

    Biases have the steps of the stored weights, so codes are stored shifted left as far as their storage reaches. That
    keeps the biases of the network for int8 and tables; those of int4 are rounded to coarser steps.

    Args:
        network: Integer network.
        lookup_tables: Whether weights may be stored as lookup tables.

    Returns:
        The network that the file computes.
    """
    return replace(
        network,
        operations=tuple(
            _fitted(each, lookup_tables=lookup_tables) if isinstance(each, Product) else each
            for each in network.operations
        ),
    )


def _fitted(product: Product, *, lookup_tables: bool) -> Product:
    room = STORED_BITS[storage_of(product, lookup_tables=lookup_tables)] - code_bits(product.weights)
    lost = max(product.shift - room, 0)
    bias = np.rint(product.bias / (1 << lost)).astype(np.int32)
    return replace(product, shift=product.shift - lost, bias=bias)


def storage_of(product: Product, *, lookup_tables: bool) -> IntegerStorage:
    """Choose the storage of the weights of a product.

    Args:
        product: Operation.
        lookup_tables: Whether tables are allowed.

    Returns:
        The storage.
    """
    return choose_storage(product.weights.size, code_bits(product.weights), lookup_tables=lookup_tables)


def write_product(graph: Graph, product: Product) -> None:
    """Write a convolution or a matrix product.

    Matrix products are convolutions of one pixel: the fully connected kernel of LiteRT rounds weights with a scale per
    channel once, that of TensorFlow Lite Micro twice, while all convolutions agree.

    Args:
        graph: Graph to write to.
        product: Operation.
    """
    source = graph.network.tensors[product.source]
    weights = product.weights.reshape((*product.weights.shape, 1, 1)[:4])
    depthwise = product.groups > 1 and product.groups == source.shape[0]
    codes = weights.transpose(1, 2, 3, 0) if depthwise else weights.transpose(0, 2, 3, 1)
    padding = window_padding(*_axes(graph, product, (weights.shape[2], weights.shape[3])))
    image = graph.padded(product.source, padding)
    index, is_int4 = _write_weights(graph, product, codes, 3 if depthwise else 0)
    inputs = (image, index, _write_bias(graph, product))
    options = {"depthMultiplier": weights.shape[0] // product.groups} if depthwise else {}
    operators = (DEPTHWISE, DEPTHWISE_INT4) if depthwise else (CONVOLUTION, CONVOLUTION_INT4)

    def write(output: int, activation: int) -> None:
        graph.writer.operator(
            operators[is_int4],
            inputs,
            output,
            padding=0 if padding.same else 1,
            strideH=product.stride[0],
            strideW=product.stride[1],
            dilationHFactor=product.dilation[0],
            dilationWFactor=product.dilation[1],
            fusedActivationFunction=activation,
            **options,
        )

    graph.write_clamped(product.output, product.low, product.high, write)


def _axes(graph: Graph, product: Product, kernel: tuple[int, int]) -> tuple[Axis, Axis]:
    """Return the windows along height and width."""
    sizes = layout(graph.network.tensors[product.source].shape)[1:3]
    outputs = layout(graph.network.tensors[product.output].shape)[1:3]
    vertical, horizontal = (
        Axis(sizes[n], outputs[n], kernel[n], product.stride[n], product.dilation[n], product.padding[n])
        for n in range(2)
    )
    return vertical, horizontal


def _write_weights(graph: Graph, product: Product, codes: Codes, axis: int) -> tuple[int, bool]:
    """Write the weights; return the index of the tensor that the operator takes and whether it is int4."""
    storage, bits = storage_of(product, lookup_tables=graph.lookup_tables), code_bits(codes)
    name, writer = f"{product.layer}.weight", graph.writer
    scales = Quantization(scale=_scales(product).astype(np.float32), axis=axis)
    values = np.ascontiguousarray(codes) << product.shift
    data = _stored(values, codes, storage)
    _note(graph, product, storage, data.tobytes())
    if storage != "table":
        dtype = storage.upper()
        return writer.tensor(name, codes.shape, dtype=dtype, quantization=scales, data=data), storage == "int4"
    indices = writer.constant(f"{name}.indices", data)
    table = writer.constant(f"table{bits}", lookup_table(bits, product.shift))
    decoded = writer.tensor(name, codes.shape, quantization=scales)
    writer.operator(DECODE, (indices, table), decoded)
    return decoded, False


def _stored(values: Codes, codes: Codes, storage: IntegerStorage) -> Bytes:
    """Return the bytes of weights in the file."""
    if storage == "table":
        return pack_indices(codes, code_bits(codes))
    return pack_int4(values) if storage == "int4" else np.frombuffer(values.tobytes(), np.uint8)


def _note(graph: Graph, product: Product, storage: IntegerStorage, data: bytes) -> None:
    """Note how a layer is stored; equal weights, such as those of tied layers, are stored once."""
    bits = code_bits(product.weights)
    label = f"table of {2**bits} values" if storage == "table" else storage
    first = graph.stored.setdefault((label, data), product.layer)
    graph.layers[product.layer] = ExportedLayer(
        name=product.layer,
        w_bits=product.w_bits,
        a_bits=INPUT_BITS,
        storage=label if first == product.layer else f"{label}, shared with {first}",
        weight_bytes=storage_bytes(product.weights.size, bits, storage) if first == product.layer else 0,
    )


def _write_bias(graph: Graph, product: Product) -> int:
    """Write the bias in steps of the accumulator; return its index."""
    scale = graph.network.tensors[product.source].scale * _scales(product)
    return graph.writer.constant(f"{product.layer}.bias", product.bias, Quantization(scale=scale.astype(np.float32)))


def _scales(product: Product) -> NDArray[np.float64]:
    """Return the step sizes of shifted codes."""
    return product.w_scale / (1 << product.shift)
