"""One search of a comparison, as a job."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from time import process_time

from pydantic import TypeAdapter, ValidationError

from haq.config import SearchConfig, search_config
from haq.evaluation.evaluator import Evaluator
from haq.evaluation.store import EvaluationStore
from haq.experiment.methods import uses_prior
from haq.experiment.preparation import prepare, prepare_network
from haq.experiment.prior.compute import compute_prior
from haq.experiment.prior.layer_losses import LayerLosses
from haq.file_limits import RUN_DOCUMENT
from haq.files import write_atomically
from haq.runs.environment import describe_environment
from haq.runs.episode import distinct
from haq.runs.run_folder import RunFolder
from haq.searching.episodes import run_episodes
from haq.searching.search import begin_session
from haq.searching.session import Session
from haq.studies.comparison.records import POINTS, ComparisonPoint
from hardware_sim.file_limits import TooLargeError, read_bounded

_OF_THE_SEARCH = {
    "agent",
    "budget",
    "seed",
    "episodes",
    "proposals",
    "hardware",
    "batch",
    "objective",
    "pin",
    "first_last_bits",
}
"""Settings that the prepared network does not depend on. With fine-tuned policies it depends on the seed."""
_POINTS = TypeAdapter(tuple[ComparisonPoint, ...])


@dataclass(frozen=True, slots=True)
class Cell:
    """Job that runs one search and measures its winner at every checkpoint on the report split.

    Attributes:
        config: Settings of the search.
        folder: Folder of the search, to which `points.json` is added when it is complete.
        checkpoints: Numbers of evaluations at which the winner is measured.
    """

    config: SearchConfig
    folder: Path
    checkpoints: tuple[int, ...]

    def run(self) -> None:
        """Run the search unless its points are complete."""
        if self.points() is not None:
            return
        shared = _shared(shared_settings(self.config))
        losses = shared.losses(self.config)
        began = process_time()  # loading, calibration and prior are not part of a search's time
        config = self.config.model_dump(mode="json")
        with RunFolder.opened(self.folder, config, resume=True) as earlier:
            problem = prepare(self.config, network=shared.network)
            session = begin_session(problem, losses=losses, store=shared.store)
            environment = describe_environment(seed=self.config.seed, device=self.config.device)
            session.enter(earlier or RunFolder.create(self.folder, config, environment, resume=True))
            run_episodes(session)
            seconds_per_episode = (process_time() - began) / max(self.checkpoints)
            points = [_point(session, count, shared, count * seconds_per_episode) for count in self.checkpoints]
            write_atomically(self.folder / POINTS, json.dumps([point.to_json() for point in points]).encode())

    def points(self) -> tuple[ComparisonPoint, ...] | None:
        """Read the points of a finished search.

        Returns:
            One point per checkpoint, or None if the search is not finished, or its file is damaged or of other
            checkpoints.

        Raises:
            UserError: The folder holds a search with other settings.
        """
        if RunFolder.reopen(self.folder, self.config.model_dump(mode="json")) is None:
            return None
        try:
            points = _POINTS.validate_json(read_bounded(self.folder / POINTS, RUN_DOCUMENT))
        except (FileNotFoundError, IsADirectoryError, TooLargeError, ValidationError):
            return None
        found = [(point.agent, point.budget, point.seed, point.evaluations) for point in points]
        config = self.config
        expected = [(config.agent, config.budget[0], config.seed, count) for count in self.checkpoints]
        return points if found == expected else None


def shared_settings(config: SearchConfig) -> str:
    """Return the settings that the prepared network depends on.

    Args:
        config: Settings of a search.

    Returns:
        JSON text, equal for searches that can share a network.
    """
    return config.model_dump_json(exclude=_OF_THE_SEARCH - ({"seed"} if config.episode_finetune_steps else set()))


class _Shared:
    """Objects shared by the searches of a process: the prepared network, its report evaluator and its prior."""

    def __init__(self, config: SearchConfig) -> None:
        # The key of a store takes forward passes, which are trainings if every policy is fine-tuned.
        self.store = None if config.episode_finetune_steps else EvaluationStore()
        self.network = prepare_network(config, is_calibrated=True)
        self.report = Evaluator(
            self.network.engine, self.network.task, "report", batch_size=config.eval_batch, store=self.store
        )
        self.report.kept(len(self.network.priced.layers))  # calibrates, so that it does not count as a search's time
        self._losses: LayerLosses | None = None

    def losses(self, config: SearchConfig) -> LayerLosses | None:
        """Return the prior, computed once, or None if the method of a search uses none."""
        if not uses_prior(config):
            return None
        self._losses = self._losses or compute_prior(self.network, config.prior)
        return self._losses


@lru_cache(maxsize=1)
def _shared(settings: str) -> _Shared:
    return _Shared(search_config(**json.loads(settings)))


def _point(session: Session, count: int, shared: _Shared, cpu_seconds: float) -> ComparisonPoint:
    """Measure the policy that a search would have answered after `count` episodes."""
    config, policies = session.problem.config, 0
    found = False
    for episode in distinct(session.episodes(count)):
        policies += 1
        found = found or session.goal.meets(episode)
    facts = {
        "agent": config.agent,
        "budget": config.budget[0],
        "seed": config.seed,
        "evaluations": count,
        "accuracy_fp32": shared.report.accuracy_fp32,
        "report_images": session.problem.task.size("report"),
        "metric": session.problem.task.metric.name,
        "distinct": policies,
        "cpu_seconds": round(cpu_seconds, 3),
    }
    forward_images = _forward_images(session, policies, shared)
    if not found:
        nothing = dict.fromkeys(("accuracy", "report_divergence", "report_noise"))
        return ComparisonPoint(**facts, **nothing, forward_images=forward_images)
    selection = session.select(count)
    winner = selection.winner
    reported = shared.report.evaluate(winner.w_bits, winner.a_bits)
    return ComparisonPoint(
        **facts,
        forward_images=forward_images + _selection_images(session, len(selection.finalists)),
        cost=winner.cost,
        search_accuracy=winner.accuracy,
        selection_accuracy=selection.accuracy,
        divergence=winner.divergence,
        noise=winner.noise,
        accuracy=reported.accuracy,
        report_divergence=reported.divergence,
        report_noise=reported.noise,
    )


def _forward_images(session: Session, policies: int, shared: _Shared) -> int:
    """Images that calibration, prior and the evaluation of so many policies and the float network take."""
    losses = shared.losses(session.problem.config)
    before = shared.network.calibration_images + (losses.forward_images if losses else 0)
    return before + (policies + 1) * (session.problem.task.size("search") + shared.network.engine.images_per_policy)


def _selection_images(session: Session, finalists: int) -> int:
    """Images that the choice among the finalists takes on the selection split; 0 without one."""
    if not finalists:
        return 0
    images = session.problem.task.size("selection") + session.problem.network.engine.images_per_policy
    return (finalists + 1) * images
