"""A small multilayer perceptron with a flat parameter vector and hand-written gradients, and its optimiser.

For networks of this size automatic differentiation costs more than the arithmetic; a single vector of parameters
reduces an optimiser step or a target update to a handful of tensor operations.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import sqrt
from typing import Any, Self

import torch
from torch import Generator, Tensor


class MLP:
    """Multilayer perceptron with ReLU between linear layers.

    Initial values are uniform within +-1/sqrt(fan_in), biases included, as in `torch.nn.Linear`.

    Args:
        sizes: Units of all layers, from input to output.
        generator: Source of the initial values.

    Attributes:
        parameters: Vector [parameter]; weights and biases are views of it.
        gradient: Vector [parameter], set by `backward`.

    Example:
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
        """Yield weight [fan_in, fan_out] and bias [fan_out] of every layer as views of a parameter vector."""
        for fan_in, fan_out in self._shapes:
            weight, bias, vector = vector.tensor_split((fan_in * fan_out, (fan_in + 1) * fan_out))
            yield weight.view(fan_in, fan_out), bias

    def forward(self, inputs: Tensor) -> list[Tensor]:
        """Compute the output and all intermediate activations.

        Args:
            inputs: [batch, fan_in] of the first layer.

        Returns:
            Inputs of every layer, [batch, fan_in] each, and last the output [batch, fan_out].
        """
        activations = [inputs]
        for weight, bias in self._layers[:-1]:
            activations.append(torch.addmm(bias, activations[-1], weight).relu_())
        weight, bias = self._layers[-1]
        return [*activations, torch.addmm(bias, activations[-1], weight)]

    def backward(self, activations: Sequence[Tensor], output_gradient: Tensor) -> None:
        """Compute the gradient of the parameters and store it in `gradient`.

        Args:
            activations: Result of `forward`.
            output_gradient: Gradient of the loss at the output, [batch, fan_out].
        """
        for index, delta in self._deltas(activations, output_gradient):
            weight, bias = self._gradients[index]
            torch.mm(activations[index].t(), delta, out=weight)
            torch.sum(delta, 0, out=bias)

    def input_gradient(self, activations: Sequence[Tensor], output_gradient: Tensor) -> Tensor:
        """Compute the gradient of the loss at the input; `gradient` is not changed.

        Args:
            activations: Result of `forward`.
            output_gradient: Gradient of the loss at the output, [batch, fan_out].

        Returns:
            Gradient [batch, fan_in].
        """
        *_, (_, delta) = self._deltas(activations, output_gradient)
        return delta @ self._layers[0][0].t()

    def _deltas(self, activations: Sequence[Tensor], delta: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield index and pre-activation gradient of every layer, from the last to the first."""
        yield len(self._layers) - 1, delta
        for index in range(len(self._layers) - 2, -1, -1):
            behind = index + 1
            # The output of a ReLU is zero or positive: its sign is the derivative.
            delta = (delta @ self._layers[behind][0].t()).mul_(activations[behind].sign())
            yield index, delta

    def copy(self) -> Self:
        """Return an independent network with equal parameters."""
        twin = type(self)(self._sizes, Generator())
        twin.parameters.copy_(self.parameters)
        return twin

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the parameters."""
        return {"parameters": self.parameters.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy the parameters of a network of equal size.

        Raises:
            ValueError: The network has another size.
        """
        load_vector(self.parameters, state["parameters"])


class Adam:
    """Adam optimiser of one network (Kingma and Ba 2015, algorithm 1), with the paper's 0.9, 0.999 and 1e-8.

    Args:
        network: Network whose parameters are updated.
        learning_rate: Step size.

    Attributes:
        learning_rate: Step size of the next step.
    """

    def __init__(self, network: MLP, learning_rate: float) -> None:
        self._network = network
        self.learning_rate = learning_rate
        self._first = torch.zeros_like(network.parameters)
        self._second = torch.zeros_like(network.parameters)
        self._steps = 0

    def step(self) -> None:
        """Update the network's parameters by its current gradient."""
        self._steps += 1
        gradient = self._network.gradient
        self._first.lerp_(gradient, 1 - 0.9)
        self._second.mul_(0.999).addcmul_(gradient, gradient, value=1 - 0.999)
        root = self._second.sqrt().div_(sqrt(1 - 0.999**self._steps)).add_(1e-8)
        rate = self.learning_rate / (1 - 0.9**self._steps)
        self._network.parameters.addcdiv_(self._first, root, value=-rate)

    def state_dict(self) -> dict[str, Any]:
        """Return copies of both moments, and the number of steps."""
        return {"first": self._first.clone(), "second": self._second.clone(), "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state returned by `state_dict`.

        Raises:
            ValueError: The state belongs to a network of another size.
        """
        load_vector(self._first, state["first"])
        load_vector(self._second, state["second"])
        self._steps = int(state["steps"])


def load_vector(target: Tensor, source: Tensor) -> None:
    """Copy a vector into another one of equal shape.

    Args:
        target: Destination.
        source: Source.

    Raises:
        ValueError: The shapes differ.
    """
    if target.shape != source.shape:
        raise ValueError(f"the state holds {tuple(source.shape)} numbers where {tuple(target.shape)} are needed")
    target.copy_(source)
