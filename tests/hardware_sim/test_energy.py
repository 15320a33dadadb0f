"""Energy constants, and BISMO's estimate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from hardware_sim.bit_serial import BitSerial
from hardware_sim.catalog import device_names, load_accelerator
from hardware_sim.cost import FloatArray
from hardware_sim.energy import (
    PICO,
    SRAM_BYTES,
    SRAM_PJ_PER_BIT,
    BoardPower,
    integer_mac_energy_j,
    sram_energy_j_per_bit,
)
from hardware_sim.layer import Layer
from hardware_sim.networks import mobilenet_v2

BISMO = [device for device in map(load_accelerator, device_names()) if isinstance(device, BitSerial)]


def test_macs_scale_with_both_widths_above_the_accumulator() -> None:
    assert float(integer_mac_energy_j(2, 8)) == pytest.approx((0.2 * 16 / 64 + 0.1) * PICO)


@pytest.mark.parametrize(("size", "pj"), list(zip(SRAM_BYTES, SRAM_PJ_PER_BIT, strict=True)))
def test_sram_energy_of_published_sizes(size: int, pj: float) -> None:
    assert sram_energy_j_per_bit(size) == pytest.approx(pj * PICO)


def test_sram_energy_is_interpolated_and_constant_beyond() -> None:
    assert sram_energy_j_per_bit(16 * 2**10) == pytest.approx((0.16 * 0.31) ** 0.5 * PICO)
    assert sram_energy_j_per_bit(64) == sram_energy_j_per_bit(SRAM_BYTES[0])
    assert sram_energy_j_per_bit(2**30) == sram_energy_j_per_bit(SRAM_BYTES[-1])


@pytest.mark.parametrize("device", BISMO, ids=lambda device: device.name)
@settings(max_examples=20, deadline=None)
@given(data=st.data(), batch=st.sampled_from([1, 5, 16]))
def test_bismo_power_does_not_exceed_board(
    device: BitSerial, random_layer: SearchStrategy[Layer], data: st.DataObject, batch: int
) -> None:
    table = device.table([data.draw(random_layer)], batch=batch)
    assert table.latency_s is not None
    assert table.energy_j is not None
    assert np.nanmax(table.energy_j / table.latency_s) <= 8.0 * (1 + 1e-12)


@pytest.mark.parametrize("device", BISMO, ids=lambda device: device.name)
def test_bismo_power_at_peak_does_not_exceed_board(device: BitSerial) -> None:
    assert device.power is not None
    rate = device.peak_macs_per_s(1, 1)
    assert rate is not None
    mac_j = device.power.mac_energy_j(peak_macs_per_s=rate, bytes_per_s=device.bytes_per_s)
    memory_w = 8 * device.bytes_per_s * device.power.dram_pj_per_bit * PICO
    assert device.power.static_w + memory_w + rate * mac_j <= 8.0 * (1 + 1e-12)


@pytest.mark.parametrize("device", BISMO, ids=lambda device: device.name)
def test_bismo_notes_energy_estimate(device: BitSerial) -> None:
    assert any("energy is an estimate" in note for note in device.table(mobilenet_v2()).notes)
    assert "estimate" in device.sources["power"]


def test_energy_is_none_without_power() -> None:
    device = BISMO[0].model_copy(update={"power": None})
    assert device.table(mobilenet_v2()).energy_j is None


def ranks(values: FloatArray) -> FloatArray:
    return values.argsort().argsort().astype(np.float64)


@pytest.mark.parametrize("device", BISMO, ids=lambda device: device.name)
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_ranking_of_policies_is_robust_to_static_power(device: BitSerial, factor: float) -> None:
    """Half or twice the static power, which is assumed, hardly changes the ranking of policies."""
    assert device.power is not None
    layers = mobilenet_v2()
    bits = np.random.default_rng(0).integers(1, 8, size=(2, 2000, len(layers)))  # widths 2 to 8
    power = device.power.model_copy(update={"static_w": factor * device.power.static_w})
    stated, other = (
        one.table(layers).totals("energy", bits[0], bits[1])
        for one in (device, device.model_copy(update={"power": power}))
    )
    correlation = float(np.corrcoef(ranks(stated), ranks(other))[0, 1])
    assert correlation > 0.97


def test_faster_device_is_limited_to_the_power_of_the_board() -> None:
    power = BoardPower(board_w=8.0, board_macs_per_s=6e12, static_w=1.5, dram_pj_per_bit=5.0)
    # Memory at 12.5 GB/s takes 0.5 W.
    slower, faster = (power.mac_energy_j(peak_macs_per_s=peak, bytes_per_s=12.5e9) for peak in (1e12, 12e12))
    assert [slower, faster] == pytest.approx([6.0 / 6e12, 6.0 / 12e12])


def test_power_without_anything_left_for_arithmetic_raises() -> None:
    power = BoardPower(board_w=2.0, board_macs_per_s=1e12, static_w=1.5, dram_pj_per_bit=5.0)
    with pytest.raises(ValueError, match=r"static_w 1\.5 and 0\.5 W of memory together exceed board_w 2"):
        power.mac_energy_j(peak_macs_per_s=1e12, bytes_per_s=12.5e9)
