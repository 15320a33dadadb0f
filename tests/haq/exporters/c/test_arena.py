from hypothesis import given
from hypothesis import strategies as st

from haq.exporters.c.arena import ALIGNMENT, Buffer, plan_memory

Lifetimes = st.tuples(st.integers(1, 50), st.integers(0, 9), st.integers(0, 4))


def buffers_of(drawn: list[tuple[int, int, int]]) -> list[Buffer]:
    return [
        Buffer(name=f"b{at}", size=size, first=first, last=first + length)
        for at, (size, first, length) in enumerate(drawn)
    ]


@given(st.lists(Lifetimes, max_size=14))
def test_buffers_that_are_needed_together_never_overlap(drawn: list[tuple[int, int, int]]) -> None:
    buffers = buffers_of(drawn)
    plan = plan_memory(buffers)
    for at, one in enumerate(buffers):
        start = plan.offsets[one.name]
        assert start % ALIGNMENT == 0
        assert start + one.size <= plan.size
        for other in buffers[:at]:
            if one.meets(other):
                begin = plan.offsets[other.name]
                assert start + one.size <= begin or begin + other.size <= start


@given(st.lists(Lifetimes, min_size=1, max_size=14))
def test_the_arena_is_no_larger_than_all_buffers_and_no_smaller_than_those_of_one_operation(
    drawn: list[tuple[int, int, int]],
) -> None:
    buffers = buffers_of(drawn)
    size = plan_memory(buffers).size
    assert size <= sum(each.size + ALIGNMENT for each in buffers)
    assert size >= max(sum(each.size for each in buffers if each.first <= now <= each.last) for now in range(14))


def test_buffers_reuse_memory_that_is_free_again() -> None:
    chain = [Buffer(name=str(at), size=100, first=at, last=at + 1) for at in range(10)]
    assert plan_memory(chain).size == 200
