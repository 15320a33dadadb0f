"""State of a network that is carried from each batch to those that continue it."""

import torch

from haq.execution.structures import Structure, concatenate, device_of, item_count, map_tensors, take, to_device
from haq.tasks.base import SplitName, Task
from haq.tasks.optional import StatefulTask


def largest_batch(task: Task, split: SplitName, batch_size: int) -> int:
    """Return the number of items that can be run at once, as none of them continues another.

    Args:
        task: Task with the data.
        split: Name of the split; the task has it.
        batch_size: Largest number of items in a batch.

    Returns:
        `batch_size`, or the number of streams of a `StatefulTask` if it is smaller.
    """
    streams = task.streams(split) if isinstance(task, StatefulTask) else None
    return batch_size if streams is None else min(batch_size, streams)


class CarriedState:
    """Replacement of the initial states in batches by those that the network returned; none for other tasks.

    For each batch in turn, `enter` gives the inputs to run, and `leave` takes the outputs.

    Args:
        task: Task with the data; others than a `StatefulTask` carry nothing.
        split: Name of the split.
        streams: Number of streams of the batches, each of which has at most so many items; that of the split if None.
    """

    def __init__(self, task: object, split: SplitName, *, streams: int | None = None) -> None:
        own = task.streams(split) if isinstance(task, StatefulTask) else None
        self._task = task if isinstance(task, StatefulTask) and own is not None else None
        self._streams = streams or own or 0
        self._seen = 0
        self._last: Structure = None
        """State of the last items, at most as many as there are streams."""

    def enter(self, inputs: Structure) -> Structure:
        """Replace the states of items that continue earlier ones.

        Args:
            inputs: Inputs of n items with initial states.

        Returns:
            Inputs with the states that the network returned for the items before; on the device of `inputs`.
        """
        if self._task is None:
            return inputs
        count = item_count(inputs)
        first = min(max(self._streams - self._seen, 0), count)
        if first == count:
            return inputs
        state = to_device(take(self._last, slice(count - first)), device_of(inputs))
        if first:
            initial = take(self._task.state(inputs), slice(first))
            state = concatenate([initial, state], [first, count - first])
        return self._task.with_state(inputs, state)

    def leave(self, outputs: Structure) -> None:
        """Keep the state in the outputs for the same inputs, without gradient.

        Args:
            outputs: Outputs of the network for the inputs that `enter` returned last.
        """
        if self._task is None:
            return
        state = map_tensors(torch.detach, self._task.state(outputs))
        count = item_count(state)
        if self._seen and count < self._streams:
            state = concatenate([self._last, state], [item_count(self._last), count])
            state = take(state, slice(-self._streams, None))
        self._last, self._seen = state, self._seen + count
