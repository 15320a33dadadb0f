"""A small fully connected network whose parameters are one vector and whose gradient is written out.

For networks of this size automatic differentiation costs more than the arithmetic; a single vector of parameters makes
an optimiser step or a target update a handful of tensor operations.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import sqrt
from typing import Any, Self

import torch
from torch import Generator, Tensor


class MLP:
    """Linear layers with ReLU in between; the last one is linear.

    `parameters` and `gradient` are vectors [parameter]; weights and biases are views of them. Initial values are
    uniform within +-1/sqrt(fan_in), biases included, as PyTorch's own linear layers start.

    >>> network = MLP((3, 8, 1), torch.Generator().manual_seed(0))
    >>> network.forward(torch.zeros(5, 3))[-1].shape
    torch.Size([5, 1])
    """

    def __init__(self, sizes: Sequence[int], generator: Generator) -> None:
        self._sizes = tuple(sizes)
        self._shapes = list(pairwise(sizes))
        self.parameters = torch.zeros(sum(fan_in * fan_out + fan_out for fan_in, fan_out in self._shapes))
        self.gradient = torch.zeros_like(self.parameters)
        self._layers = list(self._views(self.parameters))
        self._gradients = list(self._views(self.gradient))
        for weight, bias in self._layers:
            bound = 1 / sqrt(len(weight))
            weight.uniform_(-bound, bound, generator=generator)
            bias.uniform_(-bound, bound, generator=generator)

    def _views(self, vector: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Weight [fan_in, fan_out] and bias [fan_out] of every layer within a vector of parameters."""
        for fan_in, fan_out in self._shapes:
            weight, bias, vector = vector.tensor_split((fan_in * fan_out, (fan_in + 1) * fan_out))
            yield weight.view(fan_in, fan_out), bias

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """What every layer reads, [batch, fan_in] each, and at the end the output [batch, fan_out]."""
        activations = [inputs]
        for weight, bias in self._layers[:-1]:
            activations.append(torch.addmm(bias, activations[-1], weight).relu_())
        weight, bias = self._layers[-1]
        return [*activations, torch.addmm(bias, activations[-1], weight)]

    def backward(self, activations: Sequence[Tensor], output_gradient: Tensor) -> None:
        """Set `gradient` from what `forward` returned and the loss's gradient at the output [batch, fan_out]."""
        for index, delta in self._deltas(activations, output_gradient):
            weight, bias = self._gradients[index]
            torch.mm(activations[index].t(), delta, out=weight)
            torch.sum(delta, 0, out=bias)

    def input_gradient(self, activations: Sequence[Tensor], output_gradient: Tensor) -> Tensor:
        """The loss's gradient at the input, [batch, fan_in]; `gradient` stays as it is."""
        *_, (_, delta) = self._deltas(activations, output_gradient)
        return delta @ self._layers[0][0].t()

    def _deltas(self, activations: Sequence[Tensor], delta: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The loss's gradient before the nonlinearity of every layer, from the last layer to the first."""
        yield len(self._layers) - 1, delta
        for index in range(len(self._layers) - 2, -1, -1):
            behind = index + 1
            # What a ReLU gave is zero or positive: its sign is its derivative.
            delta = (delta @ self._layers[behind][0].t()).mul_(activations[behind].sign())
            yield index, delta

    def copy(self) -> Self:
        """A network of its own with equal parameters."""
        twin = type(self)(self._sizes, Generator())
        twin.parameters.copy_(self.parameters)
        return twin

    def state_dict(self) -> dict[str, Any]:
        """The parameters, copied."""
        return {"parameters": self.parameters.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the parameters of an equally large network; ValueError for any other."""
        load_vector(self.parameters, state["parameters"])


class Adam:
    """Adam on one network (Kingma and Ba 2015, algorithm 1), with the paper's 0.9, 0.999 and 1e-8."""

    def __init__(self, network: MLP, learning_rate: float) -> None:
        self._network = network
        self._learning_rate = learning_rate
        self._first = torch.zeros_like(network.parameters)
        self._second = torch.zeros_like(network.parameters)
        self._steps = 0

    def step(self) -> None:
        """Move the network's parameters against its gradient."""
        self._steps += 1
        gradient = self._network.gradient
        self._first.lerp_(gradient, 1 - 0.9)
        self._second.mul_(0.999).addcmul_(gradient, gradient, value=1 - 0.999)
        root = self._second.sqrt().div_(sqrt(1 - 0.999**self._steps)).add_(1e-8)
        rate = self._learning_rate / (1 - 0.9**self._steps)
        self._network.parameters.addcdiv_(self._first, root, value=-rate)

    def state_dict(self) -> dict[str, Any]:
        """Both moments, copied, and the number of steps."""
        return {"first": self._first.clone(), "second": self._second.clone(), "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken; ValueError if that was with another network."""
        load_vector(self._first, state["first"])
        load_vector(self._second, state["second"])
        self._steps = int(state["steps"])


def load_vector(target: Tensor, source: Tensor) -> None:
    """Copy `source` into `target`; ValueError if their shapes differ."""
    if target.shape != source.shape:
        raise ValueError(f"the state holds {tuple(source.shape)} numbers where {tuple(target.shape)} are needed")
    target.copy_(source)
