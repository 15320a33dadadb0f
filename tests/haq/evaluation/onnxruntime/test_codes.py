"""Integer weights of a layer, compared with values by hand."""

import numpy as np
import torch

from haq.evaluation.engines.onnxruntime.codes import enlarge_scales, integer_weight
from haq.quantization.linear import QuantizedWeight


def weight(codes: list[list[int]], scale: list[float], bits: int) -> QuantizedWeight:
    return QuantizedWeight(
        codes=torch.tensor(codes, dtype=torch.int8), scale=torch.tensor(scale), bits=bits, channel_axis=0
    )


def test_factor_changes_scales_and_its_sign_changes_codes() -> None:
    found = integer_weight(weight([[3, -127], [1, 2]], [0.5, 0.25], bits=8), np.array([-2.0, 4.0]))
    assert found.codes.tolist() == [[-3, 127], [1, 2]]
    assert found.scale.tolist() == [1.0, 1.0]


def test_codes_of_few_bits_are_stored_as_multiples() -> None:
    found = integer_weight(weight([[7, -7]], [0.5], bits=4))
    assert found.codes.tolist() == [[112, -112]]
    assert found.scale.tolist() == [0.03125]


def test_one_bit_codes_change_sign_with_negative_factor() -> None:
    found = integer_weight(weight([[-1, 0]], [1.0], bits=1), np.array([-1.0]))
    assert (found.codes * found.scale).tolist() == [[1.0, 0.0]]


def test_the_lowest_code_changes_sign_with_negative_factor() -> None:
    for bits, lowest in ((2, -2), (3, -4)):
        found = integer_weight(weight([[lowest, 1]], [1.0], bits=bits), np.array([-1.0]))
        assert (found.codes * found.scale).tolist() == [[-lowest, -1.0]]


def test_transposed_weights_have_channels_on_other_axis() -> None:
    found = integer_weight(weight([[1, 2], [3, 4]], [1.0, 1.0], bits=8)).transposed
    assert found.codes.tolist() == [[1, 3], [2, 4]]
    assert found.axis == 1


def test_enlarge_scales_makes_biases_fit_int32() -> None:
    silent = integer_weight(weight([[100], [100], [100]], [1.0, 1.0, 1.0], bits=8), np.array([0.0, 1e-9, 1.0]))
    found = enlarge_scales(silent, np.array([1.0, 1.0, 1.0]), input_scale=0.5)
    steps = found.scale * 0.5
    assert np.abs(np.array([1.0, 1.0, 1.0]) / steps).max() <= 2**31 - 1
    assert found.codes[0].tolist() == [0]
    # The least scale is 2 / 2^30, so that 100 codes of 1e-9 become 54 of it.
    assert found.codes[1].tolist() == [round(100e-9 / (2 / 2**30))]
    assert (found.codes[2].tolist(), found.scale[2]) == ([100], 1.0)


def test_enlarge_scales_keeps_steps_positive() -> None:
    silent = integer_weight(weight([[0]], [1.0], bits=8), np.array([0.0]))
    found = enlarge_scales(silent, np.array([0.0]), input_scale=1.1754943508222875e-38)
    assert found.scale[0] * np.float32(1.1754943508222875e-38) > 0
