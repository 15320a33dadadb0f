"""Which layer wrote what an activation tensor holds, followed through everything that a network computes."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from haq.network.tracing.operators import storage_of

Numbers = frozenset[int]
_JOINING = (torch.cat, torch.concat, torch.concatenate, torch.stack, torch.ops.aten.cat.default)

_IMPORTING = (torch.tensor, torch.as_tensor, torch.ops.aten.lift_fresh.default)
"""Functions whose results hold values that something else than torch computed."""


class Origins:
    """The numbers of the layers that wrote each tensor; 0 stands for the network's input.

    `hold` is called with tensors that a layer keeps in memory while it runs: their numbers, and the layer's.
    """

    def __init__(self, example: Tensor, hold: Callable[[Numbers, int], None]) -> None:
        self._hold = hold
        # Tensors are kept until the end, so that an id names one tensor only.
        self._tensors: dict[int, tuple[Tensor, Numbers]] = {}
        self._storages: dict[int, Numbers] = {}
        self.note(example, frozenset({0}))

    def note(self, tensor: Tensor, numbers: Numbers) -> None:
        """Record the layers that wrote a tensor."""
        self._tensors[id(tensor)] = (tensor, numbers)
        self._storages[storage_of(tensor)] = numbers

    def of(self, tensor: Tensor) -> Numbers:
        """Numbers of the layers that wrote a tensor; empty where they are not known."""
        return self._found(tensor) or frozenset()

    def carry(self, function: Callable[..., Any] | None, operands: Iterable[Tensor], results: Iterable[Tensor]) -> None:
        """The results of anything but a layer keep the numbers of what it read, the latest where it combined several.

        The others that were combined are held until then: by the layer that wrote the latest.
        """
        origins = {self.of(tensor) for tensor in operands} - {frozenset()}
        joined: Numbers = frozenset().union(*origins)
        if function not in _JOINING and len(origins) > 1:
            self._hold(joined - {max(joined)}, max(joined))
            joined = frozenset({max(joined)})
        for tensor in results:
            if joined or (self._found(tensor) is None and function not in _IMPORTING):
                self.note(tensor, joined)

    def carry_through(self, operands: Iterable[Tensor], results: Iterable[Tensor]) -> None:
        """The same for what a module answers, where it was not seen how it computed that."""
        unseen = [tensor for tensor in results if self._found(tensor) is None]
        if unseen:
            self.carry(None, operands, unseen)

    def _found(self, tensor: Tensor) -> Numbers | None:
        if id(tensor) in self._tensors:
            return self._tensors[id(tensor)][1]
        return self._storages.get(storage_of(tensor))
