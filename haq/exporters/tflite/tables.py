"""Operators of TFLite for functions of single codes."""

import numpy as np

from haq.exporters.integer.arithmetic import fixed_point, multiply
from haq.exporters.integer.grids import ALL_CODES
from haq.exporters.integer.network import Codes, CodeTensor, Table
from haq.exporters.tflite.flatbuffer import Operator
from haq.exporters.tflite.graph import HIGHEST, LOWEST, Graph, layout, quantization_of

QUANTIZE = Operator("QUANTIZE", 2, "QuantizeOptions")
CAST = Operator("CAST", 1, "CastOptions")
ADD_INTEGERS = Operator("ADD", 1, "AddOptions")
GATHER = Operator("GATHER", 2, "GatherOptions")


def write_table(graph: Graph, table: Table) -> None:
    """Write a function of single codes: a clamp or a requantization where it is one, else a lookup.

    A lookup casts codes to int32 and adds 128: indices into a constant of 256 codes. Other operators that compute
    activations, such as LOGISTIC, round differently in different runtimes.

    Args:
        graph: Graph to write to.
        table: Operation.
    """
    source, output = graph.network.tensors[table.source], graph.network.tensors[table.output]
    possible = (source.q_min <= ALL_CODES) & (source.q_max >= ALL_CODES)
    low, high = int(table.codes[possible].min()), int(table.codes[possible].max())
    index = graph.indices[table.source]
    same_grid = (source.scale, source.zero_point) == (output.scale, output.zero_point)
    if same_grid and np.array_equal(ALL_CODES.clip(low, high)[possible], table.codes[possible]):
        graph.write_clamp(index, table.output, low, high)
        return
    codes = requantized(source, output)
    if np.array_equal(codes[possible], table.codes[possible]):
        graph.writer.operator(QUANTIZE, (index,), graph.output(table.output))
    elif np.array_equal(codes.clip(low, high)[possible], table.codes[possible]):
        unclamped = graph.intermediate(output, layout(output.shape), ".unclamped")
        graph.writer.operator(QUANTIZE, (index,), unclamped)
        graph.write_clamp(unclamped, table.output, low, high)
    else:
        _write_lookup(graph, table)


def requantized(source: CodeTensor, output: CodeTensor) -> Codes:
    """Compute what QUANTIZE makes of all codes of a tensor.

    Args:
        source: Input tensor.
        output: Output tensor, of another scale or zero point.

    Returns:
        Output code for each input code from -128 to 127, int8 [256].
    """
    factor = float(np.float32(source.scale)) / float(np.float32(output.scale))
    codes = multiply(ALL_CODES - source.zero_point, fixed_point(factor)) + output.zero_point
    return codes.clip(LOWEST, HIGHEST).astype(np.int8)


def _write_lookup(graph: Graph, table: Table) -> None:
    """Write a lookup in a constant of 256 codes."""
    writer, types = graph.writer, graph.writer.types.TensorType
    output = graph.network.tensors[table.output]
    shape = layout(output.shape)
    wide = writer.tensor(f"{output.name}.wide", shape, dtype="INT32")
    indices = writer.tensor(f"{output.name}.indices", shape, dtype="INT32")
    cast = {"inDataType": types.INT8, "outDataType": types.INT32}
    writer.operator(CAST, (graph.indices[table.source],), wide, **cast)
    writer.operator(ADD_INTEGERS, (wide, graph.integers([-LOWEST])), indices)
    codes = writer.constant(f"{output.name}.codes", table.codes, quantization_of(output))
    writer.operator(GATHER, (codes, indices), graph.output(table.output), axis=0)
