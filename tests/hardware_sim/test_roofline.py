"""Rooflines, computed by hand."""

import numpy as np
import pytest

from hardware_sim.catalog import load_accelerator
from hardware_sim.cost import width_index
from hardware_sim.layer import Layer
from hardware_sim.roofline import Precision, Roofline, attainable_macs_per_s

LAYER = Layer(name="f", kind="linear", c_in=1000, c_out=500)


def device(**changes: object) -> Roofline:
    values = {
        "name": "x",
        "description": "x",
        "precisions": [{"bits": 4, "macs_per_s": 4e9, "efficiency": 0.5}, {"bits": 8, "macs_per_s": 1e9}],
        "memory_bytes_per_s": 1e9,
        "dram_pj_per_bit": 10.0,
        "static_w": 2.0,
    }
    return Roofline.model_validate({**values, **changes})


def test_both_operands_round_up_to_the_wider_type() -> None:
    table = device().table([LAYER])
    assert table.dram_bits[0, width_index(3), width_index(4)] == 4 * (500_000 + 1000) + 8 * 500
    assert table.dram_bits[0, width_index(2), width_index(5)] == 8 * (500_000 + 1000) + 8 * 500
    assert np.isnan(table.latency_s[0, width_index(None), width_index(8)])


def test_the_slower_of_arithmetic_and_memory_counts() -> None:
    table = device().table([LAYER], batch=4)
    assert table.latency_s[0, 7, 7] == pytest.approx(4 * 500_000 / 1e9)
    assert table.bound(0, 8, 8) == "compute"
    small = device().table([LAYER])
    assert small.latency_s[0, 7, 7] == pytest.approx((500_000 + 1000 + 500) / 1e9)
    assert small.bound(0, 8, 8) == "memory"


def test_energy_by_hand() -> None:
    cost = device().table([LAYER], batch=4).layer_cost(0, 4, 4)
    bits = 4 * 500_000 + 4 * 4 * 1000 + 4 * 8 * 500
    latency_s = max(4 * 500_000 / 2e9, bits / 8e9)
    assert cost.latency_s == pytest.approx(latency_s)
    assert cost.energy_parts_j == pytest.approx(
        {"compute": 2e6 * 0.15e-12, "dram": bits * 10e-12, "static": 2 * latency_s}
    )


def test_published_peaks() -> None:
    a100, t4, orin = (load_accelerator(f"gpu-{name}") for name in ("a100", "t4", "orin"))
    assert [2e-12 * a100.peak_macs_per_s(bits, bits) for bits in (4, 8, None)] == [1248, 624, 312]
    assert t4.peak_macs_per_s(4, 4) / t4.peak_macs_per_s(8, 8) == pytest.approx(1.45)
    assert orin.peak_macs_per_s(2, 2) == orin.peak_macs_per_s(8, 8) == 42.5e12


def test_ridge_point_is_intersection_of_bounds() -> None:
    one = device()
    ridge = one.ridge_point(8, 8)
    assert ridge == 1.0
    roof = attainable_macs_per_s(np.array([ridge / 2, ridge, 2 * ridge]), macs_per_s=1e9, bytes_per_s=1e9)
    assert roof.tolist() == [5e8, 1e9, 1e9]
    assert one.ridge_point(None, None) is None


def test_float_layers_use_float_type() -> None:
    a100 = load_accelerator("gpu-a100")
    assert a100.peak_macs_per_s(None, 4) == a100.peak_macs_per_s(None, None) == 156e12


@pytest.mark.parametrize("bits", [[8, 4], [4, 4]])
def test_unsorted_precisions_raise(bits: list[int]) -> None:
    with pytest.raises(ValueError, match="precisions must be in order of increasing bits"):
        device(precisions=[{"bits": one, "macs_per_s": 1e9} for one in bits])


def test_float_types_of_up_to_16_bits_cost_half_precision_energy() -> None:
    def mac_pj(bits: int) -> float:
        return Precision(bits=bits, macs_per_s=1e9, is_float=True).mac_energy_j * 1e12

    # Multiplication and addition: 1.1 + 0.4 pJ at 16 bits, 3.7 + 0.9 pJ at 32.
    assert [mac_pj(bits) for bits in (8, 16)] == pytest.approx([1.5, 1.5])
    assert [mac_pj(bits) for bits in (17, 32)] == pytest.approx([4.6, 4.6])


def test_widths_up_to_that_of_the_type_are_supported() -> None:
    integer, real = (Precision(bits=8, macs_per_s=1e9, is_float=each) for each in (False, True))
    assert [integer.supports(bits) for bits in (7, 8, 9, None)] == [True, True, False, False]
    assert [real.supports(bits) for bits in (7, 8, 9, None)] == [True, True, False, True]
