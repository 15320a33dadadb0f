"""Origins of activation tensors: which layers wrote the values, followed through all operations of a network."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from haq.execution.structures import Structure, tensors
from haq.network.tracing.operators import storage_of

Numbers = frozenset[int]
_JOINING = (torch.cat, torch.concat, torch.concatenate, torch.stack, torch.ops.aten.cat.default)

_IMPORTING = (torch.tensor, torch.as_tensor, torch.ops.aten.lift_fresh.default)
"""Functions whose results hold values that were not computed by torch."""


class Origins:
    """Numbers of the layers that wrote each tensor; 0 stands for the network's input.

    Args:
        example: Input of the network.
        hold: Function that is called with tensors that stay in memory while a layer runs: their numbers, and that of
            the layer.
    """

    def __init__(self, example: Structure, hold: Callable[[Numbers, int], None]) -> None:
        self._hold = hold
        # References to all tensors are kept, so that ids are not reused.
        self._tensors: dict[int, tuple[Tensor, Numbers]] = {}
        self._storages: dict[int, Numbers] = {}
        for tensor in tensors(example):
            self.record(tensor, frozenset({0}))

    def record(self, tensor: Tensor, numbers: Numbers) -> None:
        """Record the layers that wrote a tensor.

        Args:
            tensor: Tensor that was written.
            numbers: Numbers of the layers.
        """
        self._tensors[id(tensor)] = (tensor, numbers)
        self._storages[storage_of(tensor)] = numbers

    def of(self, tensor: Tensor) -> Numbers:
        """Return the numbers of the layers that wrote a tensor.

        Args:
            tensor: Any tensor.

        Returns:
            The numbers; empty if they are not known.
        """
        return self._found(tensor) or frozenset()

    def propagate(
        self, function: Callable[..., Any] | None, operands: Iterable[Tensor], results: Iterable[Tensor]
    ) -> None:
        """Propagate origins from the operands of a function, which is not a layer, to its results.

        If several tensors are combined, the results get the latest number. The other tensors are held in memory until
        the layer that wrote the latest has run.

        Args:
            function: Function of torch; None if it is not known.
            operands: Tensors that the function read.
            results: Tensors that the function returned.
        """
        origins = {self.of(tensor) for tensor in operands} - {frozenset()}
        joined: Numbers = frozenset().union(*origins)
        if function not in _JOINING and len(origins) > 1:
            self._hold(joined - {max(joined)}, max(joined))
            joined = frozenset({max(joined)})
        for tensor in results:
            if joined or (self._found(tensor) is None and function not in _IMPORTING):
                self.record(tensor, joined)

    def propagate_through_module(self, operands: Iterable[Tensor], results: Iterable[Tensor]) -> None:
        """Propagate origins from the inputs of a module to outputs whose computation was not observed.

        Args:
            operands: Inputs of the module.
            results: Outputs of the module.
        """
        unseen = [tensor for tensor in results if self._found(tensor) is None]
        if unseen:
            self.propagate(None, operands, unseen)

    def _found(self, tensor: Tensor) -> Numbers | None:
        if id(tensor) in self._tensors:
            return self._tensors[id(tensor)][1]
        return self._storages.get(storage_of(tensor))
