from collections import OrderedDict
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from haq.execution.structures import concatenate, device_of, item_count, map_tensors, rows, spread, take, tensors


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


def test_tensors_are_found_in_order_however_deep() -> None:
    structure = {"a": (torch.tensor(1), [torch.tensor(2)]), "b": Pair(torch.tensor(3), torch.tensor(4)), "c": "text"}
    assert [int(tensor) for tensor in tensors(structure)] == [1, 2, 3, 4]


def test_mapping_keeps_types_and_other_values() -> None:
    structure = (Pair(torch.ones(1), torch.ones(2)), OrderedDict(a=torch.zeros(1)), None, [3])
    found = map_tensors(lambda x: x + 1, structure)
    assert isinstance(found[0], Pair)
    assert isinstance(found[1], OrderedDict)
    assert found[2:] == (None, [3])
    assert (found[0].first, found[1]["a"]) == (2, 1)
    assert structure[1]["a"] == 0


def test_items_are_counted_along_the_first_dimension_of_a_tensor_and_in_lists() -> None:
    assert item_count(torch.zeros(5, 2)) == 5
    assert item_count(({}, {"x": torch.zeros(4)})) == 4
    assert item_count([torch.zeros(3, 8, 8), torch.zeros(3, 6, 6)]) == 2
    with pytest.raises(ValueError, match="has no items"):
        item_count(())


@pytest.mark.parametrize("items", [slice(1, 3), torch.tensor([1, 2])])
def test_items_are_taken_from_every_part(items: slice | Tensor) -> None:
    found = take({"x": torch.arange(4), "images": list("abcd")}, items)
    assert found["x"].tolist() == [1, 2]
    assert found["images"] == ["b", "c"]


def test_outputs_by_item_are_joined_as_lists() -> None:
    found = concatenate([[{"n": torch.tensor(0)}, {"n": torch.tensor(1)}], [{"n": torch.tensor(2)}]], [2, 1])
    assert [int(each["n"]) for each in found] == [0, 1, 2]


def test_lists_of_feature_maps_are_joined_map_by_map() -> None:
    found = concatenate([[torch.zeros(2, 3), torch.zeros(2)], [torch.ones(2, 3), torch.ones(2)]], [2, 2])
    assert [tuple(each.shape) for each in found] == [(4, 3), (4,)]


def test_dicts_and_tuples_are_joined_part_by_part() -> None:
    found = concatenate([{"a": (torch.zeros(1),)}, {"a": (torch.ones(2),)}], [1, 2])
    assert found["a"][0].tolist() == [0, 1, 1]


def test_a_tuple_becomes_positional_and_a_dict_keyword_arguments() -> None:
    x = torch.zeros(1)
    assert spread(x) == ((x,), {})
    assert spread([x]) == (([x],), {})
    assert spread(({"x": x},)) == (({"x": x},), {})


def test_rows_join_values_of_each_item() -> None:
    assert rows(
        {"a": torch.tensor([[1.0], [2.0]]), "b": torch.tensor([3, 4]), "c": torch.tensor([5.0, 6.0])}
    ).tolist() == [
        [1, 5],
        [2, 6],
    ]
    assert device_of("nothing") == torch.device("cpu")
