"""Cost tables: lookups, sums, missing quantities and unsupported pairs."""

import numpy as np
import pytest

from hardware_sim.cost import (
    POLICY_CHUNK,
    WIDTH_BITS,
    WIDTHS,
    Cost,
    CostTable,
    UnsupportedError,
    total,
    width_index,
)
from hardware_sim.layer import Layer
from hardware_sim.proxy import proxy_table

LAYERS = (
    Layer(name="a", kind="linear", c_in=8, c_out=4),
    Layer(name="b", kind="linear", c_in=4, c_out=2),
)


def measured(latency_s: float = 1.0) -> CostTable:
    """Latency w * a seconds in every layer, energy in two parts; float is not supported."""
    proxies = proxy_table(LAYERS)
    pairs = np.where(WIDTH_BITS == 32, np.nan, WIDTH_BITS)
    latency = np.broadcast_to(latency_s * pairs[:, None] * pairs, (2, len(WIDTHS), len(WIDTHS)))
    return CostTable(
        hardware="desk",
        layers=LAYERS,
        batch=1,
        cycles=None,
        latency_s=latency,
        energy_parts_j={"dram": latency, "static": 2 * latency},
        weight_bytes=proxies.weight_bytes,
        bops=proxies.bops,
        compute_bound=latency > 10,
    )


def test_policy_cost_is_sum_of_layers() -> None:
    cost = measured().policy_cost((8, 2), (4, 3))
    assert cost.latency_s == 8 * 4 + 2 * 3
    assert cost.energy_j == 3 * (8 * 4 + 2 * 3)
    assert cost.energy_parts_j == {"dram": 38.0, "static": 76.0}
    assert cost.weight_bytes == 32 * 8 / 8 + 8 * 2 / 8
    assert cost.bops == 32 * 32 + 8 * 6
    assert cost.macs == 40
    assert cost.cycles is None


def test_totals_equal_policy_costs() -> None:
    table, rng = measured(), np.random.default_rng(0)
    bits = rng.integers(1, 9, size=(5, 2, 2))
    totals = table.totals("latency", bits[..., 0] - 1, bits[..., 1] - 1)
    assert totals.tolist() == [table.policy_cost(row[:, 0].tolist(), row[:, 1].tolist()).latency_s for row in bits]


def test_totals_of_any_shape_and_number() -> None:
    table = measured()
    index = np.broadcast_to(np.array([1, 2]), (3, POLICY_CHUNK, 2))
    totals = table.totals("latency", index, np.zeros(2, dtype=np.int64))
    assert totals.shape == (3, POLICY_CHUNK)
    assert (totals == 2 + 3).all()
    assert table.totals("latency", index[0, 0], index[0, 0]) == 2 * 2 + 3 * 3
    assert table.totals("latency", index[:, :0], index[:, :0]).shape == (3, 0)


def test_totals_with_unsupported_pairs_are_nan() -> None:
    assert np.isnan(measured().totals("latency", np.array([8, 0]), np.array([0, 0])))


@pytest.mark.parametrize("wrong", [-1, 9])
def test_positions_outside_widths_raise(wrong: int) -> None:
    with pytest.raises(ValueError, match="positions along WIDTHS are 0 to 8"):
        measured().totals("latency", np.array([0, wrong]), np.array([0, 0]))


def test_unsupported_pair_is_named() -> None:
    with pytest.raises(UnsupportedError, match="desk has no cost for layer 'b' at float x 8 bits"):
        measured().layer_cost(1, None, 8)


def test_unmodelled_objective_raises_with_its_name() -> None:
    with pytest.raises(UnsupportedError, match="proxy does not model energy; it models size, bops"):
        proxy_table(LAYERS).of("energy")


def test_policy_of_other_length_raises() -> None:
    with pytest.raises(ValueError, match="2 layers need as many bits, got 3 and 3"):
        measured().policy_cost((8, 8, 8), (8, 8, 8))


def test_bound() -> None:
    assert measured().bound(0, 4, 4) == "compute"
    assert measured().bound(0, 2, 4) == "memory"
    assert proxy_table(LAYERS).bound(0, 2, 4) is None


def test_total_is_none_where_a_part_is_none() -> None:
    known = Cost(cycles=1, latency_s=1, energy_j=None, weight_bytes=1, bops=1, macs=1)
    unknown = Cost(cycles=None, latency_s=2, energy_j=3, weight_bytes=1, bops=1, macs=1)
    both = total([known, unknown])
    assert (both.cycles, both.latency_s, both.energy_j, both.macs) == (None, 3, None, 2)


def test_cost_of_objectives() -> None:
    cost = Cost(cycles=1, latency_s=2, energy_j=3, weight_bytes=4, bops=5, macs=6)
    assert [cost.of(name) for name in ("latency", "energy", "size", "bops")] == [2, 3, 4, 5]


def test_widths() -> None:
    assert [width_index(bits) for bits in WIDTHS] == list(range(9))
    with pytest.raises(ValueError, match="not in tuple"):
        width_index(16)
