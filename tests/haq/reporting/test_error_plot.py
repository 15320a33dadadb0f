from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection

import haq
from haq.__main__ import main
from haq.errors import UserError
from haq.policy import load_policy
from haq.reporting.plots.error import LEAST, plot_error
from haq.reporting.plots.run import draw_run, plot_run
from haq.reporting.plots.sensitivity import plot_expected
from haq.runs.layer_errors import LayerError, LayerErrors

LAYERS = (
    LayerError(name="stem", added=0.01, accumulated=0.01),
    LayerError(name="unused", added=None, accumulated=None),
    LayerError(name="fc", added=0.0, accumulated=0.03),
)
ERRORS = LayerErrors(images=32, layers=LAYERS)


def marks(axes: Axes) -> dict[float, float]:
    """Heights of all marks by position."""
    found = [collection.get_offsets() for collection in axes.collections if isinstance(collection, PathCollection)]
    return {float(x): float(y) for x, y in np.ma.concatenate(found) if np.isfinite(y)}


def test_marks_are_what_layers_add_and_the_line_is_what_accumulates() -> None:
    (axes,) = plot_error(ERRORS, ["conv", "conv", "linear"]).axes
    assert marks(axes) == {0.0: 0.01, 2.0: LEAST}
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [0.01, np.nan, 0.03])
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["accumulated", "added, convolution", "added, linear"]


def test_a_policy_without_any_error_is_drawn() -> None:
    layers = tuple(LayerError(name=layer.name, added=None, accumulated=None) for layer in LAYERS)
    figure = plot_error(LayerErrors(images=1, layers=layers), ["conv"] * 3, title="nothing")
    assert [text.get_text() for text in figure.texts] == ["nothing", "no layer adds an error; 1 calibration image"]


def test_a_run_has_figures_of_errors_and_of_expected_sensitivities(finished_run: Path) -> None:
    figure = draw_run(finished_run, "error", title="errors")
    assert figure.texts[0].get_text() == "errors"
    figure = haq.plot(finished_run, "sensitivity")
    (dots,) = (each for each in figure.axes[0].collections if isinstance(each, PathCollection))
    bits = load_policy(finished_run / "policy.json").w_bits
    fewest = 8.5 - figure.axes[0].get_ylim()[1] + 0.5
    assert [y - 0.5 + fewest for y in dots.get_offsets()[:, 1]] == list(bits)


def test_the_command_draws_errors_as_pdf_with_a_title(finished_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "errors.pdf"
    assert main(["plot", str(finished_run), "--kind", "error", "--title", "Mine", "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"%PDF")


def test_a_run_without_errors_is_refused_for_these_figures(finished_run: Path, tmp_path: Path) -> None:
    for name in ("policy.json", "config.json"):
        (tmp_path / name).write_bytes((finished_run / name).read_bytes())
    with pytest.raises(UserError, match=r"has no layer_errors\.json"):
        plot_run(tmp_path, kinds=["error"])
    with pytest.raises(ValueError, match="no prior"):
        plot_expected(ERRORS, load_policy(finished_run / "policy.json"))


@pytest.mark.parametrize("content", ["{", '{"images": 3, "layers": []}'])
def test_damaged_errors_are_named(finished_run: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "policy.json").write_bytes((finished_run / "policy.json").read_bytes())
    (tmp_path / "layer_errors.json").write_text(content)
    with pytest.raises(UserError, match=r"layer_errors\.json is damaged"):
        plot_run(tmp_path, kinds=["error"])


def test_errors_of_other_layers_are_refused(finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_bytes((finished_run / "policy.json").read_bytes())
    (tmp_path / "layer_errors.json").write_text(ERRORS.model_dump_json())
    with pytest.raises(UserError, match="of other layers"):
        plot_run(tmp_path, kinds=["error"])
