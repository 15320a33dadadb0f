"""Searches with a stub evaluator, and what they take: time, memory, files and the time to resume them."""

import resource
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import inf
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from agents.registry import METHODS
from haq.config import search_config
from haq.evaluation.protocols import Evaluation
from haq.experiment.preparation import prepare
from haq.experiment.prior.layer_losses import LayerLosses
from haq.runs.environment import describe_environment
from haq.runs.run_folder import CHECKPOINT, JOURNAL, RunFolder
from haq.searching.continuation import is_to_continue
from haq.searching.search import begin_session
from haq.searching.session import Session
from hardware_sim.cost import Bits

EPISODES = (100, 1000, 10000, 100000)
ERROR_EPISODES = (10, 30, 60)
SEED = 0
EPISODES_OF_A_MARK = 10
"""Episodes that are run after policies were told."""


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
    journal_bytes: int
    checkpoint_bytes: int
    checkpoint_seconds: float
    """Processor seconds of writing a checkpoint."""


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
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        enter(session, run)
        marks = list(_marks(session, run, episodes, limit_s))
        resumed = resume(session_of(agent, layers, episodes), run)
    return {"agent": agent, "layers": layers, "marks": [asdict(mark) for mark in marks], **resumed}


def resume(session: Session, run: Path) -> dict[str, Any]:
    """Resume a search from its folder."""
    before, began = peak_mebibytes(), process_time()
    assert is_to_continue(RunFolder(run), session.problem.config, limit_s=inf)
    enter(session, run)
    resuming_s = process_time() - began
    return {
        "episodes": session.episode_count,
        "resuming_s": resuming_s,
        "resuming_mebibytes": peak_mebibytes() - before,
    }


def _marks(session: Session, run: Path, episodes: int, limit_s: float) -> Iterator[Mark]:
    """Run episodes, with a mark at every power of ten, at the last one, and where the time is over."""
    ended, wall, written_s = np.zeros(episodes + 1), process_time(), 0.0
    before, began = peak_mebibytes(), process_time()
    while (count := session.episode_count) < episodes and process_time() - wall < limit_s:
        session.run_episode()
        count += 1
        ended[count] = process_time() - began - written_s
        if count in EPISODES or count == episodes or process_time() - wall >= limit_s:
            tenth = max(count // 10, 1)
            last_s = (ended[count] - ended[count - tenth]) / tenth
            mark = _mark(session, run, count, seconds=ended[count], last_seconds=last_s, before=before)
            written_s += mark.checkpoint_seconds
            yield mark


def _mark(session: Session, run: Path, count: int, *, seconds: float, last_seconds: float, before: float) -> Mark:
    """Write a checkpoint and describe what the search took until then."""
    began = process_time()
    session.checkpoint()
    return Mark(
        count,
        float(seconds),
        float(last_seconds),
        peak_mebibytes() - before,
        journal_bytes=(run / JOURNAL).stat().st_size,
        checkpoint_seconds=process_time() - began,
        checkpoint_bytes=(run / CHECKPOINT).stat().st_size,
    )


def measure_told(agent: str, layers: int, policies: int, *, limit_s: float) -> dict[str, Any]:
    """Tell a proposer the scores of random policies, and run a few episodes after every power of ten of them.

    The proposer then has as many observations as after so many episodes, in a small part of their time.
    """
    session = session_of(agent, layers, policies + EPISODES_OF_A_MARK * len(EPISODES))
    marks, wall = [], process_time()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        enter(session, run)
        proposer: Any = session._method
        proposer, before = proposer._proposer, peak_mebibytes()
        told = list(_random_policies(session, policies))
        for begin, end in pairwise((0, *(count for count in EPISODES if count <= policies))):
            for bits, score in told[begin:end]:
                proposer.tell(bits, score)
            began, episodes = process_time(), 0
            while episodes < EPISODES_OF_A_MARK and process_time() - began < limit_s / 20:
                session.run_episode()
                episodes += 1
            last_s = (process_time() - began) / episodes
            marks.append(_mark(session, run, end, seconds=0.0, last_seconds=last_s, before=before))
            if process_time() - wall > limit_s:
                break
    return {"agent": agent, "layers": layers, "told": policies, "marks": [asdict(mark) for mark in marks]}


def _random_policies(session: Session, count: int) -> Iterator[tuple[NDArray[np.int64], float]]:
    """Yield random policies within the budget with their scores: every pair costs no more than 4/4 bits."""
    choice, generator = session.problem.choice, np.random.default_rng(SEED)
    pairs = [
        np.argwhere(each[1:4, 1:4]) + 2 if each[1:4, 1:4].any() else np.argwhere(each) + 1 for each in choice.allowed
    ]
    drawn = np.stack([each[generator.integers(len(each), size=count)] for each in pairs], axis=1)
    scales = StubEvaluator(len(choice.names))._scales
    errors = (scales * 4.0**-drawn).sum(axis=(1, 2)) * np.exp(generator.normal(0, 0.2, size=count))
    return zip(drawn.astype(np.int64), (-errors).tolist(), strict=True)


def peak_mebibytes() -> float:
    """Return the peak of the resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def least_errors(layers: int, seed: int) -> list[float]:
    """Return the logarithms of the least errors after `ERROR_EPISODES`."""
    session = session_of("ddpg", layers, max(ERROR_EPISODES), seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        enter(session, Path(folder) / "run")
        errors = [session.run_episode().noise for _ in range(max(ERROR_EPISODES))]
    return [float(np.log(min(errors[:count]))) for count in ERROR_EPISODES]
