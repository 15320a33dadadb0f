"""Serialization of an object to bytes from which several processes read its tensors without copies."""

import pickle
from collections.abc import Sequence
from io import BytesIO
from typing import Any, BinaryIO

import cloudpickle
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ALIGNMENT = 64
"""Tensors begin at multiples of so many bytes, as torch allocates them."""
_LENGTH = np.dtype("<u8")


class _Storage:
    """Memory of one or more tensors."""

    def __init__(self, content: Any) -> None:
        array = np.frombuffer(content, dtype=np.uint8)
        self.memory = torch.from_numpy(array).untyped_storage()

    @classmethod
    def of(cls, memory: torch.UntypedStorage) -> "_Storage":
        storage = cls.__new__(cls)
        storage.memory = memory
        return storage

    def __reduce_ex__(self, protocol: Any) -> Any:
        content: Any = torch.empty(0, dtype=torch.uint8).set_(self.memory).numpy()
        return _Storage, (pickle.PickleBuffer(content),)


def _tensor(storage: _Storage, dtype: torch.dtype, offset: int, shape: torch.Size, stride: tuple[int, ...]) -> Tensor:
    return torch.empty(0, dtype=dtype).set_(storage.memory, offset, shape, stride)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickler that leaves the memory of tensors outside of the stream."""

    def __init__(self, file: BytesIO, buffers: list[pickle.PickleBuffer]) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffers.append)
        self._storages: dict[int, _Storage] = {}

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is not Tensor or not _is_plain(obj):
            return super().reducer_override(obj)
        memory = obj.untyped_storage()
        storage = self._storages.setdefault(memory.data_ptr(), _Storage.of(memory))
        return _tensor, (storage, obj.dtype, obj.storage_offset(), obj.shape, obj.stride())


def _is_plain(tensor: Tensor) -> bool:
    """Return whether a tensor is no more than memory on the CPU; others are pickled in torch's way."""
    is_view_of_values = tensor.is_conj() or tensor.is_neg() or tensor.is_quantized
    in_memory = tensor.layout is torch.strided and tensor.device.type == "cpu" and tensor.numel() > 0
    return in_memory and not (tensor.requires_grad or is_view_of_values)


def pack(value: object, file: BinaryIO) -> None:
    """Write an object, functions and classes of `__main__` included.

    Args:
        value: Object that `cloudpickle` can serialize.
        file: File to write to, from its current position, which must be a multiple of 64.

    Raises:
        TypeError, pickle.PicklingError: The object cannot be serialized.

    Examples:
        >>> file = BytesIO()
        >>> pack({"weight": torch.ones(2), "name": "conv"}, file)
        >>> unpack(bytearray(file.getvalue()))
        {'weight': tensor([1., 1.]), 'name': 'conv'}
    """
    stream, buffers = BytesIO(), list[pickle.PickleBuffer]()
    _Pickler(stream, buffers).dump(value)
    parts: Sequence[memoryview] = [stream.getbuffer(), *(buffer.raw() for buffer in buffers)]
    lengths = np.array([len(parts), *(len(part) for part in parts)], dtype=_LENGTH).tobytes()
    position = file.write(lengths)
    for part in parts:
        position += file.write(bytes(-position % _ALIGNMENT))
        position += file.write(part)


def unpack(packed: Any) -> Any:
    """Restore an object.

    Only for bytes that this program made itself: unpickling runs code.

    Args:
        packed: Result of `pack`, in writable memory, such as a private memory map. Tensors stay in it.

    Returns:
        The object. Tensors that shared memory still do.
    """
    memory: NDArray[np.uint8] = np.frombuffer(packed, dtype=np.uint8)
    count = int(memory[: _LENGTH.itemsize].view(_LENGTH)[0])
    position = _LENGTH.itemsize * (count + 1)
    parts: list[Any] = []
    for length in map(int, memory[_LENGTH.itemsize : position].view(_LENGTH)):
        position += -position % _ALIGNMENT
        parts.append(memory[position : position + length])
        position += length
    return pickle.loads(parts[0], buffers=parts[1:])  # noqa: S301  made by `pack` in this program
