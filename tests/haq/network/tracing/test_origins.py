"""Layers that wrote a tensor, followed through operations."""

import torch
from torch import Tensor

from haq.network.tracing.origins import Numbers, Origins

INPUT = torch.zeros(2)


class Followed:
    def __init__(self) -> None:
        self.held: list[tuple[Numbers, int]] = []
        self.origins = Origins({"x": INPUT}, lambda numbers, number: self.held.append((numbers, number)))

    def written_by(self, *numbers: int) -> Tensor:
        tensor = torch.zeros(2)
        self.origins.record(tensor, frozenset(numbers))
        return tensor

    def result(self, function: object, *operands: Tensor) -> set[int]:
        tensor = torch.ones(2)
        self.origins.propagate(function, operands, [tensor])  # type: ignore[arg-type]
        return set(self.origins.of(tensor))


def test_input_has_number_zero_and_views_those_of_their_memory() -> None:
    followed = Followed()
    assert followed.origins.of(INPUT) == {0}
    assert followed.origins.of(INPUT[1:]) == {0}
    assert followed.origins.of(torch.zeros(2)) == frozenset()


def test_combined_tensors_have_the_latest_number_and_hold_the_others() -> None:
    followed = Followed()
    one, three, four = followed.written_by(1), followed.written_by(3), followed.written_by(2, 4)
    assert followed.result(torch.add, one, three) == {3}
    assert followed.result(torch.where, three, four, one) == {4}
    assert followed.held == [({1}, 3), ({1, 2, 3}, 4)]


def test_joined_tensors_keep_all_numbers_and_hold_nothing() -> None:
    followed = Followed()
    assert followed.result(torch.cat, followed.written_by(1), followed.written_by(3)) == {1, 3}
    assert followed.held == []


def test_operands_of_one_origin_hold_nothing() -> None:
    followed = Followed()
    one, same, unknown = followed.written_by(1), followed.written_by(1), torch.zeros(2)
    assert followed.result(torch.add, one, same) == {1}
    assert followed.result(torch.add, one, unknown) == {1}
    assert followed.result(torch.relu, followed.written_by(1, 2)) == {1, 2}
    assert followed.held == []


def test_results_without_origin_do_not_replace_known_ones() -> None:
    followed = Followed()
    written = followed.written_by(2)
    followed.origins.propagate(torch.add, [torch.zeros(2)], [written])
    assert followed.origins.of(written) == {2}


def test_outputs_of_a_module_take_the_origin_of_its_inputs_only_if_they_were_not_seen() -> None:
    followed = Followed()
    seen, constant, imported, opaque = torch.zeros(1), torch.zeros(2), torch.zeros(3), torch.zeros(4)
    followed.origins.record(seen, frozenset({5}))
    followed.origins.propagate(torch.ones, [], [constant])
    followed.origins.propagate(torch.tensor, [], [imported])
    followed.origins.propagate_through_module([followed.written_by(1)], [seen, constant, imported, opaque])
    assert [set(followed.origins.of(each)) for each in (seen, constant, imported, opaque)] == [{5}, set(), {1}, {1}]
