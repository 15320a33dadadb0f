"""Lowering of each kind of layer."""

import pytest

from hardware_sim.bit_fusion_lowering import Call, Groups, WriteBack, lower
from hardware_sim.bit_fusion_nest import Nest
from hardware_sim.layer import Layer


def _only(layer: Layer, *, batch: int = 2, columns: int = 8, groups: Groups = "shared") -> Call:
    """The call of a layer that does not read the input of the network."""
    stem = Layer(name="stem", kind="linear", c_in=1, c_out=1)
    return lower([stem, layer], batch, columns=columns, groups=groups)[1]


def test_convolution_is_one_nest() -> None:
    layer = Layer(
        name="c", kind="conv", c_in=4, c_out=6, kernel=(3, 1), stride=(2, 1), dilation=(1, 2), input_size=(9, 5),
        output_size=(4, 5),
    )  # fmt: skip
    assert _only(layer) == Call(
        1,
        Nest(2, 4, 6, 6, output_size=(4, 5), kernel=(3, 1), stride=(2, 1), dilation=(1, 2), input_size=(9, 5)),
        write_back=WriteBack(unread=2 * 6 * 20),
    )


def test_only_convolutions_that_read_the_input_of_the_network_are_unrolled() -> None:
    def conv(name: str, reads: tuple[int, ...], writes: int | None) -> Layer:
        return Layer(name=name, kind="conv", c_in=4, c_out=4, input_tensors=reads, output_tensor=writes)

    def taps(*layers: Layer) -> list[str]:
        calls = lower(layers, 1, columns=8, groups="shared")
        return [call.nest.taps for call in calls if call.nest is not None]

    assert taps(conv("a", (0,), 1), conv("b", (0,), 2), conv("c", (1, 2), 3)) == ["unrolled", "unrolled", "steps"]
    assert taps(conv("a", (), None), conv("b", (), None)) == ["unrolled", "steps"]
    assert taps(Layer(name="fc", kind="linear", c_in=4, c_out=4)) == ["steps"]


@pytest.mark.parametrize(
    ("groups", "columns", "expected"),
    [
        ("shared", 8, (1, 2, 12, 3, "rows")),
        ("shared", 3, (4, 2, 3, 3, "steps")),  # one group fills the columns
        ("one-by-one", 8, (4, 2, 3, 3, "steps")),
    ],
)
def test_shared_groups_fill_free_columns(
    groups: Groups, columns: int, expected: tuple[int, int, int, int, str]
) -> None:
    layer = Layer(
        name="g", kind="conv", c_in=8, c_out=12, groups=4, kernel=(3, 3), input_size=(5, 5), output_size=(5, 5)
    )
    call = _only(layer, columns=columns, groups=groups)
    assert call.nest is not None
    assert (call.repeats, call.nest.c_in, call.nest.c_out, call.nest.shared_c_out, call.nest.taps) == expected


def test_transposed_convolution_multiplies_at_every_input_position() -> None:
    layer = Layer(
        name="t", kind="conv_transpose", c_in=4, c_out=3, kernel=(2, 2), stride=(2, 2), input_size=(5, 6),
        output_size=(10, 12),
    )  # fmt: skip
    call = _only(layer)
    assert call == Call(
        1, Nest(2, 4, 12, 12, output_size=(5, 6), input_size=(5, 6)), write_back=WriteBack(unread=2 * 3 * 120)
    )


def test_positions_of_a_linear_layer_count_like_the_batch() -> None:
    layer = Layer(name="l", kind="linear", c_in=4, c_out=3, input_size=(7, 1), output_size=(7, 1))
    assert _only(layer).nest == Nest(14, 4, 3, 3)


def test_matmul_runs_once_for_every_image_and_head() -> None:
    layer = Layer(name="m", kind="matmul", c_in=8, c_out=20, groups=4, input_size=(7, 1), output_size=(7, 1))
    call = _only(layer)
    assert (call.repeats, call.nest) == (8, Nest(7, 2, 5, 5))


def test_recurrent_layer_runs_once_a_step() -> None:
    layer = Layer(name="r", kind="recurrent", c_in=8, c_out=16, input_size=(7, 1), output_size=(7, 1))
    call = _only(layer)
    assert (call.repeats, call.nest) == (7, Nest(2, 8, 16, 16))


def test_embedding_only_copies() -> None:
    layer = Layer(name="e", kind="embedding", c_in=100, c_out=16, input_size=(7, 1), output_size=(7, 1))
    assert _only(layer) == Call(1, None, copied=2 * 7 * 16, write_back=WriteBack(unread=2 * 7 * 16))
