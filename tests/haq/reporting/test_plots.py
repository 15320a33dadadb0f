import json
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from envs.choices import Budget
from haq.budgets import ResolvedBudget
from haq.errors import UserError
from haq.layer_bits import LayerBits
from haq.policy import CostSummary, Policy
from haq.reporting.plots import plot_learning, plot_policy, plot_roofline, plot_run, save_figure
from haq.reporting.plots.curve import Outcome, Target, learning_curve
from haq.reporting.plots.layer_axis import shortened
from haq.reporting.plots.policy import policy_title
from haq.reporting.plots.roofline import roofline_points
from haq.reporting.plots.run import draw_run
from haq.runs.episode import Episode
from haq.tasks.metrics import metric_named
from hardware_sim.catalog import load_accelerator
from hardware_sim.cost import UnsupportedError
from hardware_sim.layer import Layer
from hardware_sim.networks import mobilenet_v2

BUDGET = ResolvedBudget(Budget("latency", 6e-3), 0.6)


def make_policy(layers: tuple[LayerBits, ...] | None = None) -> Policy:
    layers = layers or (
        LayerBits(name="stem", kind="conv", w_bits=8, a_bits=7),
        LayerBits(name="dw", kind="depthwise", w_bits=3, a_bits=5),
        LayerBits(name="lstm", kind="recurrent", w_bits=None, a_bits=None),
        LayerBits(name="fc", kind="linear", w_bits=4, a_bits=None),
    )
    return Policy(
        model="m",
        hardware="bismo-edge",
        objective="latency",
        layers=layers,
        cost=CostSummary(latency_s=5.9e-3),
        baseline_cost=CostSummary(latency_s=10e-3),
        accuracy={"report": 0.95, "fp32_report": 0.96},
    )


def make_episode(episode: int = 0, **values: Any) -> Episode:
    """An episode with these values and any others."""
    others = {"w_bits": (4,), "a_bits": (4,), "cost": 1.0, "divergence": 0.0, "noise": 0.0, "reward": 0.0}
    losses = {"actor_loss": None, "critic_loss": None}
    return Episode(**{"episode": episode, **others, **losses, **values})


def make_episodes(count: int = 50) -> list[Episode]:
    return [
        make_episode(
            index,
            cost=5e-3 + 2e-3 * (index == 3),
            accuracy=0.5 + 0.4 * index / count,
            score=index - 10.0,
            actor_loss=None if index < 5 else -1.0,
            critic_loss=None if index < 5 else 1.0 / index,
        )
        for index in range(count)
    ]


def heights(axes: Axes) -> list[float]:
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return [bar.get_height() for bar in sorted(bars, key=lambda bar: bar.get_x())]


def legend_texts(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def labels(figure: Figure) -> list[str]:
    return [axes.get_ylabel() for axes in figure.axes]


def header(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.texts)


def overlapping_texts(figure: Figure) -> list[tuple[str, str]]:
    figure.draw_without_rendering()
    outside = {
        label
        for axes in figure.axes
        for axis, at in ((axes.xaxis, 0), (axes.yaxis, 1))
        for label in axis.get_ticklabels()
        if not min(axis.get_view_interval()) <= label.get_position()[at] <= max(axis.get_view_interval())
    }
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    texts = [text for text in texts if text not in outside]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    return [
        (one, other)
        for index, (one, box) in enumerate(boxes)
        for other, other_box in boxes[index + 1 :]
        if box.padded(-1).overlaps(other_box.padded(-1))
    ]


def test_bars_are_as_high_as_the_bits_and_float_reaches_the_top() -> None:
    weights, activations = plot_policy(make_policy()).axes
    assert heights(weights) == [8, 3, 8, 4]
    assert heights(activations) == [7, 5, 8, 8]
    assert [text.get_text() for text in weights.texts if text.get_text() == "fp"] == ["fp"]
    assert [text.get_text() for text in activations.texts if text.get_text() == "fp"] == ["fp", "fp"]


def test_kinds_of_layers_are_told_apart_by_colour_hatch_and_legend() -> None:
    weights, _ = plot_policy(make_policy()).axes
    assert legend_texts(weights) == ["convolution", "depthwise", "linear", "left in float"]
    bars = sorted((p for p in weights.patches if isinstance(p, Rectangle)), key=lambda bar: bar.get_x())
    assert len({bar.get_facecolor() for bar in bars}) == 4
    assert [bool(bar.get_hatch()) for bar in bars] == [False, True, False, False]


def test_layers_are_named_and_the_header_has_cost_budget_and_accuracy() -> None:
    figure = plot_policy(make_policy(), budgets=[BUDGET])
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["stem", "dw", "lstm", "fc"]
    assert header(figure) == (
        "m on bismo-edge\nlatency 5.9 ms, 59.0 % of 8 bits (budget 6 ms, 60.0 %)  ·  accuracy 95.0 % (float 96.0 %)"
    )


def test_figures_show_themselves_in_notebooks() -> None:
    figure: Any = plot_policy(make_policy())
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_policy_without_costs_is_drawn() -> None:
    bare = Policy(model="m", hardware=None, objective=None, layers=make_policy().layers)
    assert header(plot_policy(bare)) == "m\n"


@pytest.mark.parametrize("count", [1, 10, 53, 160])
def test_no_text_lies_on_another(count: int) -> None:
    layers = tuple(
        LayerBits(name=f"features.{index}.block.conv.0", kind="conv", w_bits=8, a_bits=2 + index % 7)
        for index in range(count)
    )
    figure = plot_policy(make_policy(layers), budgets=[BUDGET])
    assert overlapping_texts(figure) == []
    assert figure.get_figwidth() <= 16


def test_dollar_signs_in_names_are_not_formulas() -> None:
    layers = (LayerBits(name=r"$\frac$", kind="conv", w_bits=4, a_bits=4),)
    policy = make_policy(layers).model_copy(update={"model": r"$\frac$"})
    save_figure_bytes(plot_policy(policy))


def test_a_shortened_name_begins_with_no_half_number() -> None:
    assert shortened("blocks.10.attention", longest=13) == "….attention"


def save_figure_bytes(figure: Figure) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer)
    return buffer.getvalue()


def test_the_best_so_far_counts_only_what_is_within_the_budget() -> None:
    lines = [
        make_episode(cost=5e-3, accuracy=0.7, score=-2.0),
        make_episode(cost=7e-3, accuracy=0.9, score=-1.0),
        make_episode(cost=5e-3, accuracy=0.8, score=-1.5),
        make_episode(cost=4e-3, accuracy=0.79, score=-1.5),
    ]
    curve = learning_curve(lines, Target(BUDGET))
    assert curve.within.tolist() == [True, False, True, True]
    assert curve.best.tolist() == [0, 0, 2, 3]
    assert curve.cost_ratios is not None
    assert curve.cost_ratios.tolist() == pytest.approx([0.5, 0.7, 0.5, 0.4])


def test_a_sum_in_another_order_is_not_over_the_budget() -> None:
    line = make_episode(cost=6e-3 * (1 + 1e-15), accuracy=0.7, score=-2.0)
    assert learning_curve([line], Target(BUDGET)).within.tolist() == [True]


def test_learning_curve_has_panels_for_costs_losses_and_report() -> None:
    report = {"float": 0.97, "policy": 0.95, "uniform 4/4": 0.9}
    figure = plot_learning(
        make_episodes(), title="t", target=Target(BUDGET), outcome=Outcome(score_fp32=0.96, report=report)
    )
    assert labels(figure) == [
        "accuracy, search split", "cost over\n8 bits", "critic\nloss", "actor\nloss", "report split",
    ]  # fmt: skip
    assert legend_texts(figure.axes[0]) == ["episode", "over budget", "mean of 20", "best so far", "float"]
    assert figure.axes[3].get_xlabel() == "episode (shaded: warm-up)"
    assert [text.get_text() for text in figure.axes[4].texts] == [
        "97.0",
        "float",
        "95.0",
        "policy",
        "90.0",
        "uniform 4/4",
    ]
    assert header(figure) == "t\n50 episodes  ·  best so far: episode 49, accuracy 89.2 % on the search split"
    assert overlapping_texts(figure) == []


def test_the_points_of_a_learning_curve_are_the_episodes() -> None:
    episodes = make_episodes(12)
    points = plot_learning(episodes).axes[0].collections[0].get_offsets()
    assert [tuple(point) for point in points] == [(each.episode, each.accuracy) for each in episodes]


def test_a_few_failures_lie_below_the_axis_and_do_not_flatten_it() -> None:
    episodes = make_episodes() + [make_episode(cost=5e-3, accuracy=0.0, score=-99.0)] * 2
    episodes = [
        each.model_copy(update={"accuracy": max(each.accuracy, 0.85) if each.accuracy else 0.0}) for each in episodes
    ]
    axes = plot_learning(episodes).axes[0]
    assert "below the axis" in legend_texts(axes)
    assert axes.get_ylim()[0] > 0.8


def test_a_score_that_is_no_accuracy_is_not_in_percent() -> None:
    figure = plot_learning(
        [make_episode(cost=1.0, accuracy=-4.5, score=0.0)], outcome=Outcome(metric=metric_named("negative perplexity"))
    )
    assert "episode 0, negative perplexity -4.5 " in header(figure)
    with pytest.raises(ValueError, match="no episodes"):
        plot_learning([])


def test_a_layer_lies_on_the_roofline_where_its_traffic_and_time_put_it() -> None:
    layer = Layer(name="fc", kind="linear", c_in=256, c_out=256)
    device = load_accelerator("bismo-edge")
    table = device.table([layer])
    assert table.dram_bits is not None
    points = roofline_points(table, w_bits=[4], a_bits=[4])
    assert points.intensity[0] == pytest.approx(256 * 256 * 8 / table.dram_bits[0, 3, 3])
    assert points.macs_per_s[0] == pytest.approx(256 * 256 / (table.layer_cost(0, 4, 4).latency_s or 0))
    assert points.share.tolist() == [1.0]


@pytest.mark.parametrize("name", ["bismo-edge", "systolic-tpu", "gpu-t4"])
def test_no_layer_lies_above_its_roof(name: str) -> None:
    device, layers = load_accelerator(name), mobilenet_v2()
    bits = [2 + index % 7 for index in range(len(layers))]
    table = device.table(layers)
    points = roofline_points(table, w_bits=bits, a_bits=bits)
    for width, intensity, speed in zip(bits, points.intensity, points.macs_per_s, strict=True):
        peak = device.peak_macs_per_s(width, width)
        assert peak is not None
        assert device.bytes_per_s is not None
        assert speed <= 1.001 * min(peak, intensity * device.bytes_per_s)
    axes = plot_roofline(table, device, w_bits=bits, a_bits=bits).axes[0]
    assert legend_texts(axes) == ["convolution", "depthwise", "linear"]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_a_roofline_shows_where_layers_were_at_other_bits() -> None:
    layer = Layer(name="fc", kind="linear", c_in=256, c_out=256)
    edge = load_accelerator("bismo-edge")
    table = edge.table([layer])
    (axes,) = plot_roofline(table, edge, w_bits=[4], a_bits=[4], before=8).axes
    (line,) = (line for line in axes.lines if len(line.get_xdata()) == 2)
    before, after = (roofline_points(table, w_bits=[bits], a_bits=[bits]) for bits in (8, 4))
    assert list(line.get_xdata()) == [before.intensity[0], after.intensity[0]]
    assert list(line.get_ydata()) == [before.macs_per_s[0], after.macs_per_s[0]]


def test_a_roofline_needs_memory_and_bits_that_the_device_supports() -> None:
    layer = Layer(name="fc", kind="linear", c_in=256, c_out=256)
    mcu, edge = load_accelerator("mcu-cortex-m7"), load_accelerator("bismo-edge")
    with pytest.raises(UserError, match="does not model its main memory"):
        plot_roofline(mcu.table([layer]), mcu, w_bits=[8], a_bits=[8])
    with pytest.raises(UnsupportedError, match="'fc' at float x float"):
        plot_roofline(edge.table([layer]), edge, w_bits=[None], a_bits=[None])


STARTS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


@pytest.mark.parametrize("suffix", STARTS)
def test_equal_figures_give_equal_bytes_whatever_the_user_has_set(tmp_path: Path, suffix: str) -> None:
    one, other = tmp_path / f"one{suffix}", tmp_path / f"other{suffix}"
    save_figure(plot_policy(make_policy()), one)
    with matplotlib.rc_context({"font.size": 30, "savefig.dpi": 40, "svg.hashsalt": "x", "axes.facecolor": "red"}):
        save_figure(plot_policy(make_policy()), other)
        assert matplotlib.rcParams["font.size"] == 30
    assert one.read_bytes() == other.read_bytes()
    assert one.read_bytes().startswith(STARTS[suffix])


def test_files_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    figure = plot_policy(make_policy())
    with pytest.raises(UserError, match=r"must end in \.png or \.svg or \.pdf"):
        save_figure(figure, tmp_path / "policy.jpg")
    with pytest.raises(UserError, match="cannot write"):
        save_figure(figure, tmp_path / "missing" / "policy.png")
    assert list(tmp_path.iterdir()) == []


def make_run(folder: Path) -> Path:
    make_policy().save(folder / "policy.json")
    (folder / "episodes.jsonl").write_text(
        "".join(json.dumps(each.model_dump(mode="json")) + "\n" for each in make_episodes(8))
    )
    (folder / "config.json").write_text(json.dumps({"model": "m", "hardware": "d", "agent": "ddpg", "seed": 3}))
    return folder


COST = {"latency_s": 5e-3, "energy_j": None, "weight_bytes": 100.0, "bops": 1e6}
SUMMARY = {
    "metric": {"name": "accuracy"},
    "accuracy_fp32": 0.97,
    "accuracy": 0.95,
    "search_accuracy": 0.96,
    "report_images": 100,
    "search_images": 100,
    "cost": COST,
    "baseline_cost": COST,
    "cost_ratio": 0.5,
    "budget": [{"objective": "latency", "value": 6e-3, "ratio": 0.6}],
    "objective": "latency",
    "uniform": [
        {"w_bits": 4, "a_bits": 4, "cost": COST, "cost_ratio": 0.5, "accuracy": 0.9},
        {"w_bits": 8, "a_bits": 8, "cost": COST, "cost_ratio": 1.0, "accuracy": 0.97},
    ],
    "episodes": 8,
    "evaluations": 8,
    "forward_images": 900,
    "seconds": 1.0,
    "warnings": [],
}


def test_a_run_gets_its_figures_finished_or_not(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert plot_run(run) == [run / "policy.png", run / "learning_curve.png"]
    unfinished = [path.read_bytes() for path in plot_run(run)]
    (run / "summary.json").write_text(json.dumps(SUMMARY))
    finished = [path.read_bytes() for path in plot_run(run)]
    assert all(one != other for one, other in zip(unfinished, finished, strict=True))


def test_the_policy_of_a_search_stands_beside_the_best_uniform_bits_within_the_budget(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / "summary.json").write_text(json.dumps(SUMMARY))
    figure = draw_run(run, "policy")
    weights, activations, scores = figure.axes
    assert legend_texts(weights)[-1] == "best uniform bits: 4/4"
    for axes in (weights, activations):
        (line,) = (lines for lines in axes.collections if isinstance(lines, LineCollection))
        assert [segment.tolist() for segment in line.get_segments()] == [[[0.5, 4], [2.5, 4]]]  # not the pinned ends
    assert [text.get_text() for text in scores.texts] == ["97.0", "float", "95.0", "policy", "90.0", "uniform 4/4"]
    assert overlapping_texts(figure) == []


def test_a_search_for_the_least_cost_is_not_compared_with_uniform_bits_of_its_budget(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    drop = {"limit": 0.01, "search": 0.0, "confidence": {}}
    (run / "summary.json").write_text(json.dumps({**SUMMARY, "max_accuracy_drop": drop}))
    assert len(draw_run(run, "policy").axes) == 2


def test_out_takes_a_single_figure(tmp_path: Path) -> None:
    run, out = make_run(tmp_path), tmp_path / "curve.svg"
    assert plot_run(run, kinds=["learning"], out=out) == [out]
    assert out.is_file()
    assert not (run / "learning_curve.png").exists()
    with pytest.raises(UserError, match="takes one figure; choose it with --kind policy or --kind learning"):
        plot_run(run, out=out)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        (
            "episodes.jsonl",
            '{"cost": 1}\n',
            r"episodes.jsonl is damaged \(line 1: episode: field required\); delete it",
        ),
        ("episodes.jsonl", "", "no episodes"),
        ("config.json", '{"seed": "x"}', "config.json is damaged: seed"),
        ("summary.json", '{"budget": [{"objective": "speed", "value": 1, "ratio": 1}]}', "damaged: budget.0.objective"),
        ("policy.json", "{", "not a haq policy"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: str, complaint: str) -> None:
    run = make_run(tmp_path)
    (run / name).write_text(content)
    with pytest.raises(UserError, match=complaint):
        plot_run(run)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not the folder of a run"):
        plot_run(tmp_path)
    with pytest.raises(UserError, match="cannot read policy"):
        plot_run(tmp_path, kinds=["policy"])


def test_noise_has_a_panel_where_it_is_the_reward() -> None:
    lines = make_episodes(30)
    noisy = [
        line.model_copy(update={"noise": 1 / (number + 1), "score": -1 / (number + 1)})
        for number, line in enumerate(lines)
    ]
    labels = [[axes.get_ylabel() for axes in plot_learning(each).axes] for each in (lines, noisy)]
    assert "output\nerror" not in labels[0]
    assert "output\nerror" in labels[1]
    (panel,) = [axes for axes in plot_learning(noisy).axes if axes.get_ylabel() == "output\nerror"]
    (best,) = panel.lines
    assert float(best.get_ydata()[-1]) == pytest.approx(1 / 30)


def test_ticks_of_nearly_equal_costs_differ() -> None:
    costs = [BUDGET.budget.limit * (1 - 1e-6 * place) for place in range(5)]
    figure = plot_learning([make_episode(cost=cost, accuracy=0.9, score=-0.1) for cost in costs], target=Target(BUDGET))
    figure.draw_without_rendering()
    (panel,) = (axes for axes in figure.axes if axes.get_ylabel().startswith("cost"))
    labels = [label.get_text() for label in panel.get_yticklabels()]
    assert len(set(labels)) == len(labels)


DROP = [
    make_episode(cost=8e-3, accuracy=0.95, score=-0.1),
    make_episode(cost=5e-3, accuracy=0.93, score=-0.3),
    make_episode(cost=4e-3, accuracy=0.90, score=-0.2),
    make_episode(cost=6e-3, accuracy=0.96, score=-0.05),
]


def test_the_best_of_a_search_for_the_least_cost_is_the_cheapest_that_is_accurate_enough() -> None:
    curve = learning_curve(DROP, Target(BUDGET, least=0.92))
    assert curve.within.tolist() == [True, True, False, True]
    assert curve.best.tolist() == [0, 1, 1, 1]
    figure = plot_learning(DROP, target=Target(BUDGET, least=0.92), outcome=Outcome(winner=3, score_fp32=0.96))
    assert legend_texts(figure.axes[0])[1:] == [
        "too much lost",
        "best so far",
        "least allowed",
        "float",
        "policy found",
    ]
    assert "policy found: episode 3, accuracy 96.0 % on the search split" in header(figure)
    (costs,) = (axes for axes in figure.axes if axes.get_ylabel().startswith("cost"))
    assert costs.lines[0].get_ydata()[-1] == pytest.approx(0.5)
    assert overlapping_texts(figure) == []


def test_a_policy_that_is_not_shown_to_lose_little_enough_is_not_the_best() -> None:
    pairs = [{"lost": 0, "won": 0}, {"lost": 9, "won": 0}, {"lost": None, "won": None}, {"lost": 0, "won": 1}]
    lines = [episode.model_copy(update=counts) for episode, counts in zip(DROP, pairs, strict=True)]
    curve = learning_curve(lines, Target(BUDGET, least=0.92, confidence=0.9, drop=0.02, images=300))
    assert curve.within.tolist() == [True, False, False, True]
    assert curve.best.tolist() == [0, 0, 0, 3]


def test_titles_have_the_names_of_devices_and_not_of_files(tmp_path: Path) -> None:
    table = tmp_path / "folder" / "my-chip.csv"
    table.parent.mkdir()
    table.write_text("layer,w_bits,a_bits,latency_s,energy_j\nconv,8,8,1.0,2.0\n")
    policy = make_policy().model_copy(update={"hardware": str(table), "model": "darknet:nets/tiny.cfg"})
    assert policy_title(policy) == "darknet:tiny.cfg on my-chip"
    table.unlink()
    assert policy_title(policy) == "darknet:tiny.cfg on my-chip"
