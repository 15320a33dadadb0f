"""Counts of comparisons of engines: their sum, and what it says in one line."""

from dataclasses import replace

from haq.evaluation.engines.agreement import SPREAD, Agreement


def test_comparisons_add_up_to_one_line() -> None:
    first = Agreement(codes=1000, differing=2)
    second = Agreement(predictions=8, other_predictions=3, moved_predictions=4, spread=1.1)
    assert (first + second).is_close
    assert str(first + second) == (
        "codes from equal inputs and biases are those of torch in every layer but for 2 ties of 1,000; "
        "end to end 3 of 8 predictions differ from torch, 4 where as many codes are moved by a step"
    )
    far = first + replace(second, spread=2 * SPREAD)
    assert not far.is_close
    assert str(far).endswith("and outputs 6 times as far")
