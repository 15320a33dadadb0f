"""Properties of all shipped devices on random layers; widths without a cost are NaN and skipped."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from hardware_sim.accelerator import Accelerator
from hardware_sim.bit_serial import BitSerial
from hardware_sim.bit_serial_schedule import BinaryArray, price_products
from hardware_sim.catalog import device_names, load_accelerator
from hardware_sim.cost import WIDTHS, CostTable, FloatArray
from hardware_sim.layer import Layer
from hardware_sim.lowering import image_product
from hardware_sim.networks import mobilenet_v1, mobilenet_v2
from hardware_sim.proxy import proxy_table

DEVICES = [load_accelerator(name) for name in device_names()]
EXACT_MONOTONE = [device for device in DEVICES if device.model_dump()["kind"] in ("roofline", "systolic")]
FASTER = ("clock_hz", "port_bits", "memory_bytes_per_s")
quick = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
of_device = pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.name)
batches = st.sampled_from([1, 3, 16])


def at_least(values: FloatArray, floor: FloatArray) -> bool:
    """Whether no value is below its bound, up to rounding; NaN is skipped."""
    known = ~np.isnan(values)
    return bool((values[known] >= np.broadcast_to(floor, values.shape)[known] * (1 - 1e-12)).all())


def peak(device: Accelerator) -> FloatArray:
    """MAC/s [w_bits, a_bits], NaN for unsupported widths."""
    return np.array([[device.peak_macs_per_s(w, a) for a in WIDTHS] for w in WIDTHS], dtype=np.float64)


@of_device
@quick
@given(data=st.data())
def test_latency_is_not_below_compute_and_traffic(
    device: Accelerator, random_layer: SearchStrategy[Layer], data: st.DataObject
) -> None:
    layer, batch = data.draw(random_layer), data.draw(batches)
    table = device.table([layer], batch=batch)
    assert table.latency_s is not None
    assert at_least(table.latency_s, batch * layer.macs / peak(device))
    assert (np.isnan(table.latency_s[0]) == np.isnan(peak(device))).all()
    if table.dram_bits is not None:
        assert device.bytes_per_s is not None
        assert at_least(table.latency_s, table.dram_bits / 8 / device.bytes_per_s)


@of_device
@quick
@given(data=st.data())
def test_energy_is_sum_of_parts_and_not_below_memory(
    device: Accelerator, random_layer: SearchStrategy[Layer], data: st.DataObject
) -> None:
    table = device.table([data.draw(random_layer)], batch=data.draw(batches))
    energy_j = table.energy_j
    assert energy_j is not None
    assert at_least(energy_j, np.zeros(1))
    np.testing.assert_allclose(energy_j, sum(table.energy_parts_j.values()))
    if table.dram_bits is not None:
        power = getattr(device, "power", device)
        assert at_least(energy_j, table.dram_bits * power.dram_pj_per_bit * 1e-12)


@pytest.mark.parametrize(
    ("device", "key"),
    [(device, key) for device in DEVICES for key in FASTER if key in type(device).model_fields],
    ids=lambda value: getattr(value, "name", value),
)
@quick
@given(data=st.data())
def test_faster_clocks_and_wider_ports_are_never_slower(
    device: Accelerator, key: str, random_layer: SearchStrategy[Layer], data: st.DataObject
) -> None:
    layer, batch = data.draw(random_layer), data.draw(batches)
    faster = device.model_copy(update={key: getattr(device, key) * 2})
    slow, fast = (one.table([layer], batch=batch).latency_s for one in (device, faster))
    assert slow is not None
    assert at_least(slow, fast)


def assert_monotone(values: FloatArray) -> None:
    """Whether values [layer, w_bits, a_bits] do not decrease with either width; NaN is skipped."""
    for axis in (1, 2):
        steps = np.diff(values, axis=axis)
        assert not (steps < -1e-12 * np.nanmax(values)).any()


@pytest.mark.parametrize("device", EXACT_MONOTONE, ids=lambda device: device.name)
@quick
@given(data=st.data())
def test_rooflines_and_systolic_arrays_are_monotone_in_bits(
    device: Accelerator, random_layer: SearchStrategy[Layer], data: st.DataObject
) -> None:
    table = device.table([data.draw(random_layer)], batch=data.draw(batches))
    for values in (table.latency_s, table.energy_j, table.dram_bits):
        assert values is not None
        assert_monotone(values)


@quick
@given(data=st.data())
def test_proxies_are_monotone_in_bits(random_layer: SearchStrategy[Layer], data: st.DataObject) -> None:
    table = proxy_table([data.draw(random_layer)])
    assert_monotone(table.weight_bytes)
    assert_monotone(table.bops)


@quick
@given(data=st.data())
def test_arithmetic_and_traffic_of_bit_serial_arrays_are_monotone_in_bits(
    random_layer: SearchStrategy[Layer], data: st.DataObject
) -> None:
    array = BinaryArray(size=8, dot_bits=256, port_bits=64, buffer_words=8192)
    price = price_products(array, [image_product(data.draw(random_layer))])
    for part in price[1:]:
        assert_monotone(part.astype(np.float64))


@pytest.mark.parametrize("layers", [mobilenet_v1(), mobilenet_v2()], ids=["v1", "v2"])
@pytest.mark.parametrize(
    "device", [device for device in DEVICES if isinstance(device, BitSerial)], ids=lambda d: d.name
)
def test_bit_serial_arrays_are_monotone_on_mobilenets(device: BitSerial, layers: tuple[Layer, ...]) -> None:
    table: CostTable = device.table(layers)
    assert table.cycles is not None
    assert_monotone(table.cycles)


def test_bit_serial_schedules_are_not_monotone_everywhere() -> None:
    """A counterexample: blocks that fit the buffers worse can be cheaper with more bits."""
    array = BinaryArray(size=8, dot_bits=256, port_bits=64, buffer_words=8192)
    rng = np.random.default_rng(0)
    products = [
        image_product(Layer(name="x", kind="conv", c_in=c_in, c_out=c_out, kernel=(3, 3), output_size=(side, side)))
        for c_in, c_out, side in rng.integers([1, 1, 1], [600, 600, 40], size=(60, 3)).tolist()
    ]
    cycles = price_products(array, products).cycles
    violations = (np.diff(cycles, axis=1) < 0).mean() + (np.diff(cycles, axis=2) < 0).mean()
    assert 0 < violations < 0.05


@of_device
def test_tables_have_the_name_of_their_device_and_the_layers(device: Accelerator) -> None:
    layers = (Layer(name="fc", kind="linear", c_in=16, c_out=8),)
    table = device.table(layers)
    assert (table.hardware, table.layers) == (device.name, layers)


def test_layers_have_the_names_of_torchvisions_modules() -> None:
    names = [layer.name for layer in mobilenet_v2()]
    assert names[:3] == ["features.0.0", "features.1.conv.0.0", "features.1.conv.1"]
    assert names[-2:] == ["features.18.0", "classifier.1"]
