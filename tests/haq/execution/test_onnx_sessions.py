import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from haq.execution.onnx_sessions import session_options


def test_large_products_do_not_saturate() -> None:
    constants = {
        "x_scale": np.float32(1 / 255),
        "x_zero": np.uint8(0),
        "w": np.full((4, 1), 127, np.int8),
        "w_scale": np.array([1 / 127], np.float32),
        "w_zero": np.zeros(1, np.int8),
        "y_scale": np.float32(4 / 255),
        "y_zero": np.uint8(0),
    }
    graph = helper.make_graph(
        [helper.make_node("QLinearMatMul", ["x", *constants], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [1, 1])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), session_options(threads=1))
    (found,) = session.run(None, {"x": np.full((1, 4), 255, np.uint8)})
    assert found.item() == 255  # 4 * 255 * 127 in the accumulator; 129 where pairs saturate at 32,767
