"""Step-by-step evaluation of torch's recurrent layers, in which each product with weights is a separate call.

torch computes an LSTM, GRU or RNN, with all layers, directions and steps, in one function, inside which nothing can be
quantized. Here it is written with two products for each layer and direction: the input's part of the gates, for all
steps at once (`F.linear`), and the state's part, one step after the other (`step_product`). An LSTM with a projection
has a third product at every step. Results differ from torch's by float rounding.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

State = tuple[Tensor, ...]
"""State of a step, [batch, hidden] each: the output, and for an LSTM the cell."""
Gates = Callable[[Tensor, Tensor, State], State]
"""Function from the input's and the state's part of the gates, [batch, gates * hidden], and the state to the next."""


def step_product(input: Tensor, weight: Tensor, bias: Tensor | None = None, step: int = 0) -> Tensor:  # noqa: A002
    """Compute `F.linear` for one step of a recurrence, visible to function modes.

    Args:
        input: State [batch, hidden].
        weight: Weights [out, hidden].
        bias: Bias [out].
        step: Number of the step, from 0.

    Returns:
        Product [batch, out].
    """
    if has_torch_function((input, weight)):
        answer: Tensor = handle_torch_function(step_product, (input, weight), input, weight, bias, step)
        return answer
    return F.linear(input, weight, bias)


def _lstm(x: Tensor, h: Tensor, state: State) -> State:
    into, forget, new, out = (x + h).chunk(4, dim=-1)
    cell = forget.sigmoid() * state[1] + into.sigmoid() * new.tanh()
    return out.sigmoid() * cell.tanh(), cell


def _gru(x: Tensor, h: Tensor, state: State) -> State:
    (x_reset, x_keep, x_new), (h_reset, h_keep, h_new) = x.chunk(3, dim=-1), h.chunk(3, dim=-1)
    new = (x_new + (x_reset + h_reset).sigmoid() * h_new).tanh()
    return (new + (x_keep + h_keep).sigmoid() * (state[0] - new),)


def _rnn_tanh(x: Tensor, h: Tensor, _: State) -> State:
    return ((x + h).tanh(),)


def _rnn_relu(x: Tensor, h: Tensor, _: State) -> State:
    return ((x + h).relu(),)


@dataclass(frozen=True, slots=True)
class _Cell:
    """Recurrent layer in one direction."""

    gates: Gates
    input_weight: Tensor
    state_weight: Tensor
    input_bias: Tensor | None = None
    state_bias: Tensor | None = None
    projection: Tensor | None = None

    @classmethod
    def of(cls, gates: Gates, parameters: Sequence[Tensor], has_biases: Any) -> "_Cell":
        """Build a cell from parameters in torch's order: weights, biases if any, projection if any."""
        head, rest = parameters[:2], parameters[2:]
        biases, rest = (rest[:2], rest[2:]) if has_biases else ((None, None), rest)
        return cls(gates, *head, *biases, *rest)

    def run(self, x: Tensor, sizes: Sequence[int], state: State, *, is_reverse: bool) -> tuple[Tensor, State]:
        """Return the outputs [items, hidden] and the last state for x [items, c].

        `sizes` are the items of each step, with sequences sorted by length. A sequence that has ended keeps its state;
        in the reverse direction, one that has not begun.
        """
        shares = torch.split(F.linear(x, self.input_weight, self.input_bias), list(sizes))
        outputs: list[Tensor] = []
        for step, share in enumerate(reversed(shares) if is_reverse else shares):
            active, inactive = _split_state(state, share.shape[0])
            active = self.step(share, active, step)
            outputs.append(active[0])
            state = tuple(torch.cat(parts) for parts in zip(active, inactive, strict=True)) if inactive else active
        return torch.cat(outputs[::-1] if is_reverse else outputs), state

    def step(self, share: Tensor, state: State, step: int) -> State:
        """Return the next state."""
        state = self.gates(share, step_product(state[0], self.state_weight, self.state_bias, step), state)
        if self.projection is None:
            return state
        return step_product(state[0], self.projection, None, step), *state[1:]


def _split_state(state: State, count: int) -> tuple[State, State]:
    """Return the states of the first `count` sequences, and of the others; empty if there are no others."""
    if count == state[0].shape[0]:
        return state, ()
    return tuple(part[:count] for part in state), tuple(part[count:] for part in state)


@dataclass(frozen=True, slots=True)
class _Stack:
    """Layers of one call, each with its one or two directions and their initial states."""

    layers: Sequence[Sequence[tuple[_Cell, State]]]
    dropout: float

    @classmethod
    def of(cls, gates: Gates, initial: Any, parameters: Sequence[Tensor], options: Sequence[Any]) -> "_Stack":
        """Build the stack from the arguments of torch's function; `options` are those after the parameters."""
        has_biases, count, dropout, is_training, is_bidirectional = options
        directions = 2 if is_bidirectional else 1
        each = len(parameters) // (count * directions)
        groups = [parameters[first : first + each] for first in range(0, len(parameters), each)]
        initials = zip(*((initial,) if isinstance(initial, Tensor) else initial), strict=True)
        cells = [(_Cell.of(gates, group, has_biases), start) for group, start in zip(groups, initials, strict=True)]
        layers = [cells[first : first + directions] for first in range(0, len(cells), directions)]
        return cls(layers, dropout if is_training else 0.0)

    def run(self, x: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
        """Return outputs [items, hidden] and the last states, [layers * directions, batch, hidden] each."""
        ends: list[State] = []
        for number, cells in enumerate(self.layers):
            x = F.dropout(x, self.dropout) if number and self.dropout else x
            ran = [cell.run(x, sizes, start, is_reverse=which == 1) for which, (cell, start) in enumerate(cells)]
            x = torch.cat([outputs for outputs, _ in ran], dim=-1) if len(ran) > 1 else ran[0][0]
            ends += [end for _, end in ran]
        return x, *(torch.stack(parts) for parts in zip(*ends, strict=True))


def _layers(gates: Gates) -> Callable[..., tuple[Tensor, ...]]:
    """Return a replacement of torch's function for a stack of layers, on [steps, batch, c] or packed sequences."""

    def run(*arguments: Any) -> tuple[Tensor, ...]:
        if isinstance(arguments[3], list | tuple):  # a packed sequence: the third argument is the initial state
            data, sizes, initial, parameters, *options = arguments
            return _Stack.of(gates, initial, parameters, options).run(data, sizes.tolist())
        x, initial, parameters, *options, is_batch_first = arguments
        x = x.transpose(0, 1) if is_batch_first else x
        steps, batch = x.shape[:2]
        outputs, *states = _Stack.of(gates, initial, parameters, options).run(x.flatten(0, 1), [batch] * steps)
        outputs = outputs.view(steps, batch, -1)
        return (outputs.transpose(0, 1) if is_batch_first else outputs, *states)

    return run


def _cell(gates: Gates) -> Callable[..., Any]:
    """Return a replacement of torch's function for one step."""

    def run(x: Tensor, initial: Any, *parameters: Tensor) -> Any:
        cell = _Cell(gates, *parameters)
        state = (initial,) if isinstance(initial, Tensor) else tuple(initial)
        after = cell.step(F.linear(x, cell.input_weight, cell.input_bias), state, 0)
        return after[0] if isinstance(initial, Tensor) else after

    return run


STEP_BY_STEP: Mapping[Callable[..., Any], Callable[..., Any]] = {
    torch.lstm: _layers(_lstm),
    torch.gru: _layers(_gru),
    torch.rnn_tanh: _layers(_rnn_tanh),
    torch.rnn_relu: _layers(_rnn_relu),
    torch.lstm_cell: _cell(_lstm),
    torch.gru_cell: _cell(_gru),
    torch.rnn_tanh_cell: _cell(_rnn_tanh),
    torch.rnn_relu_cell: _cell(_rnn_relu),
}
"""Replacements of torch's functions; arguments are positional, as torch's modules pass them."""
