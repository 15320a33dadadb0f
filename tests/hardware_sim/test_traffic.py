"""Traffic: every tensor is written once, in the row of its first reader."""

import numpy as np

from hardware_sim.layer import Layer
from hardware_sim.networks import resnet18
from hardware_sim.traffic import moved_bits, moved_elements, packed_bits


def test_chain_by_hand() -> None:
    first = Layer(name="a", kind="linear", c_in=8, c_out=4, input_tensors=(0,), output_tensor=1)
    second = Layer(name="b", kind="linear", c_in=4, c_out=2, input_tensors=(1,), output_tensor=2)
    moved = moved_elements([first, second], 3)
    assert [part.tolist() for part in moved] == [[32, 8], [24, 12], [0, 12], [0, 0], [0, 6]]
    bits = moved_bits(moved, *packed_bits())
    at_4_and_2_bits = (slice(None), 3, 1)
    assert bits.total[at_4_and_2_bits].tolist() == [32 * 4 + 24 * 2, 8 * 4 + 12 * 2 + 12 * 2 + 6 * 8]


def test_residual_network_writes_every_tensor_once() -> None:
    layers = resnet18()
    moved = moved_elements(layers, 1)
    assert moved.written.sum() + moved.unread.sum() == sum(layer.output_count for layer in layers)
    shortcut = next(index for index, layer in enumerate(layers) if layer.name == "layer2.0.downsample.0")
    assert moved.written[shortcut] == 0  # its input was written for layer2.0.conv1
    assert moved.inputs[shortcut] == layers[shortcut].input_count
    assert moved.unread.tolist() == [1000 if layer.name == "fc" else moved.unread[i] for i, layer in enumerate(layers)]


def test_layers_without_tensor_numbers_write_their_output() -> None:
    moved = moved_elements([Layer(name="a", kind="linear", c_in=8, c_out=4)], 2)
    assert (moved.written.tolist(), moved.unread.tolist()) == ([0], [8])


def test_second_activation_of_a_matmul_counts_as_weights() -> None:
    # Two heads: 5 queries of 3 numbers against 4 keys of 3 numbers.
    layer = Layer(name="m", kind="matmul", c_in=6, c_out=8, groups=2, input_size=(1, 5), output_size=(1, 5))
    moved = moved_elements([layer], 10)
    assert moved.weights.tolist() == [10 * 2 * 4 * 3]
    assert moved.inputs.tolist() == [10 * 2 * 5 * 3]


def test_second_operands_are_written_at_their_own_width() -> None:
    projections = [
        Layer(name=name, kind="linear", c_in=6, c_out=6, input_size=(5, 1), output_size=(5, 1), output_tensor=number)
        for number, name in ((1, "q"), (2, "k"))
    ]
    sizes = {"c_in": 6, "c_out": 5, "input_size": (1, 5), "output_size": (1, 5)}
    product = Layer(name="qk", kind="matmul", input_tensors=(1, 2), second_tensors=(2,), output_tensor=3, **sizes)
    moved = moved_elements([*projections, product], 2)
    assert (moved.written.tolist(), moved.written_second.tolist()) == ([0, 0, 60], [0, 0, 60])
    outputs = moved_bits(moved, *packed_bits()).outputs[2]
    assert outputs[3, 1] == 60 * 2 + 60 * 4 + 2 * 25 * 8  # w_bits 4, a_bits 2


def test_embedding_fetches_the_rows_it_needs() -> None:
    layer = Layer(name="e", kind="embedding", c_in=1000, c_out=8, input_size=(1, 7), output_size=(1, 7))
    moved = moved_elements([layer], 2)
    assert (moved.weights.tolist(), moved.inputs.tolist()) == ([112], [0])


def test_no_layers() -> None:
    assert all(part.shape == (0,) and part.dtype == np.int64 for part in moved_elements([], 1))
