"""Simulated policies and the specialization matrix, against sums done by hand."""

import json
from pathlib import Path

import pytest

from haq.api import simulate
from haq.costs.simulation import UsedLimit, simulation, used_limits
from haq.costs.specialization import Candidate, PricedNetwork, specialization
from haq.errors import UserError
from haq.layer_bits import LayerBits, uniform_bits
from haq.network.layers import Refused
from haq.policy import Policy
from hardware_sim.accelerator import Accelerator
from hardware_sim.catalog import load_accelerator
from hardware_sim.cost import OBJECTIVES, Objective
from hardware_sim.layer import Layer
from hardware_sim.mcu import Mcu
from hardware_sim.networks import mobilenet_v2
from hardware_sim.roofline import Precision, Roofline

A = Layer(name="a", kind="linear", c_in=8, c_out=4)
B = Layer(name="b", kind="linear", c_in=4, c_out=2)
C = Layer(name="c", kind="linear", c_in=2, c_out=1)
NET = (A, B, C)
TABLE = """layer,w_bits,a_bits,latency_s
a,8,8,1
b,8,8,2
c,8,8,5
a,4,8,0.5
b,4,8,0.5
c,4,8,1
"""


def bits(w_bits: int) -> tuple[LayerBits, ...]:
    return uniform_bits(NET, w_bits=w_bits, a_bits=8)


@pytest.fixture
def board(tmp_path: Path) -> Accelerator:
    path = tmp_path / "board.csv"
    path.write_text(TABLE)
    return load_accelerator(path)


def mcu(flash_bytes: int) -> Mcu:
    return Mcu(
        name="small",
        description="two kernels",
        kernel_bits=(4, 8),
        cycles_per_mac=((3.0, 3.0), (2.0, 2.0)),
        clock_hz=1e6,
        flash_bytes=flash_bytes,
        ram_bytes=4096,
        active_w=0.5,
    )


def test_totals_are_sums_of_layers(board: Accelerator) -> None:
    document = simulation("net", board.table(NET), bits(4))
    assert [layer.latency_s for layer in document.layers] == [0.5, 0.5, 1.0]
    totals = document.totals
    assert (totals.latency_s, totals.latency_per_image_s, totals.energy_j) == (2.0, 2.0, None)
    assert totals.weight_bytes == (32 + 8 + 2) * 4 / 8
    assert totals.bops == (32 + 8 + 2) * 4 * 8
    # Scale and zero point of three inputs; scale and bias of 4 + 2 + 1 channels.
    assert totals.overhead_bytes == 3 * 8 + 7 * 8


def test_first_and_last_layer_can_be_excluded(board: Accelerator) -> None:
    document = simulation("net", board.table(NET), bits(4), exclude_first_last=True)
    assert [layer.name for layer in document.layers] == ["b"]
    assert document.totals.latency_s == 0.5
    assert not document.first_and_last_layer_included
    with pytest.raises(UserError, match="net has 2 layers: none is left"):
        simulation("net", board.table((A, B)), bits(4)[:2], exclude_first_last=True)


def test_parts_without_a_price_are_listed(board: Accelerator) -> None:
    document = simulation("net", board.table(NET), bits(8), refused=[Refused("lstm", "stays in float")])
    assert document.to_json()["refused"] == [{"name": "lstm", "reason": "stays in float"}]


def test_limits_are_those_of_the_whole_network() -> None:
    table = mcu(flash_bytes=32).table(NET)
    flash = used_limits(table, bits(8))[0]
    assert (flash.name, flash.unit, flash.value, flash.used) == ("flash", "B", 32.0, 42.0)
    assert used_limits(table, bits(4))[0].used == 21.0
    document = simulation("net", table, bits(8), exclude_first_last=True)
    assert document.limits[0].used == 42.0


def test_specialization_gives_costs_by_policy_and_device(board: Accelerator) -> None:
    network = PricedNetwork(model="net", layers=NET)
    mixed = (bits(4)[0], *bits(8)[1:])
    candidates = [Candidate("mine", mixed, "board", 0.9), Candidate("all 4", bits(4)), Candidate("all 3", bits(3))]
    document = specialization(network, candidates, [board, mcu(flash_bytes=32)])
    ours, small = zip(*document.costs, strict=True)
    assert [cell.latency_s for cell in ours] == [7.5, 2.0, None]
    assert [cell.ratio for cell in ours] == [7.5 / 8, 2.0 / 8, None]
    assert ours[2].refused == "board has no cost for layer 'a' at 3 bits x 8 bits"
    # 16 bytes of a, 8 of b and 2 of c are 26 of 32; 3 cycles a MAC instead of 2 for a.
    assert small[0].refused is None
    assert small[0].latency_s == pytest.approx((32 * 3 + 10 * 2) / 1e6)
    assert small[0].ratio == pytest.approx(116 / 84)
    assert document.to_json()["policies"][0] == {
        "name": "mine",
        "hardware": "board",
        "accuracy": 0.9,
        "metric": "accuracy",
    }
    assert [device.hardware for device in document.devices] == ["board", "small"]
    assert any("energy is an estimate" in note for note in document.devices[1].notes)


def test_a_device_refuses_by_limit_kind_and_objective(board: Accelerator) -> None:
    transposed = Layer(name="up", kind="conv_transpose", c_in=1, c_out=1)
    eight = [Candidate("8", bits(8))]
    document = specialization(PricedNetwork(model="net", layers=NET), eight, [mcu(flash_bytes=32)])
    assert document.costs[0][0].refused == "flash: 42 B of 32 B"
    network = PricedNetwork(model="net", layers=(*NET, transposed))
    candidates = [Candidate("8", uniform_bits(network.layers, w_bits=8, a_bits=8))]
    (cell,) = specialization(network, candidates, [mcu(flash_bytes=64)]).costs[0]
    assert cell.refused == "small has no kernel for layer 'up' (conv_transpose), only conv, depthwise, linear"
    (cell,) = specialization(PricedNetwork(model="net", layers=NET, objective="energy"), eight, [board]).costs[0]
    assert (cell.refused, cell.latency_s, cell.ratio) == ("board does not model energy", 8.0, None)


def test_batch_and_baseline_are_those_of_the_settings() -> None:
    network = PricedNetwork(model="net", layers=mobilenet_v2(), batch=16, exclude_first_last=True)
    eight = Candidate("8", uniform_bits(network.layers, w_bits=8, a_bits=8))
    (cell,) = specialization(network, [eight], [load_accelerator("bismo-cloud")]).costs[0]
    assert cell.latency_s == pytest.approx(189.82e-3, abs=0.005e-3)  # HAQ's published figure
    assert cell.latency_per_image_s == cell.latency_s / 16
    assert cell.ratio == 1.0


def test_documents_have_the_keys_of_the_contract(board: Accelerator) -> None:
    document = simulation("net", board.table(NET), bits(4), refused=[Refused("lstm", "stays in float")]).to_json()
    assert list(document) == [
        "hardware",
        "model",
        "batch",
        "first_and_last_layer_included",
        "layers",
        "totals",
        "limits",
        "refused",
        "notes",
    ]
    assert json.loads(json.dumps(document)) == document
    matrix = specialization(PricedNetwork(model="net", layers=NET), [Candidate("4", bits(4))], [board]).to_json()
    assert matrix["devices"] == [{"hardware": "board", "batch": 1, "notes": document["notes"]}]
    assert json.loads(json.dumps(matrix)) == matrix


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_totals_give_the_number_of_each_objective(board: Accelerator, objective: Objective) -> None:
    table = board.table(NET)
    totals = simulation("net", table, bits(4)).totals
    assert totals.of(objective) == table.policy_cost([4] * 3, [8] * 3).of(objective)


def test_simulate_function_takes_model_names_and_policies() -> None:
    document = simulate("torchvision:resnet18", hardware="bismo-cloud", w_bits=4, a_bits=4)
    assert (document["model"], document["hardware"], document["batch"]) == ("torchvision:resnet18", "bismo-cloud", 16)
    other = Policy(model="net", hardware=None, objective=None, layers=bits(8))
    with pytest.raises(UserError, match="does not fit torchvision:resnet18"):
        simulate("torchvision:resnet18", other)


def test_fraction_of_the_latency_in_layers_that_memory_limits() -> None:
    device = Roofline(
        name="roof",
        description="a MAC and a byte in ten microseconds",
        precisions=(Precision(bits=8, macs_per_s=1e5),),
        memory_bytes_per_s=1e5,
        dram_pj_per_bit=1.0,
        static_w=1.0,
    )
    busy = Layer(name="busy", kind="linear", c_in=8, c_out=8, input_size=(1, 100), output_size=(1, 100))
    network = PricedNetwork(model="net", layers=(A, busy))
    eight = Candidate("8", uniform_bits(network.layers, w_bits=8, a_bits=8))
    # 32 MACs and 32 + 8 + 4 bytes; 6400 MACs and fewer bytes.
    assert specialization(network, [eight], [device]).costs[0][0].memory_bound == pytest.approx(44 / (44 + 6400))


def test_cells_have_all_costs_of_the_batch_and_of_an_image() -> None:
    network = PricedNetwork(model="net", layers=NET, batch=4, objective="energy")
    (cell,) = specialization(network, [Candidate("4", bits(4))], [mcu(flash_bytes=64)]).costs[0]
    # 42 MACs at 3 cycles for each of four images, half a watt.
    assert cell.latency_s == pytest.approx(4 * 42 * 3e-6)
    assert cell.latency_per_image_s == pytest.approx(42 * 3e-6)
    assert (cell.energy_j, cell.energy_per_image_j) == pytest.approx((0.5 * 4 * 42 * 3e-6, 0.5 * 42 * 3e-6))
    assert (cell.weight_bytes, cell.bops, cell.memory_bound, cell.ratio) == (21.0, 42 * 32, 0.0, pytest.approx(1.5))
    assert cell.of("energy") == cell.energy_j


def test_refusals_name_the_first_two_exceeded_limits() -> None:
    tight = mcu(flash_bytes=16).model_copy(update={"ram_bytes": 16})
    (cell,) = specialization(PricedNetwork(model="net", layers=NET), [Candidate("8", bits(8))], [tight]).costs[0]
    assert cell.refused == "flash: 42 B of 16 B; RAM at a: 44 B of 16 B"


def test_device_that_refuses_the_network_has_the_batch_of_the_settings() -> None:
    lstm = Layer(name="lstm", kind="recurrent", c_in=4, c_out=16)
    for batch, shown in ((7, 7), (None, 1)):
        network = PricedNetwork(model="net", layers=(lstm,), batch=batch)
        (device,) = specialization(network, [], [mcu(flash_bytes=64)]).devices
        assert (device.batch, device.notes) == (shown, ())


def test_capacity_that_is_just_used_up_is_not_exceeded() -> None:
    full, over = (UsedLimit("slots", "slots", 2.0, used) for used in (2.0, 2.5))
    assert (full.is_exceeded, over.is_exceeded) == (False, True)
    assert str(over) == "slots: 2.5 slots of 2 slots"


def test_whole_cycles_are_integers_and_fractions_are_kept() -> None:
    table = mcu(flash_bytes=64).model_copy(update={"cycles_per_mac": ((3.0, 3.0), (2.0, 1.3))}).table(NET)
    document = simulation("net", table, bits(8))
    assert [layer.cycles for layer in document.layers] == pytest.approx([32 * 1.3, 8 * 1.3, 2 * 1.3])
    assert [type(layer.bops) for layer in document.layers] == [int] * 3
    whole = simulation("net", table, bits(4))
    assert (whole.totals.cycles, type(whole.totals.cycles), whole.totals.macs) == (126, int, 42)
    assert whole.totals.energy_parts_j == {"compute": pytest.approx(0.5 * 126e-6)}
