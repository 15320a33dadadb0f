"""Small integer networks with random codes, and the comparison of their C programs with the reference."""

from collections.abc import Sequence
from itertools import count
from typing import Literal

import numpy as np

from haq.exporters.c.memory import traced_tensors
from haq.exporters.c.program import make_program
from haq.exporters.c.runnable import from_memory_order, in_memory_order, runnable_sources
from haq.exporters.c.toolchain import host_run
from haq.exporters.integer.network import (
    Codes,
    CodeTensor,
    Concatenation,
    Elementwise,
    IntegerNetwork,
    Operation,
    Pool,
    Product,
    Rearrangement,
    Table,
)
from haq.exporters.integer.reference import run_from

STRICT = ("-pedantic", "-Wconversion", "-Wsign-conversion", "-Wshadow", "-Wmissing-prototypes", "-Wstrict-prototypes")
CHECKED = ("-O0", "-fsanitize=undefined,address", "-fno-sanitize-recover=all")
Shape = tuple[int, ...]
Padding = tuple[int, int, int, int]


class RandomNetwork:
    """Builder of an integer network: each method adds an operation and returns the name of its output."""

    def __init__(self, seed: int, shape: Shape, bits: int = 8) -> None:
        self.rng = np.random.default_rng(seed)
        self.tensors: dict[str, CodeTensor] = {}
        self.operations: list[Operation] = []
        self._names = (f'*/ "{number}\\' for number in count())
        self.input = self.tensor(shape, bits)

    def network(self) -> IntegerNetwork:
        output = self.operations[-1].output
        operations = tuple(self.operations)
        return IntegerNetwork(
            name='*/ int "\\', input=self.input, output=output, tensors=self.tensors, operations=operations
        )

    def tensor(self, shape: Shape, bits: int = 8) -> str:
        low = -128 if bits == 8 else 0
        zero = int(self.rng.choice([low, self.rng.integers(low, low + 2**bits)]))
        scale = float(np.float32(self.rng.uniform(0.01, 0.1)))
        return self._add(shape, scale, (zero, low, low + 2**bits - 1))

    def _like(self, name: str, shape: Shape) -> str:
        found = self.tensors[name]
        return self._add(shape, found.scale, (found.zero_point, found.q_min, found.q_max))

    def _add(self, shape: Shape, scale: float, codes: tuple[int, int, int]) -> str:
        name = next(self._names)
        zero, low, high = codes
        self.tensors[name] = CodeTensor(name=name, shape=shape, scale=scale, zero_point=zero, q_min=low, q_max=high)
        return name

    def product(
        self,
        source: str,
        channels: int,
        kernel: tuple[int, int] | None = None,
        *,
        bits: int = 8,
        a_bits: int = 8,
        stride: tuple[int, int] = (1, 1),
        padding: Padding = (0, 0, 0, 0),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        gain: float = 1.0,
    ) -> str:
        c_in, *size = self.tensors[source].shape
        shape: Shape = (channels,)
        if kernel is not None:
            padded = (size[0] + padding[0] + padding[2], size[1] + padding[1] + padding[3])
            axes = zip(padded, kernel, stride, dilation, strict=True)
            shape = (channels, *((each - d * (k - 1) - 1) // s + 1 for each, k, s, d in axes))
        limit = 2 ** (bits - 1)
        weights = self.rng.integers(-limit, limit, (channels, c_in // groups, *(kernel or ()))).astype(np.int8)
        output, shift = self.tensor(shape, a_bits), 8 - max(bits, 2)
        spread = self.tensors[source].scale * limit * np.sqrt(weights[0].size) / self.tensors[output].scale
        self.operations.append(
            Product(
                layer=f"layer {len(self.operations)} */ \n#error",
                source=source,
                output=output,
                weights=weights,
                w_bits=bits,
                w_scale=self.rng.uniform(0.5, 1.5, channels) / spread * gain,
                bias=self.rng.integers(-3000, 3000, channels).astype(np.int32) << shift,
                low=self.tensors[output].q_min,
                high=self.tensors[output].q_max,
                stride=stride,
                padding=padding,
                dilation=dilation,
                groups=groups,
                shift=shift,
            )
        )
        return output

    def elementwise(self, operator: Literal["add", "multiply"], first: str, second: str) -> str:
        shape = max((self.tensors[each].shape for each in (first, second)), key=np.prod)
        output = self.tensor(shape)
        low, high = self.tensors[output].q_min, self.tensors[output].q_max
        self.operations.append(
            Elementwise(operator=operator, sources=(first, second), output=output, low=low, high=high)
        )
        return output

    def pool(
        self,
        operator: Literal["max", "average"],
        source: str,
        kernel: tuple[int, int],
        *,
        stride: tuple[int, int] = (1, 1),
        padding: Padding = (0, 0, 0, 0),
    ) -> str:
        channels, height, width = self.tensors[source].shape
        rows = (height + padding[0] + padding[2] - kernel[0]) // stride[0] + 1
        columns = (width + padding[1] + padding[3] - kernel[1]) // stride[1] + 1
        output = self._like(source, (channels, rows, columns))
        self.operations.append(
            Pool(operator=operator, source=source, output=output, kernel=kernel, stride=stride, padding=padding)
        )
        return output

    def table(self, source: str) -> str:
        output = self.tensor(self.tensors[source].shape)
        codes = self.rng.integers(-128, 128, 256).astype(np.int8)
        self.operations.append(Table(source=source, output=output, codes=codes))
        return output

    def concatenation(self, *sources: str) -> str:
        channels = sum(self.tensors[each].shape[0] for each in sources)
        output = self._like(sources[0], (channels, *self.tensors[sources[0]].shape[1:]))
        self.operations.append(Concatenation(sources=sources, output=output))
        return output

    def flatten(self, source: str) -> str:
        output = self._like(source, (int(np.prod(self.tensors[source].shape)),))
        self.operations.append(Rearrangement(operator="flatten", source=source, output=output))
        return output

    def pad(self, source: str, padding: tuple[tuple[int, int], ...]) -> str:
        shape = zip(self.tensors[source].shape, padding, strict=True)
        output = self._like(source, tuple(size + before + after for size, (before, after) in shape))
        self.operations.append(Rearrangement(operator="pad", source=source, output=output, padding=padding))
        return output

    def subsample(self, source: str, stride: tuple[int, int]) -> str:
        channels, height, width = self.tensors[source].shape
        output = self._like(source, (channels, -(-height // stride[0]), -(-width // stride[1])))
        self.operations.append(Rearrangement(operator="subsample", source=source, output=output, stride=stride))
        return output


def inputs_of(network: IntegerNetwork, images: int = 2) -> Codes:
    """Draw input codes."""
    tensor = network.tensors[network.input]
    drawn = np.random.default_rng(0).integers(tensor.q_min, tensor.q_max + 1, (images, *tensor.shape))
    return drawn.astype(np.int8)


def differing_codes(network: IntegerNetwork, flags: Sequence[str] = ()) -> dict[str, int]:
    """Compile and run a network on the host, and count the codes of each traced tensor that differ."""
    program, inputs = make_program(network), inputs_of(network)
    sources = runnable_sources(program.source, program.header, hooks="trace")
    output = host_run(sources, in_memory_order(inputs), flags=(*STRICT, *flags))
    traces = np.frombuffer(output, np.int8).reshape(len(inputs), -1)
    expected = dict(run_from(network, {network.input: inputs}))
    differing, start = {}, 0
    for name, codes in traced_tensors(network):
        found = from_memory_order(traces[:, start : start + codes], network.tensors[name])
        differing[name] = int((found != expected[name]).sum())
        start += codes
    assert start == traces.shape[1]
    return {name: different for name, different in differing.items() if different}
