"""Small integer networks with every operation, made of random codes."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

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
from haq.exporters.tflite.tables import requantized

Bounds = Literal["all", "relu", "relu6", "narrow", "inside"]
Four = tuple[int, int, int, int]
WHOLE = (-128, 127)


@dataclass
class Network:
    """Integer network in the making; every method adds an operation and returns the name of its output."""

    shape: tuple[int, ...]
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    tensors: dict[str, CodeTensor] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.input = self.tensor(self.shape, scale=0.05)

    def tensor(self, shape: tuple[int, ...], *, scale: float | None = None, zero_point: int | None = None) -> str:
        name = f"t{len(self.tensors)}"
        self.tensors[name] = CodeTensor(
            name=name,
            shape=shape,
            scale=float(np.float32(self.rng.uniform(0.02, 0.2) if scale is None else scale)),
            zero_point=int(self.rng.integers(-100, 100)) if zero_point is None else zero_point,
        )
        return name

    def like(self, name: str, shape: tuple[int, ...]) -> str:
        tensor = self.tensors[name]
        return self.tensor(shape, scale=tensor.scale, zero_point=tensor.zero_point)

    def product(
        self,
        source: str,
        c_out: int,
        *,
        kernel: int = 1,
        w_bits: int = 8,
        stride: tuple[int, int] = (1, 1),
        padding: Four = (0, 0, 0, 0),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        bounds: Bounds = "all",
    ) -> str:
        c_in, *size = self.tensors[source].shape
        shape = (c_out, c_in // groups, kernel, kernel) if size else (c_out, c_in)
        end = 2 ** (w_bits - 1)
        weights = self.rng.integers(-end + (w_bits > 1), end, shape).astype(np.int8)
        counts = [
            (each + padding[n] + padding[n + 2] - (kernel - 1) * dilation[n] - 1) // stride[n] + 1
            for n, each in enumerate(size)
        ]
        output = self.tensor((c_out, *counts))
        step = self.tensors[output].scale / self.tensors[source].scale
        spread = np.sqrt((weights.astype(float) ** 2).sum() / c_out)
        self.operations.append(
            Product(
                layer=f"layer{len(self.operations)}",
                source=source,
                output=output,
                weights=weights,
                w_bits=w_bits,
                w_scale=(self.rng.uniform(0.5, 1.5, c_out) * step / spread).astype(np.float32).astype(np.float64),
                bias=self.rng.integers(-500, 500, c_out).astype(np.int32),
                low=self._bounds(output, bounds)[0],
                high=self._bounds(output, bounds)[1],
                stride=stride,
                padding=padding,
                dilation=dilation,
                groups=groups,
                shift=8 - max(w_bits, 2),
            )
        )
        return output

    def _bounds(self, name: str, bounds: Bounds) -> tuple[int, int]:
        tensor = self.tensors[name]
        zero = tensor.zero_point
        six = min(127, zero + int(6 / tensor.scale + 0.5))
        found = {"all": WHOLE, "relu": (zero, 127), "relu6": (zero, six), "narrow": (-127, 127), "inside": (-90, 100)}
        return found[bounds]

    def elementwise(self, operator: Literal["add", "multiply"], first: str, second: str) -> str:
        scales = self.tensors[first].scale, self.tensors[second].scale
        scale = sum(scales) if operator == "add" else 60 * scales[0] * scales[1]
        output = self.tensor(self.tensors[first].shape, scale=scale)
        low, high = self._bounds(output, "relu" if operator == "add" else "all")
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
        padding: Four = (0, 0, 0, 0),
    ) -> str:
        channels, *size = self.tensors[source].shape
        counts = [(each + padding[n] + padding[n + 2] - kernel[n]) // stride[n] + 1 for n, each in enumerate(size)]
        output = self.like(source, (channels, *counts))
        self.operations.append(
            Pool(operator=operator, source=source, output=output, kernel=kernel, stride=stride, padding=padding)
        )
        return output

    def table(self, source: str, codes: NDArray[np.int64], output: str | None = None) -> str:
        output = output or self.tensor(self.tensors[source].shape)
        self.operations.append(Table(source=source, output=output, codes=codes.astype(np.int8)))
        return output

    def concatenate(self, first: str, second: str) -> str:
        shapes = self.tensors[first].shape, self.tensors[second].shape
        output = self.like(first, (shapes[0][0] + shapes[1][0], *shapes[0][1:]))
        self.operations.append(Concatenation(sources=(first, second), output=output))
        return output

    def rearrange(
        self,
        operator: Literal["flatten", "pad", "subsample"],
        source: str,
        shape: tuple[int, ...],
        *,
        padding: tuple[tuple[int, int], ...] = (),
        stride: tuple[int, int] = (1, 1),
    ) -> str:
        output = self.like(source, shape)
        self.operations.append(
            Rearrangement(operator=operator, source=source, output=output, padding=padding, stride=stride)
        )
        return output

    def finish(self) -> IntegerNetwork:
        *_, last = self.operations
        return IntegerNetwork(
            name="small",
            input=self.input,
            output=last.output,
            tensors=self.tensors,
            operations=tuple(self.operations),
        )

    def inputs(self, count: int) -> Codes:
        return self.rng.integers(*WHOLE, (count, *self.shape), endpoint=True).astype(np.int8)


def every_operation(seed: int) -> Network:
    """Return a network with all operations, kinds of padding, widths, clamps and tables."""
    net = Network((3, 17, 16), np.random.default_rng(seed))
    x = net.product(net.input, 16, kernel=3, stride=(2, 2), padding=(1, 1, 1, 1), bounds="relu")
    x = net.product(x, 16, kernel=3, w_bits=3, padding=(1, 1, 1, 1), groups=16, bounds="narrow")
    x = net.product(x, 32, w_bits=4, bounds="relu6")
    x = net.product(x, 32, kernel=3, w_bits=2, padding=(2, 2, 2, 2), dilation=(2, 2), groups=32, bounds="inside")
    x = net.product(x, 32, kernel=3, w_bits=4, padding=(1, 1, 1, 1), groups=4)
    x = net.elementwise("add", x, net.product(x, 32, kernel=3, w_bits=5, padding=(1, 1, 1, 1)))
    x = net.table(x, net.rng.integers(*WHOLE, 256, endpoint=True))
    pooled = net.pool("max", x, (3, 3), stride=(2, 2), padding=(1, 1, 1, 1))
    gate = net.pool("average", x, net.tensors[x].shape[1:])
    gate = net.product(gate, 8, w_bits=7)
    gate = net.table(gate, np.arange(-128, 128).clip(-20, 90), net.like(gate, net.tensors[gate].shape))
    gated = net.elementwise("multiply", pooled, net.product(gate, 32, w_bits=1))
    side = net.rearrange("subsample", x, (32, 5, 4), stride=(2, 2))
    side = net.rearrange("pad", side, (36, 5, 4), padding=((2, 2), (0, 0), (0, 0)))
    matched = net.like(gated, (36, 5, 4))
    codes = requantized(net.tensors[side], net.tensors[matched])
    x = net.concatenate(gated, net.table(side, codes.clip(-100, 127), matched))
    x = net.pool("average", x, (3, 3), padding=(1, 1, 1, 1))
    x = net.rearrange("flatten", x, (68 * 20,))
    net.product(net.product(x, 20, w_bits=3, bounds="relu"), 10, w_bits=5)
    return net
