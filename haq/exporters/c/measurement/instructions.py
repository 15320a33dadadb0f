"""Instruction counts of exported programs on the emulated Cortex-M7."""

import numpy as np

from haq.exporters.c.measurement.layer_network import layer_network
from haq.exporters.c.program import make_program
from haq.exporters.c.runnable import runnable_sources
from haq.exporters.c.toolchain import CortexM7, McuRun
from haq.exporters.integer.network import CodeTensor, IntegerNetwork
from hardware_sim.layer import Layer


def run_network(network: IntegerNetwork, inputs: bytes, core: CortexM7) -> McuRun:
    """Run the exported program of a network on the emulated Cortex-M7.

    Args:
        network: Integer network.
        inputs: Codes of any number of inputs, images in the order height, width, channels.
        core: Compiler and emulator.

    Returns:
        Codes of the outputs, and the instructions of every operation, summed over the inputs.

    Raises:
        MissingToolError: The compiler or the emulator is not installed.
        CompileError: The program exceeds the memory of the emulated board.
        ProgramError: It took too long.
        UserError: A layer cannot be computed in 32 bits.
    """
    program = make_program(network)
    return core.run(runnable_sources(program.source, program.header, hooks="sections"), inputs)


def count_instructions(layer: Layer, w_bits: int, a_bits: int, *, core: CortexM7) -> int:
    """Count the instructions of one layer with random weights on random codes.

    Args:
        layer: Shape of the layer.
        w_bits: Bits of the weights, 2 to 8.
        a_bits: Bits of the input, 2 to 8.
        core: Compiler and emulator.

    Returns:
        The instructions of one image.

    Raises:
        UnsupportedError: There is no kernel for the layer.
        MissingToolError: The compiler or the emulator is not installed.
        CompileError: The layer exceeds the memory of the emulated board.
        ProgramError: The layer took too long.
    """
    network = layer_network(layer, w_bits, a_bits)
    codes = _random_codes(network.tensors[network.input])
    *_, instructions = run_network(network, codes, core).instructions.values()
    return instructions


def _random_codes(tensor: CodeTensor) -> bytes:
    generator = np.random.default_rng(0)
    return generator.integers(tensor.q_min, tensor.q_max, tensor.shape, dtype=np.int8, endpoint=True).tobytes()
