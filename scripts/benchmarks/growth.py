"""Measure time and memory of a search without its evaluations, against layers and episodes, for every agent.

    python scripts/benchmarks/growth.py --out results/growth/after
    python scripts/benchmarks/growth.py --errors results/growth/errors-after.json

Policies are evaluated by a formula instead of a network. Each cell runs in a process of its own, which stops at
`--limit` seconds; what it reached then is written. Cells whose file exists are not run again. `--errors` writes the
logarithm of the least error that `ddpg` found after 10, 30 and 60 episodes, for eight seeds. Another version of the
packages is measured with its folder as PYTHONPATH.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from torch import nn

from agents.registry import METHODS
from haq.config import search_config
from haq.evaluation.protocols import Evaluation
from haq.experiment.preparation import prepare
from haq.experiment.prior.layer_losses import LayerLosses
from haq.files import write_atomically
from haq.runs.environment import describe_environment
from haq.runs.run_folder import RunFolder
from haq.searching.search import begin_session
from haq.searching.session import Session
from hardware_sim.cost import Bits

matplotlib.use("agg")
LAYERS = (20, 50, 100, 300, 1000)
EPISODES = (100, 1000, 10000, 100000)
ERROR_EPISODES = (10, 30, 60)
ERROR_LAYERS = (20, 60)
ERROR_SEEDS = 8
SEED = 0


class StubEvaluator:
    """Evaluations by a formula: each layer adds an error that falls by 4 with each bit, and each policy a residual.

    Args:
        layers: Number of layers.
        seed: Seed of the errors.
    """

    def __init__(self, layers: int, *, seed: int = SEED) -> None:
        generator = np.random.default_rng(seed)
        self._scales = np.exp(generator.normal(0, 1.5, size=(layers, 2))) / layers

    def losses(self) -> LayerLosses:
        """Return the loss of each part of each layer at each width."""
        return LayerLosses(self._scales[:, :, None] * 4.0 ** -np.arange(1, 9), forward_images=0)

    def __call__(self, w_bits: list[Bits], a_bits: list[Bits]) -> Evaluation:
        """Evaluate a policy."""
        bits = np.array([w_bits, a_bits], dtype=float).T
        residual = np.random.default_rng(bits.astype(np.uint8).ravel()).normal(0, 0.2)
        noise = float((self._scales * 4.0**-bits).sum() * np.exp(residual))
        return Evaluation(accuracy=1 / (1 + noise), divergence=noise, noise=noise)


@dataclass(frozen=True)
class Mark:
    """What a search took until an episode."""

    episodes: int
    seconds: float
    """Processor seconds of all episodes."""
    last_seconds: float
    """Processor seconds of an episode, mean of the latest tenth."""
    mebibytes: float
    """Peak of the resident memory, less what the process had before the first episode."""


def session_of(agent: str, layers: int, episodes: int, *, seed: int = SEED) -> Session:
    """Prepare a search on a chain of small linear layers, with a stub in place of its evaluator."""
    hidden = [part for _ in range(layers - 2) for part in (nn.Linear(8, 8), nn.ReLU())]
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 8), *hidden, nn.Linear(8, 10))
    config = search_config(
        agent=agent, episodes=episodes, engine="torch", corrections="none", rounding="nearest", calibration_images=16,
        search_images=16, report_images=16, budget="4bits", seed=seed,
    )  # fmt: skip
    problem = prepare(config, model=model)
    stub = StubEvaluator(layers, seed=seed)
    session = begin_session(problem, losses=stub.losses() if METHODS[agent].uses_prior else None)
    session.evaluator._run = lambda bits: stub(list(bits[0]), list(bits[1]))  # type: ignore[method-assign]
    return session


def enter(session: Session, folder: Path) -> None:
    """Let a search write into a run folder, a new one or that of the same search before."""
    settings = session.problem.config.model_dump(mode="json")
    environment = describe_environment(seed=SEED, device="cpu")
    earlier = RunFolder.reopen(folder, settings) if folder.exists() else None
    session.enter(earlier or RunFolder.create(folder, settings, environment))


def measure(agent: str, layers: int, episodes: int, *, limit_s: float) -> dict[str, Any]:
    """Run a search until its episodes or the time are over, and resume it from its folder."""
    session = session_of(agent, layers, episodes)
    ends = sorted({count for count in EPISODES if count < episodes} | {episodes})
    stops = {count - count // 10 for count in ends} | set(ends)
    with tempfile.TemporaryDirectory() as folder:
        enter(session, Path(folder) / "run")
        marks, before, began, tenth_began = [], _peak_mebibytes(), process_time(), 0.0
        wall = perf_counter()
        while session.episode_count < episodes and perf_counter() - wall < limit_s:
            session.run_episode()
            done = session.episode_count
            if done in stops:
                seconds = process_time() - began
                if done in ends:
                    last = (seconds - tenth_began) / (done // 10)
                    marks.append(Mark(done, seconds, last, _peak_mebibytes() - before))
                tenth_began = seconds
        session.checkpoint()
        again = session_of(agent, layers, episodes)
        began = process_time()
        enter(again, Path(folder) / "run")
        resuming_s = process_time() - began
        size = sum(path.stat().st_size for path in (Path(folder) / "run").iterdir())
        assert again.episode_count == session.episode_count
    return {
        "agent": agent,
        "layers": layers,
        "marks": [asdict(mark) for mark in marks],
        "episodes": session.episode_count,
        "resuming_s": resuming_s,
        "folder_bytes": size,
    }


def _peak_mebibytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def least_errors(layers: int, seed: int) -> list[float]:
    """Return the logarithms of the least errors after `ERROR_EPISODES`."""
    session = session_of("ddpg", layers, max(ERROR_EPISODES), seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        enter(session, Path(folder) / "run")
        errors = [session.run_episode().noise for _ in range(max(ERROR_EPISODES))]
    return [float(np.log(min(errors[:count]))) for count in ERROR_EPISODES]


def cells(options: argparse.Namespace) -> Iterator[tuple[str, int, int]]:
    """Yield agent, layers and episodes of each cell."""
    for layers in options.layers:
        yield "ddpg", layers, min(EPISODES)
    for agent in options.agents:
        yield agent, min(LAYERS), options.episodes


def table(found: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table of all marks."""
    lines = [
        "| agent | layers | episodes | processor s an episode | the latest tenth | peak MiB | resuming s | folder MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for cell in found:
        for mark in cell["marks"]:
            is_end = mark["episodes"] == cell["episodes"]
            end = f"{cell['resuming_s']:.2f} | {cell['folder_bytes'] / 1e6:.1f}" if is_end else "|"
            lines.append(
                f"| {cell['agent']} | {cell['layers']} | {mark['episodes']:,} | "
                f"{mark['seconds'] / mark['episodes']:.4f} | {mark['last_seconds']:.4f} | "
                f"{mark['mebibytes']:.0f} | {end} |"
            )
    return "\n".join(lines)


def draw(found: Sequence[dict[str, Any]], before: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw seconds an episode against layers, before and after, and seconds and memory against episodes."""
    longer = [cell for cell in found if cell["layers"] == min(LAYERS) and len(cell["marks"]) > 1]
    figure, axes = plt.subplots(1, 3 if longer else 1, figsize=(13 if longer else 5.5, 4), layout="constrained")
    by_layers, *others = np.atleast_1d(axes)
    for label, results, color in (("before", before, "C1"), ("after", found, "C0")):
        chosen = [cell for cell in results if cell["agent"] == "ddpg" and cell["episodes"] == min(EPISODES)]
        points = {cell["layers"]: cell["marks"][0]["last_seconds"] for cell in chosen}
        if points:
            by_layers.plot(list(points), list(points.values()), "o-", color=color, label=label)
    by_layers.axhline(0.1, color="grey", linewidth=0.8, label="a tenth of an evaluation of 1 s")
    by_layers.set(xlabel="layers", ylabel="processor time of an episode of ddpg in s", xscale="log", yscale="log")
    by_layers.set_xticks(LAYERS, [str(count) for count in LAYERS])
    by_layers.minorticks_off()
    by_layers.legend(frameon=False)
    names = {"last_seconds": "processor time of an episode in s", "mebibytes": "peak memory above the start in MiB"}
    for (name, label), panel in zip(names.items(), others, strict=False):
        for cell in longer:
            episodes = [mark["episodes"] for mark in cell["marks"]]
            panel.plot(episodes, [mark[name] for mark in cell["marks"]], "o-", label=cell["agent"])
        panel.set(xlabel="episodes", ylabel=label, xscale="log")
        panel.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure the cells that are missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of the results, one JSON file for each cell")
    parser.add_argument("--errors", type=Path, help="file of the least errors")
    parser.add_argument("--before", type=Path, help="folder of earlier results, drawn beside these")
    parser.add_argument("--layers", type=int, nargs="*", default=LAYERS)
    parser.add_argument("--agents", nargs="*", default=sorted(METHODS))
    parser.add_argument("--episodes", type=int, default=max(EPISODES))
    parser.add_argument("--limit", type=float, default=120.0, help="seconds after which a cell stops")
    parser.add_argument("--cell", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        agent, layers, episodes = options.cell
        print(json.dumps(measure(agent, int(layers), int(episodes), limit_s=options.limit)))
        return
    if options.errors:
        found_errors = {layers: [least_errors(layers, seed) for seed in range(ERROR_SEEDS)] for layers in ERROR_LAYERS}
        write_atomically(options.errors, json.dumps({**found_errors, "environment": _environment()}, indent=1).encode())
    if not options.out:
        return
    options.out.mkdir(parents=True, exist_ok=True)
    for agent, layers, episodes in cells(options):
        path = options.out / f"{agent}-{layers}-{episodes}.json"
        if path.exists():
            continue
        cell = ["--cell", agent, str(layers), str(episodes), "--limit", str(options.limit)]
        ran = subprocess.run([sys.executable, __file__, *cell], capture_output=True, text=True, check=True)
        cell_found = {**json.loads(ran.stdout), "environment": _environment()}
        write_atomically(path, json.dumps(cell_found, indent=1).encode())
        print(path.stem, flush=True)
    found = _read(options.out)
    print(table(found))
    draw(found, _read(options.before) if options.before else [], options.out.with_suffix(".png"))


def _environment() -> dict[str, Any]:
    environment = describe_environment(seed=SEED, device="cpu")
    return {name: environment[name] for name in ("seed", "processor", "threads", "commit", "packages")}


def _read(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    return sorted(found, key=lambda cell: (cell["agent"], cell["layers"]))


if __name__ == "__main__":
    main()
