"""C programs give the codes of the integer reference, whatever the network."""

from dataclasses import replace

import numpy as np
import pytest

from haq.errors import UserError
from haq.exporters.c.program import make_program
from haq.exporters.c.runnable import in_memory_order, runnable_sources
from haq.exporters.c.toolchain import CortexM7, host_run
from haq.exporters.c.toolchain.cortex_m7 import MCU_TOOLS
from haq.exporters.c.toolchain.host import HOST_TOOLS
from haq.exporters.c.toolchain.tools import missing_tools
from haq.exporters.integer.network import Product
from haq.exporters.integer.reference import quantize, run_from
from tests.haq.exporters.c.random_networks import CHECKED, STRICT, RandomNetwork, differing_codes, inputs_of

needs_gcc = pytest.mark.skipif(bool(missing_tools(HOST_TOOLS)), reason="gcc is not installed")
needs_mcu = pytest.mark.skipif(bool(missing_tools(MCU_TOOLS)), reason="the tools of the Cortex-M7 are not installed")


TWO_NETWORKS = """#include "first.h"
#include "second.h"
#include "haq_harness.h"
int main(void) {
    static int8_t a[FIRST_INPUT_SIZE], b[SECOND_INPUT_SIZE], first[FIRST_OUTPUT_SIZE], second[SECOND_OUTPUT_SIZE];
    haq_read(a, sizeof a);
    haq_read(b, sizeof b);
    const int status = first_run(a, first) + second_run(b, second);
    haq_write(first, sizeof first);
    haq_write(second, sizeof second);
    return status;
}
"""


def all_widths() -> RandomNetwork:
    """A chain of convolutions and a linear layer for every width of weights and inputs."""
    net = RandomNetwork(1, (3, 6, 5))
    tensor = net.input
    for bits in range(1, 9):
        tensor = net.product(tensor, 7, (3, 3), bits=bits, a_bits=max(bits, 2), padding=(1, 1, 1, 1))
        tensor = net.product(tensor, 7, (3, 3), bits=bits, a_bits=10 - max(bits, 2), padding=(1, 1, 1, 1), groups=7)
    tensor = net.flatten(tensor)
    for bits in range(1, 9):
        tensor = net.product(tensor, 9, bits=bits, a_bits=8)
    return net


def all_operations(seed: int) -> RandomNetwork:
    """All operations with odd sizes, strides, paddings and groups."""
    net = RandomNetwork(seed, (3, 9, 8))
    stem = net.product(net.input, 8, (3, 3), bits=5, a_bits=4, padding=(1, 1, 1, 1))
    net.product(stem, 8, (3, 2), bits=2, stride=(2, 1), padding=(0, 1, 2, 1), dilation=(2, 2), groups=2)
    net.product(stem, 16, (2, 3), bits=3, padding=(1, 1, 2, 2), groups=8, stride=(2, 2))
    wide = net.product(stem, 8, (5, 4), bits=6, padding=(4, 3, 1, 2), groups=8, stride=(1, 2), dilation=(1, 2))
    net.product(wide, 5, (1, 1), bits=7, stride=(1, 2))
    total = net.elementwise("add", stem, net.product(stem, 8, (1, 1), bits=4))
    scaled = net.elementwise("multiply", net.table(total), stem)
    means = net.pool("average", scaled, net.tensors[scaled].shape[1:])  # type: ignore[arg-type]
    weights = net.product(means, 8, (1, 1), bits=3)
    gated = net.elementwise("multiply", weights, scaled)
    shifted = net.elementwise("add", gated, weights)
    joined = net.concatenation(shifted, net.table(shifted), shifted)
    rest = net.subsample(net.pad(joined, ((1, 2), (0, 1), (2, 0))), (2, 3))
    rest = net.pool("average", net.pool("max", rest, (2, 2), padding=(1, 1, 0, 0)), (3, 2), padding=(1, 1, 1, 0))
    flat = net.flatten(rest)
    classes = net.concatenation(net.product(flat, 6, bits=4), net.table(flat))
    net.table(net.product(classes, 10, bits=8))
    return net


@needs_gcc
@pytest.mark.parametrize("flags", [("-O2",), CHECKED], ids=["optimized", "sanitized"])
def test_all_widths_give_the_codes_of_the_reference(flags: tuple[str, ...]) -> None:
    assert differing_codes(all_widths().network(), flags) == {}


@needs_gcc
@pytest.mark.parametrize("flags", [("-O2",), CHECKED], ids=["optimized", "sanitized"])
def test_all_operations_give_the_codes_of_the_reference(flags: tuple[str, ...]) -> None:
    assert differing_codes(all_operations(2).network(), flags) == {}


@needs_gcc
def test_factors_of_one_and_more_give_the_codes_of_the_reference() -> None:
    net = RandomNetwork(3, (4, 3, 3))
    net.product(net.product(net.input, 8, (3, 3), bits=3, gain=1e5), 4, (1, 1), bits=8, gain=0.01)
    assert "haq_divide" in make_program(net.network()).source
    assert differing_codes(net.network(), CHECKED) == {}


@needs_gcc
def test_a_flattened_image_at_the_output_has_its_channels_first() -> None:
    net = RandomNetwork(4, (3, 4, 5))
    net.flatten(net.product(net.input, 3, (2, 2)))
    assert differing_codes(net.network(), CHECKED) == {}


@needs_gcc
def test_an_input_that_is_used_to_the_end_is_not_overwritten() -> None:
    net = RandomNetwork(5, (3, 4, 4))
    net.elementwise("add", net.table(net.elementwise("add", net.table(net.input), net.input)), net.input)
    assert differing_codes(net.network(), CHECKED) == {}


@needs_gcc
def test_input_values_are_quantized_as_in_the_reference() -> None:
    net = RandomNetwork(6, (1, 4, 4))
    net.table(net.input)
    network, program = net.network(), make_program(net.network())
    main = """#define NETWORK_WITH_FLOATS
#include "net.h"
#include "haq_harness.h"
int main(void) {
    float value;
    while (haq_read(&value, sizeof value) == sizeof value) {
        const int8_t code = network_quantize(value);
        haq_write(&code, 1);
    }
    return network_dequantize(NETWORK_OUTPUT_ZERO_POINT) != 0.0f;
}
"""
    values = np.linspace(-20, 20, 999, dtype=np.float32)
    found = host_run({"net.h": program.header, "main.c": main}, values.tobytes(), flags=STRICT)
    assert found == quantize(network, values).tobytes()


@needs_gcc
def test_two_networks_in_one_program_give_their_own_outputs() -> None:
    nets = {"first": RandomNetwork(8, (3, 5, 4)), "second": RandomNetwork(9, (2, 3, 3))}
    for net in nets.values():
        net.product(net.product(net.input, 6, (3, 3), bits=3), 4, (1, 1), bits=5)
    sources = {"main.c": TWO_NETWORKS}
    inputs, outputs = b"", b""
    for name, net in nets.items():
        network, program = net.network(), make_program(net.network(), symbol=name)
        sources |= {f"{name}.c": program.source, f"{name}.h": program.header}
        codes = inputs_of(network, images=1)
        inputs += in_memory_order(codes)
        outputs += in_memory_order(dict(run_from(network, {network.input: codes}))[network.output])
    assert host_run(sources, inputs, flags=STRICT) == outputs


def test_equal_networks_give_equal_programs() -> None:
    assert make_program(all_operations(2).network()) == make_program(all_operations(2).network())


def test_names_of_the_model_stay_outside_of_the_code() -> None:
    source = make_program(all_operations(2).network()).source
    assert "#error" not in source
    assert source.count("/*") == source.count("*/")


def test_weights_take_their_bits_and_no_more() -> None:
    network = all_widths().network()
    products = [each for each in network.operations if isinstance(each, Product)]
    sizes = [each.weight_bytes for each in make_program(network).products]
    assert sizes == [-(-each.weights.size * each.w_bits // 8) for each in products]


def test_sums_beyond_32_bits_are_refused() -> None:
    net = RandomNetwork(7, (4, 3, 3))
    net.product(net.input, 2, (1, 1))
    network = net.network()
    (product,) = network.operations
    assert isinstance(product, Product)
    huge = replace(product, layer="head", bias=np.full(2, 2**31 - 1, np.int32))
    with pytest.raises(UserError, match="layer head: sums exceed 32 bits"):
        make_program(replace(network, operations=(huge,)))


@needs_mcu
def test_an_emulated_cortex_m7_gives_the_codes_of_the_reference_and_the_stated_memory() -> None:
    network, program = all_operations(2).network(), make_program(all_operations(2).network())
    inputs = inputs_of(network)
    run = CortexM7().run(runnable_sources(program.source, program.header), in_memory_order(inputs))
    expected = dict(run_from(network, {network.input: inputs}))[network.output]
    assert run.output == in_memory_order(expected)
    assert run.objects["net.c"].bss == program.arena_bytes
    assert 0 < run.objects["net.c"].text - program.constant_bytes < 12_000
