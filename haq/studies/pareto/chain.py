"""All searches of one seed, as a job.

The accuracy of a policy depends neither on the device nor on the budget. So the searches of a seed run one after the
other, each starting with the best policies that the earlier ones found (`haq.searching.warm_start`). The first runs all
episodes, the others a few.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from envs.choices import Choices
from haq.config import SearchConfig
from haq.evaluation.store import EngineStore, EvaluationStore
from haq.execution.progress import SILENT, Watcher
from haq.experiment.inputs import Inputs, Observations
from haq.experiment.methods import uses_prior
from haq.experiment.preparation import prepare_network
from haq.experiment.prior.compute import compute_prior
from haq.formatting import device_title, percent
from haq.runs.episode import Episode, distinct
from haq.runs.run_folder import RunFolder
from haq.searching.search import finished, search_configured
from haq.searching.warm_start import opening
from haq.studies.pareto.plan import PlannedSearch
from haq.studies.pareto.records import SweepRecord
from haq.tasks.metrics import metric_named

_REMEDY = "delete the folder of this search to run it again"


@dataclass(frozen=True, slots=True)
class SearchChain:
    """Job that runs the searches of one seed in their order.

    Attributes:
        searches: The searches, the first of which runs all its episodes.
        seed: Their seed.
        further_episodes: New policies of every search after the first.
        folder: Folder that receives one folder per search. Evaluations are kept in `evaluations/` beside it.
        watcher: Receives the progress, and a line per finished search.
    """

    searches: tuple[PlannedSearch, ...]
    seed: int
    further_episodes: int
    folder: Path
    watcher: Watcher = SILENT

    def run(self) -> None:
        """Run the searches that are not finished; finished ones are only read."""
        inputs: Inputs | None = None
        episodes: list[Episode] = []
        for number, search in enumerate(self.searches, start=1):
            observations = _observations(search.choice, episodes)
            config = self._config(search, observations)
            path = self._path(search)
            if inputs is None and not RunFolder(path).is_finished:
                inputs = _shared_inputs(config, self.folder.parent / "evaluations", self.watcher)
            self.watcher.phase(f"search {number} of {len(self.searches)}")
            search_configured(config, path, inputs=replace(inputs or Inputs(), observations=observations), resume=True)
            record, new = self._read(search, episodes)
            episodes += new
            self.watcher.line(_description(record))

    def records(self) -> Iterator[SweepRecord]:
        """Read the results of all searches from their folders.

        Yields:
            One record per search, in their order.

        Raises:
            UserError: A search is not finished.
        """
        episodes: list[Episode] = []
        for search in self.searches:
            record, new = self._read(search, episodes)
            episodes += new
            yield record

    def _path(self, search: PlannedSearch) -> Path:
        return self.folder / f"{search.name}-s{self.seed}"

    def _config(self, search: PlannedSearch, observations: Observations) -> SearchConfig:
        """Return the settings of a search that starts with observations; without any it runs all episodes."""
        episodes = search.config.episodes
        if observations:
            episodes = self.further_episodes + len(opening(search.choice, observations))
        return search.config.model_copy(update={"seed": self.seed, "episodes": episodes})

    def _read(self, search: PlannedSearch, earlier: Sequence[Episode]) -> tuple[SweepRecord, list[Episode]]:
        """Return the result of a finished search, and its episodes with policies that earlier searches did not try."""
        run = RunFolder(self._path(search))
        result = finished(run)
        tried = {episode.key for episode in earlier}
        new = [episode for episode in distinct(run.episodes.read(remedy=_REMEDY)) if episode.key not in tried]
        summary, config = result.summary, search.config
        record = SweepRecord(
            hardware=device_title(config.hardware),
            objective=config.objective,
            budget=config.budget[0],
            budget_ratio=search.ratio,
            seed=self.seed,
            episodes=summary.episodes,
            new_evaluations=len(new),
            cost=summary.cost,
            baseline_cost=summary.baseline_cost,
            cost_ratio=summary.cost_ratio,
            accuracy=summary.accuracy,
            accuracy_fp32=summary.accuracy_fp32,
            search_accuracy=summary.search_accuracy,
            report_images=summary.report_images,
            metric=summary.metric.name,
            uniform=summary.uniform,
            w_bits=result.policy.w_bits,
            a_bits=result.policy.a_bits,
            run=run.path.name,
        )
        return record, new


_PREPARED: dict[tuple[str, Path], Inputs] = {}
"""What `_shared_inputs` prepared last in this process, by the settings that it depends on."""


def forget_prepared() -> None:
    """Free the network that chains in this process share."""
    _PREPARED.clear()


def _shared_inputs(config: SearchConfig, evaluations: Path, watcher: Watcher) -> Inputs:
    """Return what the chains of a process share: network, prior and evaluations, none of which depends on the seed.

    With fine-tuned policies they do depend on it, and only the searches of one seed share them.
    """
    without = {"episodes"} if config.episode_finetune_steps else {"episodes", "seed"}
    key = config.model_dump_json(exclude=without), evaluations
    if key not in _PREPARED:
        forget_prepared()
        _PREPARED[key] = _prepare_inputs(config, evaluations, watcher)
    return _PREPARED[key]


def _prepare_inputs(config: SearchConfig, evaluations: Path, watcher: Watcher) -> Inputs:
    network = prepare_network(config, is_calibrated=True, progress=watcher.phase)
    losses = None
    if uses_prior(config):
        watcher.phase("sensitivities")
        losses = compute_prior(network, config.prior)
    # The lasting store has keys that take forward passes, which are trainings if every policy is fine-tuned.
    store = EngineStore() if config.episode_finetune_steps else EvaluationStore(evaluations)
    return Inputs(network=network, store=store, losses=losses)


def _observations(choice: Choices, episodes: Sequence[Episode]) -> Observations:
    """Return policies with their scores, the best first; of equal scores the one with the smaller output error."""
    ranked = sorted(episodes, key=lambda episode: (-episode.score, episode.noise))
    return [(choice.decisions(episode.bits), episode.score) for episode in ranked]


def _description(record: SweepRecord) -> str:
    return (
        f"seed {record.seed}  {record.hardware}  {record.objective} at {record.budget}: "
        f"{metric_named(record.metric).text(record.accuracy)} at {percent(record.cost_ratio)} of 8 bits, "
        f"new evaluations: {record.new_evaluations}"
    )
