"""Integer networks of small ONNX graphs without layers, compared with what onnxruntime computes from them."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import parser
from torch import nn

from haq.errors import UserError
from haq.evaluation.engines.onnxruntime import Template
from haq.exporters.integer.lowering import lower_to_integers
from haq.exporters.integer.network import Elementwise, IntegerNetwork, Pool, Product, Rearrangement, Table
from haq.exporters.integer.reference import run
from haq.quantization.corrections import Corrections
from haq.quantization.quantizers import Quantizers

IMAGES = torch.randn(16, 4, 6, 6, generator=torch.Generator().manual_seed(0)) + 0.2


def graph(body: str, *, result: str = "float[n, 4, 6, 6]", constants: str = "") -> onnx.ModelProto:
    head = '<ir_version: 10, opset_import: ["" : 24]>'
    return parser.parse_model(f"{head} g (float[n, 4, 6, 6] x) => ({result} y) <{constants}> {{ {body} }}")


def lower(model: onnx.ModelProto) -> IntegerNetwork:
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    template = Template(model, tuple(model.graph.node), constants, (), {}, {})
    quantizers = Quantizers(nn.Identity(), None, lambda: [])  # type: ignore[arg-type]
    return lower_to_integers(template, quantizers, ((), ()), corrections=Corrections(), batches=[IMAGES])


def error(model: onnx.ModelProto, network: IntegerNetwork) -> float:
    """Largest difference, in steps of the output."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": IMAGES.numpy()})
    found: NDArray[np.float32] = run(network, IMAGES.numpy())
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / network.tensors[network.output].scale)


def kinds(network: IntegerNetwork) -> list[str]:
    return [type(each).__name__ for each in network.operations]


FUNCTIONS = {
    "silu": "s = Sigmoid(x) y = Mul(x, s)",
    "h-swish": "y = HardSwish(x)",
    "h-swish in parts": "h = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x) y = Mul(x, h)",
    "h-sigmoid": "y = HardSigmoid(x)",
    "leaky": "y = LeakyRelu<alpha = 0.1>(x)",
    "mish": "p = Softplus(x) t = Tanh(p) y = Mul(x, t)",
    "mish node": "y = Mish(x)",
    "gelu": "y = Gelu(x)",
    "gelu tanh": 'y = Gelu<approximate = "tanh">(x)',
    "gelu in parts": "d = Div(x, root) e = Erf(d) o = Add(e, one) h = Mul(x, half) y = Mul(h, o)",
    "elu": "y = Elu<alpha = 0.7>(x)",
    "selu": "y = Selu(x)",
    "swish": "y = Swish<alpha = 1.5>(x)",
    "threshold": "g = Greater(x, nought) e = Elu(x) y = Where(g, x, e)",
    "clip": "y = Clip(x, half, one)",
    "square": "y = Pow(x, two)",
    "absolute": "n = Neg(x) y = Max(x, n)",
}
CONSTANTS = "float root = {1.4142135}, float one = {1}, float half = {0.5}, float two = {2}, float nought = {0}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_chain_of_functions_is_one_table(name: str) -> None:
    model = graph(FUNCTIONS[name], constants=CONSTANTS)
    network = lower(model)
    assert kinds(network) == ["Table"]
    # The input has 8 bits too, and is clipped where that lowers its mean squared error.
    slope = network.tensors[network.input].scale / network.tensors[network.output].scale
    assert error(model, network) < 0.51 + 8 * max(slope, 1)


SHAPES = {
    "max": ("y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 0, 0]>(x)", "float[n, 4, 3, 3]", 0),
    "ceil": ("y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>(x)", "float[n, 4, 3, 3]", 0),
    "same": (
        'y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_UPPER">(x)',
        "float[n, 4, 3, 3]",
        0,
    ),
    "average": ("y = AveragePool<kernel_shape = [2, 2], pads = [1, 1, 1, 1]>(x)", "float[n, 4, 7, 7]", 1),
    "zeros count": (
        "y = AveragePool<kernel_shape = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1>(x)",
        "float[n, 4, 7, 7]",
        1,
    ),
    "global": ("y = GlobalAveragePool(x)", "float[n, 4, 1, 1]", 1),
    "mean": ("y = ReduceMean<keepdims = 0>(x, axes)", "float[n, 4]", 1),
    "flat": ("y = Flatten(x)", "float[n, 144]", 0),
    "reshape": ("y = Reshape(x, shape)", "float[n, 144]", 0),
    "pad": ("y = Pad(x, pads)", "float[n, 7, 6, 6]", 0),
    "borders": ("y = Pad(x, borders)", "float[n, 4, 7, 8]", 0),
    "subsample": ("s = Slice(x, zero, end, height, step) y = Slice(s, zero, end, width, step)", "float[n, 4, 3, 3]", 0),
    "concatenation": ("r = Relu(x) y = Concat<axis = 1>(r, x)", "float[n, 8, 6, 6]", 0),
    "channels": ("a = Mul(x, scales) y = Sub(a, scales)", "float[n, 4, 6, 6]", 2),
    "scaled vectors": ("m = ReduceMean<keepdims = 0>(x, axes) y = Mul(m, vector)", "float[n, 4]", 3),
}
SHAPE_CONSTANTS = """int64[2] axes = {2, -1}, int64[2] shape = {-1, 144}, int64[8] pads = {0, 1, 0, 0, 0, 2, 0, 0},
    int64[8] borders = {0, 0, 1, 0, 0, 0, 0, 2}, int64[1] zero = {0}, int64[1] end = {9223372036854775807},
    int64[1] height = {2}, int64[1] width = {3}, int64[1] step = {2}, float[1, 4, 1, 1] scales = {1.5, -1, 0.5, 0.1},
    float[4] vector = {1.5, -1, 0.5, 0.1}"""


@pytest.mark.parametrize("name", SHAPES)
def test_operators_on_shapes_and_windows_are_exact_but_for_rounding(name: str) -> None:
    body, result, rounding = SHAPES[name]
    model = graph(body, result=result, constants=SHAPE_CONSTANTS)
    network = lower(model)
    # An input beyond the calibrated range is clipped; the largest of these values lie half a dozen steps beyond it.
    assert error(model, network) < 0.51 + 8 + rounding


def test_two_selections_of_pixels_are_one() -> None:
    body, result, _ = SHAPES["subsample"]
    (operation,) = lower(graph(body, result=result, constants=SHAPE_CONSTANTS)).operations
    assert isinstance(operation, Rearrangement)
    assert operation.stride == (2, 2)


def test_a_sum_and_its_relu_are_one_operation() -> None:
    network = lower(graph("n = Tanh(x) s = Add(x, n) t = MaxPool<kernel_shape=[1, 1]>(x) u = Add(t, s) y = Relu(u)"))
    add = next(each for each in network.operations if isinstance(each, Elementwise))
    assert add.low == network.tensors[add.output].zero_point


def test_a_gate_of_an_image_comes_second() -> None:
    network = lower(graph("m = GlobalAveragePool(x) s = Sigmoid(m) y = Mul(s, x)"))
    (multiply,) = (each for each in network.operations if isinstance(each, Elementwise))
    assert [network.tensors[name].shape for name in multiply.sources] == [(4, 6, 6), (4, 1, 1)]


def test_scales_of_channels_are_products_of_8_bits_whose_codes_have_the_sign() -> None:
    network = lower(graph("y = Mul(x, scales)", constants=SHAPE_CONSTANTS))
    (product,) = network.operations
    assert isinstance(product, Product)
    assert product.weights.flatten().tolist() == [127, -127, 127, 127]
    assert (product.w_bits, product.groups) == (8, 4)


def test_a_function_that_moves_zero_is_applied_after_added_zeros() -> None:
    model = graph("p = Pad(x, borders) y = Sigmoid(p)", result="float[n, 4, 7, 8]", constants=SHAPE_CONSTANTS)
    network = lower(model)
    assert kinds(network) == ["Rearrangement", "Table"]
    assert run(network, IMAGES.numpy())[0, 0, 0, 0] == pytest.approx(0.5, abs=0.01)


def test_readers_of_one_function_share_its_table() -> None:
    network = lower(
        graph("a = Tanh(x) b = MaxPool<kernel_shape = [1, 1]>(x) c = Add(a, b) d = GlobalMaxPool(a) y = Mul(c, d)")
    )
    assert sum(isinstance(each, Table) for each in network.operations) == 1
    assert sum(isinstance(each, Pool) for each in network.operations) == 2


REFUSED = {
    "y = Softmax(x)": "operator Softmax .y. cannot be computed in integers alone; end the network with the logits",
    "y = Transpose<perm = [0, 1, 3, 2]>(x)": "operator Transpose",
    "s = GlobalAveragePool(x) y = Div(x, s)": "operator Div of several tensors",
    "y = Pad<mode = \"reflect\">(x, borders)": "operator Pad other than with zeros",
    "y = Slice(x, step, end, height)": "operator Slice other than of every n-th pixel",
    "y = ReduceMean(x)": "operator ReduceMean of shape",
    "y = Concat<axis = 2>(x, x)": "operator Concat along another axis",
    "y = MaxPool<kernel_shape = [2, 2], dilations = [2, 2]>(x)": "operator MaxPool with dilation",
    "y = Reshape(x, shape)": "operator Reshape over the batch",
    "y = PRelu(x, slopes)": "operator PRelu with constants of several values",
}  # fmt: skip


@pytest.mark.parametrize("body", REFUSED)
def test_operators_without_integer_form_are_refused_by_name(body: str) -> None:
    constants = SHAPE_CONSTANTS.replace("{-1, 144}", "{-1, 72}") + ", float[4, 1, 1] slopes = {0.1, 0.2, 0.3, 0.4}"
    with pytest.raises(UserError, match=REFUSED[body]) as found:
        lower(graph(body, constants=constants))
    assert str(found.value).endswith("--format onnx exports it")
