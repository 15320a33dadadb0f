"""Live tensors of a small residual network, computed by hand."""

from dataclasses import replace

from hardware_sim.layer import Layer
from hardware_sim.liveness import Live, live_elements

#  0 -> a -> 1 -> b -> 2 -> c -> 3, then 3 + 1 keeps the number 3 and goes to d.
A = Layer(name="a", kind="linear", c_in=10, c_out=4, input_tensors=(0,), output_tensor=1)
B = Layer(name="b", kind="linear", c_in=4, c_out=6, input_tensors=(1,), output_tensor=2)
C = Layer(name="c", kind="linear", c_in=6, c_out=4, input_tensors=(2,), output_tensor=3, held_tensors=(1,))
D = Layer(name="d", kind="linear", c_in=4, c_out=2, input_tensors=(3,), output_tensor=4)


def test_shortcut_is_live_until_added() -> None:
    assert list(live_elements([A, B, C, D])) == [
        Live({0: 10, 1: 4}, 0),
        Live({1: 4, 2: 6}, 0),
        Live({1: 4, 2: 6, 3: 4}, 0),
        Live({3: 4}, 2),
    ]


def test_tensor_counts_once_per_reader() -> None:
    late = replace(D, input_tensors=(1,))
    assert list(live_elements([A, B, late]))[1] == Live({1: 4, 2: 4}, 6)


def test_resized_tensor_counts_at_larger_size() -> None:
    pooled = Layer(name="p", kind="linear", c_in=1, c_out=2, input_tensors=(1,), output_tensor=2)
    assert list(live_elements([A, pooled]))[1] == Live({1: 4}, 2)
    enlarged = Layer(name="e", kind="linear", c_in=40, c_out=2, input_tensors=(1,), output_tensor=2)
    assert list(live_elements([A, enlarged]))[1] == Live({1: 40}, 2)


def test_concatenated_tensors_count_at_written_size() -> None:
    joined = Layer(name="j", kind="linear", c_in=10, c_out=2, input_tensors=(1, 2), output_tensor=3)
    assert list(live_elements([A, B, joined]))[2] == Live({1: 4, 2: 4 + 6}, 2)


def test_layers_without_tensor_numbers_hold_input_and_output() -> None:
    bare = Layer(name="x", kind="linear", c_in=10, c_out=4)
    assert list(live_elements([bare])) == [Live({0: 10}, 4)]
