"""Objects survive packing, and their tensors stay in the memory that they were packed in."""

from io import BytesIO
from typing import Any

import torch
from torch import nn

from haq.execution.packing import pack, unpack


def through_memory(value: object) -> tuple[Any, bytearray]:
    file = BytesIO()
    pack(value, file)
    packed = bytearray(file.getvalue())
    return unpack(packed), packed


def test_values_shapes_strides_and_types_are_kept() -> None:
    matrix = torch.arange(12.0).view(3, 4)
    value = {
        "matrix": matrix,
        "transposed": matrix.t(),
        "scalar": torch.tensor(3),
        "mask": torch.tensor([True, False]),
        "empty": torch.empty(0, 2),
        "gradient": torch.ones(2, requires_grad=True),
    }
    found, _ = through_memory(value)
    for name, tensor in value.items():
        assert torch.equal(found[name], tensor)
        assert found[name].stride() == tensor.stride()
        assert found[name].dtype == tensor.dtype
        assert found[name].requires_grad == tensor.requires_grad


def test_tensors_that_share_memory_still_do() -> None:
    matrix = torch.zeros(2, 2)
    (first, row), _ = through_memory((matrix, matrix[1]))
    row[0] = 5.0
    assert first[1, 0] == 5.0


def test_tensors_are_not_copied_out_of_the_packed_memory() -> None:
    found, packed = through_memory(torch.ones(1000))
    before = bytes(packed)
    found.zero_()
    assert bytes(packed) != before


def test_networks_compute_the_same_and_tied_parameters_stay_tied() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3)).eval()
    network[2].weight = network[0].weight
    found, _ = through_memory(network)
    inputs = torch.rand(4, 3)
    assert torch.equal(found(inputs), network(inputs))
    assert found[2].weight is found[0].weight


def test_functions_of_the_main_module_are_packed_by_value() -> None:
    found, _ = through_memory(lambda x: x + 1)
    assert found(1) == 2
