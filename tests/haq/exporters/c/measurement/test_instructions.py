"""Instructions of single layers: their codes equal the integer reference, and counts repeat."""

from functools import partial

import numpy as np
import pytest

from haq.exporters.c.measurement.instructions import count_instructions, run_network
from haq.exporters.c.measurement.layer_network import layer_network
from haq.exporters.c.runnable import from_memory_order, in_memory_order
from haq.exporters.c.toolchain import MCU_TOOLS, CortexM7
from haq.exporters.c.toolchain.tools import missing_tools
from haq.exporters.integer.network import Product
from haq.exporters.integer.reference import run_operation
from hardware_sim.catalog import load_accelerator
from hardware_sim.cost import UnsupportedError
from hardware_sim.layer import Layer
from hardware_sim.mcu_measured import MeasuredMcu

needs_tools = pytest.mark.skipif(
    bool(missing_tools(MCU_TOOLS)), reason=f"not installed: {', '.join(missing_tools(MCU_TOOLS))}"
)
conv = partial(Layer, name="c", kind="conv", c_in=4, c_out=6)
LAYERS = {
    "padded": conv(kernel=(3, 3), input_size=(5, 6), output_size=(5, 6)),
    "stride 2 of an even size": conv(kernel=(3, 3), stride=(2, 2), input_size=(6, 6), output_size=(3, 3)),
    "already padded": conv(kernel=(3, 3), stride=(2, 2), input_size=(7, 7), output_size=(3, 3)),
    "depthwise": Layer(
        name="d", kind="depthwise", c_in=4, c_out=4, groups=4, kernel=(3, 3), input_size=(4, 4), output_size=(4, 4)
    ),
    "linear": Layer(name="l", kind="linear", c_in=9, c_out=5),
    "linear on positions": Layer(name="s", kind="linear", c_in=9, c_out=5, input_size=(7, 1), output_size=(7, 1)),
}

WIDTHS = ((8, 8), (4, 4), (2, 8), (3, 3), (5, 8), (7, 2))


@needs_tools
@pytest.mark.parametrize(("name", "widths"), list(zip(LAYERS, WIDTHS, strict=True)))
def test_counted_program_computes_the_layer(name: str, widths: tuple[int, int]) -> None:
    layer = LAYERS[name]
    network = layer_network(layer, *widths)
    source, output = network.tensors[network.input], network.tensors[network.output]
    generator = np.random.default_rng(0)
    codes = generator.integers(source.q_min, source.q_max, (1, *source.shape), dtype=np.int8, endpoint=True)
    done = run_network(network, in_memory_order(codes), CortexM7())
    found = from_memory_order(np.frombuffer(done.output, np.int8).reshape(1, -1), output)
    product = network.operations[-1]
    expected = run_operation(product, network.tensors, codes)
    assert (found == expected).all()
    assert len(np.unique(found)) > 2  # outputs are spread over their codes
    assert isinstance(product, Product)
    assert sum(done.instructions.values()) > layer.macs


@needs_tools
def test_counts_repeat() -> None:
    first, second = (count_instructions(LAYERS["padded"], 4, 8, core=CortexM7()) for _ in range(2))
    assert first == second


@needs_tools
@pytest.mark.parametrize(("kind", "widths"), [("conv", (8, 8)), ("depthwise", (5, 8)), ("linear", (4, 4))])
def test_shipped_table_is_of_the_kernels_that_ship(kind: str, widths: tuple[int, int]) -> None:
    """Other compilers give other numbers; where this fails at the same one, the table has to be measured again."""
    device = load_accelerator("mcu-cortex-m7-measured")
    assert isinstance(device, MeasuredMcu)
    shapes = [shape for shape in device.shapes if shape.layer.kind == kind]
    layer, rows = min(shapes, key=lambda shape: shape.layer.macs)
    assert count_instructions(layer, *widths, core=CortexM7()) == pytest.approx(rows[widths], rel=0.1)


def test_layer_without_kernel_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"layer t \(conv_transpose\) has no C kernel"):
        layer_network(Layer(name="t", kind="conv_transpose", c_in=4, c_out=4), 8, 8)
