"""Strategies of random layers for property tests of cost models."""

import pytest
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from hardware_sim.layer import Layer


@st.composite
def _layers(draw: st.DrawFn) -> Layer:
    kind = draw(st.sampled_from(["conv", "depthwise", "grouped", "linear"]))
    c_in, c_out = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    size = (draw(st.integers(1, 30)), draw(st.integers(1, 30)))
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (5, 3)]))
    if kind == "linear":
        return Layer(name="x", kind="linear", c_in=c_in, c_out=c_out)
    groups = {"conv": 1, "grouped": draw(st.integers(2, 4)), "depthwise": c_in}[kind]
    per_group = (1, 1) if kind == "depthwise" else (c_in, c_out)
    return Layer(
        name="x",
        kind="depthwise" if kind == "depthwise" else "conv",
        c_in=per_group[0] * groups,
        c_out=per_group[1] * groups,
        groups=groups,
        kernel=kernel,
        input_size=size,
        output_size=size,
    )


@pytest.fixture(scope="session")
def random_layer() -> SearchStrategy[Layer]:
    """Convolutions (plain, grouped, depthwise) and linear layers of all sizes."""
    return _layers()
