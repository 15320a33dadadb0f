"""Integer operations, computed by hand and compared with floats."""

import numpy as np
import pytest
from numpy.typing import NDArray

from haq.exporters.integer.network import (
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
from haq.exporters.integer.reference import run, run_operation


def tensor(name: str, *shape: int, scale: float = 0.5, zero_point: int = 0) -> CodeTensor:
    return CodeTensor(name=name, shape=shape, scale=scale, zero_point=zero_point)


def compute(operation: Operation, *codes: object, tensors: tuple[CodeTensor, ...]) -> list[object]:
    given = [np.array([each], np.int8) for each in codes]
    return list(run_operation(operation, {each.name: each for each in tensors}, *given)[0].tolist())


def product(weights: object, **changes: object) -> Product:
    codes = np.array(weights, np.int8)
    given = {"w_scale": np.full(len(codes), 0.5), "bias": np.zeros(len(codes), np.int32), "low": -128, "high": 127}
    return Product(layer="p", source="x", output="y", weights=codes, w_bits=8, **{**given, **changes})  # type: ignore[arg-type]


def test_a_matrix_product_is_requantized_with_bias_and_bounds() -> None:
    # x = (1, 2) * 0.5, weights (3, 4) * 0.5: 11 steps of 0.25 and a bias of 5 steps are 4.0, in steps of 0.5
    tensors = (tensor("x", 2), tensor("y", 1))
    assert compute(product([[3, 4]], bias=np.array([5], np.int32)), [1, 2], tensors=tensors) == [8]
    assert compute(product([[3, 4]], bias=np.array([5], np.int32), high=6), [1, 2], tensors=tensors) == [6]


def test_sums_are_shifted_before_the_bias_is_added() -> None:
    tensors = (tensor("x", 2), tensor("y", 1))
    found = compute(product([[1, 1]], bias=np.array([6], np.int32), shift=2), [1, 2], tensors=tensors)
    assert found == [2]  # (3 * 4 + 6) steps of 0.0625 are 1.125, in steps of 0.5


def test_zeros_around_an_image_have_the_code_of_zero() -> None:
    tensors = (tensor("x", 1, 1, 1, zero_point=-128), tensor("y", 1, 2, 2))
    padded = product([[[[2, 0], [0, 0]]]], padding=(1, 1, 1, 1))
    assert compute(padded, [[[-124]]], tensors=tensors) == [[[0, 0], [0, 4]]]


def test_channels_of_groups_meet_their_own_weights() -> None:
    tensors = (tensor("x", 2, 1, 1), tensor("y", 2, 1, 1))
    assert compute(product([[[[2]]], [[[-2]]]], groups=2), [[[3]], [[5]]], tensors=tensors) == [[[3]], [[-5]]]


def test_a_sum_of_two_scales_is_rounded_once_more() -> None:
    tensors = (tensor("a", 2), tensor("b", 2, scale=0.25), tensor("y", 2, scale=1.0, zero_point=3))
    add = Elementwise(operator="add", sources=("a", "b"), output="y", low=-128, high=4)
    assert compute(add, [2, 100], [4, 100], tensors=tensors) == [3 + 2 - 1, 4]  # 1.0 + 1.0, clipped at 1.0


def test_a_product_with_one_value_per_channel_is_spread_over_the_image() -> None:
    tensors = (tensor("a", 1, 1, 2), tensor("b", 1, 1, 1), tensor("y", 1, 1, 2))
    multiply = Elementwise(operator="multiply", sources=("a", "b"), output="y", low=-128, high=127)
    assert compute(multiply, [[[2, -4]]], [[[6]]], tensors=tensors) == [[[6, -12]]]


def test_means_leave_out_the_padding_and_round_halves_away_from_zero() -> None:
    pool = Pool(operator="average", source="x", output="y", kernel=(2, 2), stride=(2, 2), padding=(1, 1, 0, 0))
    tensors = (tensor("x", 1, 1, 3), tensor("y", 1, 1, 2))
    assert compute(pool, [[[-7, 1, -4]]], tensors=tensors) == [[[-7, -2]]]


def test_the_largest_code_of_a_window_is_inside_the_image() -> None:
    pool = Pool(operator="max", source="x", output="y", kernel=(1, 2), stride=(1, 2), padding=(0, 1, 0, 0))
    assert compute(pool, [[[-7, 1, -4]]], tensors=(tensor("x", 1, 1, 3), tensor("y", 1, 1, 2))) == [[[-7, 1]]]


def test_other_operations_move_codes() -> None:
    x = tensor("x", 1, 2, 2, zero_point=5)
    image = [[[1, 2], [3, 4]]]
    flat = Rearrangement(operator="flatten", source="x", output="y")
    assert compute(flat, image, tensors=(x, tensor("y", 4))) == [1, 2, 3, 4]
    pad = Rearrangement(operator="pad", source="x", output="y", padding=((0, 1), (0, 0), (0, 0)))
    assert compute(pad, image, tensors=(x, tensor("y", 2, 2, 2))) == [image[0], [[5, 5], [5, 5]]]
    every = Rearrangement(operator="subsample", source="x", output="y", stride=(2, 2))
    assert compute(every, image, tensors=(x, tensor("y", 1, 1, 1))) == [[[1]]]
    both = Concatenation(sources=("x", "x"), output="y")
    assert compute(both, image, image, tensors=(x, tensor("y", 2, 2, 2))) == [*image, *image]
    table = Table(source="x", output="y", codes=np.arange(127, -129, -1, dtype=np.int8))
    assert compute(table, image, tensors=(x, tensor("y", 1, 2, 2))) == [[[-2, -3], [-4, -5]]]


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_convolutions_agree_with_floats_within_one_code(groups: int) -> None:
    generator = np.random.default_rng(groups)
    codes = generator.integers(-128, 128, (2, 6, 7, 5), dtype=np.int8)
    weights = generator.integers(-127, 128, (6, 6 // groups, 3, 3), dtype=np.int8)
    x, y = tensor("x", 6, 7, 5, scale=0.02, zero_point=3), tensor("y", 6, 4, 3, scale=0.8, zero_point=-7)
    changes = {"w_scale": generator.uniform(0.01, 0.05, 6), "stride": (2, 2), "padding": (1, 1, 1, 1), "groups": groups}
    operation = product(weights, **changes)
    found = run_operation(operation, {"x": x, "y": y}, codes)
    exact = convolve(
        np.asarray((codes - 3.0) * x.scale, np.float64), weights * operation.w_scale[:, None, None, None], groups
    )
    assert np.abs(found - np.clip(exact / y.scale - 7, -128, 127)).max() <= 0.5 + 1e-5


def convolve(images: NDArray[np.float64], weights: NDArray[np.float64], groups: int) -> NDArray[np.float64]:
    torch = pytest.importorskip("torch")
    found = torch.nn.functional.conv2d(*map(torch.from_numpy, (images, weights)), stride=2, padding=1, groups=groups)
    return np.asarray(found)


def test_inputs_are_quantized_with_halves_to_even_and_outputs_dequantized() -> None:
    network = IntegerNetwork(name="n", input="x", output="x", tensors={"x": tensor("x", 4, zero_point=1)})
    outputs = run(network, np.array([[0.25, 0.75, -1.0, 1e9]], np.float32))
    assert outputs.tolist() == [[0.0, 1.0, -1.0, 63.0]]


def test_operations_name_what_they_read() -> None:
    assert sources_of(Concatenation(sources=("a", "b"), output="c")) == ("a", "b")
    assert sources_of(Table(source="a", output="b", codes=np.zeros(256, np.int8))) == ("a",)
