"""Kernels and memory limits."""

from math import prod

import numpy as np
import pytest

from hardware_sim.catalog import load_accelerator
from hardware_sim.cost import UnsupportedError, width_index
from hardware_sim.layer import Layer
from hardware_sim.mcu import Mcu
from hardware_sim.networks import NETWORKS, mobilenet_v2

KERNELS = np.array([2, 2, 4, 4, 8, 8, 8, 8])


RATES = [[2.9, 2.8, 2.5], [2.8, 2.7, 2.4], [2.5, 2.4, 2.0]]


def device(**changes: object) -> Mcu:
    shipped = load_accelerator("mcu-cortex-m7").model_dump()
    return Mcu.model_validate({**shipped, "name": "x", "cycles_per_mac": RATES, **changes})


CONV = Layer(
    name="c", kind="conv", c_in=4, c_out=8, kernel=(3, 3), input_size=(5, 5), output_size=(5, 5), input_tensors=(0,),
    output_tensor=1,
)  # fmt: skip
DENSE = Layer(name="d", kind="linear", c_in=200, c_out=10, input_tensors=(1,), output_tensor=2)


def test_widths_round_up_to_the_next_kernel() -> None:
    table = device().table([CONV])
    for w_index, a_index in np.ndindex(8, 8):
        assert table.cycles[0, w_index, a_index] == table.cycles[0, KERNELS[w_index] - 1, KERNELS[a_index] - 1]
    assert table.cycles[0, 7, 7] == pytest.approx(2.0 * CONV.macs)


def test_float_is_not_supported() -> None:
    with pytest.raises(UnsupportedError, match="has no cost for layer 'c' at float x 8 bits"):
        device().table([CONV]).layer_cost(0, None, 8)


def test_flash_holds_weights_at_the_width_of_their_kernel() -> None:
    flash = device().table([CONV, DENSE]).limits[0]
    assert (flash.name, flash.unit, flash.value) == ("flash", "B", 2 * 2**20)
    assert flash.table[:, width_index(3), 0].tolist() == [288 * 4 / 8, 2000 * 4 / 8]


def test_ram_of_a_step_by_hand() -> None:
    limits = device(ram_bytes=16).table([CONV, DENSE], batch=1).limits[1:]
    assert [limit.name for limit in limits] == ["RAM at c", "RAM at d"]
    conv, dense = (limit.table[:, 7] for limit in limits)
    assert conv[:, width_index(2)].tolist() == [100 * 2 / 8 + 4 * 36, 200 * 2 / 8]
    assert dense[:, width_index(5)].tolist() == [0, 200 * 8 / 8 + 10 * 8 / 8 + 4 * 200]


def test_limits_omit_small_steps_except_the_largest() -> None:
    assert [limit.name for limit in device().table([CONV, DENSE]).limits] == ["flash", "RAM at d"]


@pytest.mark.parametrize("network", ["mobilenet_v2", "resnet18"])
def test_limits_are_not_below_simulated_memory(network: str) -> None:
    """Compared to a simulation with every tensor at the widest kernel of its readers until its last use."""
    layers = NETWORKS[network]()
    table = device(ram_bytes=16).table(layers)
    rng = np.random.default_rng(0)
    for _ in range(20):
        a_bits = rng.integers(1, 9, size=len(layers))
        stated = [limit.table[np.arange(len(layers)), 0, a_bits - 1].sum() for limit in table.limits[1:]]
        needed = simulated_bytes(layers, KERNELS[a_bits - 1])
        assert len(stated) == len(needed)
        assert all(said >= need for said, need in zip(stated, needed, strict=True))


def simulated_bytes(layers: tuple[Layer, ...], kernels: np.ndarray) -> list[float]:
    """Bytes in use at every step."""
    width = {layer.output_tensor: 0 for layer in layers}
    last: dict[int, int] = {}
    for step, layer in enumerate(layers):
        for tensor in layer.input_tensors:
            width[tensor] = max(width.get(tensor, 0), int(kernels[step]))
        last |= dict.fromkeys(layer.input_tensors + layer.held_tensors, step)
    held = {0: layers[0].input_count}
    needed = []
    for step, layer in enumerate(layers):
        held[layer.output_tensor or 0] = layer.output_count
        scratch = 2 * 2 * prod(layer.kernel) * layer.c_in // layer.groups
        needed.append(scratch + sum(count * (width[tensor] or 8) / 8 for tensor, count in held.items()))
        held = {tensor: count for tensor, count in held.items() if last.get(tensor, step) > step}
    return needed


def test_published_network_needs_mixed_widths_to_fit() -> None:
    """MobileNets at 224 x 224 overflow 512 KiB at 8 bits and fit at 2, which is why CMix-NN was built."""
    table = load_accelerator("mcu-cortex-m7").table(mobilenet_v2())
    fits = [
        all(limit.table[:, bits - 1, bits - 1].sum() <= limit.value for limit in table.limits) for bits in (2, 4, 8)
    ]
    assert fits == [True, False, False]


@pytest.mark.parametrize("kind", ["recurrent", "embedding", "matmul", "conv_transpose"])
def test_layer_without_kernel_raises_with_its_name(kind: str) -> None:
    layer = Layer(name="odd", kind=kind, c_in=4, c_out=4)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match=rf"no kernel for layer 'odd' \({kind}\), only conv, depthwise, linear"):
        device().table([layer])


def test_incomplete_kernels_raise() -> None:
    with pytest.raises(ValueError, match="cycles_per_mac needs 2 rows of 2 numbers"):
        device(kernel_bits=[4, 8])
    with pytest.raises(ValueError, match="kernel_bits must be increasing"):
        device(kernel_bits=[4, 2, 8])


def test_no_layers() -> None:
    assert [limit.name for limit in device().table([]).limits] == ["flash"]


def test_energy_is_active_power_and_a_batch_takes_as_many_times_longer() -> None:
    one = device(clock_hz=1e6, active_w=0.3)
    single, batch = (one.table([CONV], batch=size).layer_cost(0, 8, 2) for size in (1, 3))
    assert single.cycles == pytest.approx(2.5 * CONV.macs)
    assert single.latency_s == pytest.approx(2.5 * CONV.macs / 1e6)
    assert single.energy_j == pytest.approx(0.3 * 2.5 * CONV.macs / 1e6)
    assert batch.latency_s == pytest.approx(3 * single.latency_s)
    assert one.table([CONV]).bound(0, 2, 8) == "compute"


def test_activations_of_all_images_of_a_batch_need_ram() -> None:
    limits = device(ram_bytes=16).table([CONV, DENSE], batch=3).limits[1:]
    conv, dense = (limit.table[:, 7] for limit in limits)
    assert conv[:, width_index(2)].tolist() == [3 * 100 * 2 / 8 + 4 * 36, 3 * 200 * 2 / 8]
    assert dense[:, width_index(8)].tolist() == [0, 3 * (200 + 10) + 4 * 200]


def test_steps_of_just_the_memory_are_no_limit() -> None:
    # CONV needs 100 + 200 + 144 bytes at 8 bits, DENSE 200 + 10 + 800.
    names = [[limit.name for limit in device(ram_bytes=size).table([CONV, DENSE]).limits] for size in (443, 444)]
    assert names == [["flash", "RAM at c", "RAM at d"], ["flash", "RAM at d"]]


def test_peak_rate_is_that_of_the_kernel() -> None:
    one = device(clock_hz=1e6)
    assert [one.peak_macs_per_s(*pair) for pair in ((8, 8), (3, 2), (2, 5))] == pytest.approx(
        [1e6 / 2.0, 1e6 / 2.8, 1e6 / 2.5]
    )
    assert (one.peak_macs_per_s(None, 8), one.peak_macs_per_s(8, None)) == (None, None)
    narrow = device(kernel_bits=[2, 4], cycles_per_mac=[[1.0, 2.0], [2.0, 3.0]])
    assert (narrow.peak_macs_per_s(5, 4), narrow.peak_macs_per_s(4, 5)) == (None, None)
