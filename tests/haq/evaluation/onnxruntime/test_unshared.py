"""Layers that share weights or zero points run in integer kernels on every processor, with the same results."""

from collections import Counter

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from haq.evaluation.engines.onnxruntime.sessions import open_session, run_named
from haq.evaluation.engines.onnxruntime.unshared import without_shared_codes

# (-2, 100) becomes (89, -127): -2 * -32 + 100 * 0.25 and -2 * 63.5; then (-128, 127): both are clamped.
CODES = "int8[2, 2, 1, 1] codes = {-128, 1, 127, 0}, int8[2] zero = {0, 0}, float[2] scale = {0.25, 0.5}"
TWO = "a = DequantizeLinear <axis = 0> (codes, scale, zero) b = DequantizeLinear <axis = 0> (codes, scale, zero)"
ONE = "a = DequantizeLinear <axis = 0> (codes, scale, zero)"
GRAPH = """<ir_version: 9, opset_import: ["" : 18]>
g (float[1, 2, 1, 1] x) => (float[1, 2, 1, 1] out) <{codes}, float step = {{1.0}}, uint8 offset = {{128}}>
{{
    {weights}
    q = QuantizeLinear (x, step, offset)  d = DequantizeLinear (q, step, offset)
    y = Conv (d, a)
    q1 = QuantizeLinear (y, step, offset)  d1 = DequantizeLinear (q1, step, offset)
    z = Conv (d1, {second})
    q2 = QuantizeLinear (z, step, offset)  out = DequantizeLinear (q2, step, offset)
}}"""


def graph(weights: str, second: str) -> bytes:
    parsed = onnx.parser.parse_model(GRAPH.format(codes=CODES, weights=weights, second=second))
    return bytes(parsed.SerializeToString())


def output(content: bytes) -> NDArray[np.float32]:
    given = np.array([-2, 100], np.float32).reshape(1, 2, 1, 1)
    (found,) = run_named(open_session(content, threads=1), {"x": given})
    return found.ravel()


@pytest.mark.parametrize(("weights", "second"), [(TWO, "b"), (ONE, "a")], ids=["two readers", "one for two layers"])
def test_shared_codes_are_copied(weights: str, second: str) -> None:
    content = without_shared_codes(graph(weights, second))
    model = onnx.load_model_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    names = {tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT8}
    reads = Counter(name for node in model.graph.node for name in node.input if name in names)
    assert len(names) == 4
    assert set(reads.values()) == {1}
    assert output(content).tolist() == output(graph(weights, second)).tolist() == [-128.0, 127.0]


def test_a_graph_without_sharing_stays_as_it_is() -> None:
    found = onnx.load_model_from_string(without_shared_codes(without_shared_codes(graph(ONE, "a"))))
    assert found == onnx.load_model_from_string(without_shared_codes(graph(ONE, "a")))
