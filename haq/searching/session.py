"""Session of a search: runs episodes and writes their results into a run folder.

Policies are proposed in rounds of `proposals`, and evaluated and learned from in the order of their proposals. Budgets
change, and checkpoints are written, between rounds only.
"""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from time import monotonic

from envs.bit_allocation import BitAllocationEnv
from envs.rollout import EnvConfig
from haq.costs.pricing import cost_in
from haq.evaluation.protocols import Store
from haq.experiment.inputs import Observations
from haq.experiment.methods import Method, Prior, Proposal, ScoredPolicies, make_method
from haq.experiment.problem import Problem
from haq.runs.episode import Episode, distinct
from haq.runs.records import damage_named, same_settings
from haq.runs.run_folder import CHECKPOINT, RunFolder
from haq.runs.summary import EndedBy
from haq.searching.best_episodes import BestEpisodes
from haq.searching.checkpoint import Checkpoint
from haq.searching.episode_records import EpisodeRecords
from haq.searching.failures import MAX_FAILURES
from haq.searching.goals import MinimumCost, goal_of
from haq.searching.journal_checks import REMEDY, recorded_episodes
from haq.searching.min_cost import Bisection, least_ratio, with_budget_ratio
from haq.searching.objective import SearchObjective
from haq.searching.preconditions import network_warnings, single_policy_reason
from haq.searching.replay import Replay
from haq.searching.selection import Selection, select
from haq.searching.warm_start import WarmStart

CHECKPOINT_SECONDS = 10.0
"""Time between checkpoints, about the most work that an interruption loses; it has no effect on results."""
_RESTART = "delete it to start this run again from its first episode"


class Session:
    """Search in progress.

    Args:
        problem: The prepared problem.
        prior: Expected loss of score by each pair of bits, estimated before the search.
        store: Evaluations of other searches.
        observations: Policies of other searches with their scores, tried first.
        began: Time, by `monotonic`, at which the preparation started; None for now.

    Attributes:
        problem: The problem.
        store: Evaluations of other searches.
        evaluator: Evaluator on the search split.
        goal: Criterion for the result.
        episode_count: Number of episodes so far.
        latest: The latest few episodes.
        found: The best episode, or the nearest miss.
        warnings: Limits on how far the numbers can be trusted, one line each.
        single_policy_reason: Why there is a single policy to try; None where there are several.
        limit: Budget of the next episode, for the objective's cost, in SI units.

    Raises:
        UserError: The method needs a library that is not installed.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        prior: Prior | None = None,
        store: Store | None = None,
        observations: Observations = (),
        began: float | None = None,
    ) -> None:
        self.problem = problem
        self._prior, self.store, self._observations = prior, store, observations
        self._objective = SearchObjective(problem, "search", store=store)
        self.evaluator = self._objective.evaluator
        self._selection: SearchObjective | None = None
        self.warnings: tuple[str, ...] = tuple(network_warnings(problem, self.evaluator.accuracy_fp32))
        self.single_policy_reason = single_policy_reason(problem)
        self.goal = goal_of(problem, self.evaluator.accuracy_fp32)
        self._records = EpisodeRecords(problem, self._objective, self.goal)
        self._bisection = Bisection(least_ratio(problem)) if isinstance(self.goal, MinimumCost) else None
        self._method = self._new_method()
        self.episode_count = 0
        self.latest: deque[Episode] = deque(maxlen=MAX_FAILURES)
        self.found = BestEpisodes(problem, self.goal, self.evaluator.accuracy_fp32)
        self._round: deque[Proposal] = deque()
        self._is_budget_new = False
        self._run: RunFolder | None = None
        self._recorded_count = 0
        self._replay: Replay | None = None
        self._seconds_before = 0.0
        self._saved = monotonic()
        self._began = self._saved if began is None else began

    @property
    def ended_by(self) -> EndedBy | None:
        """Reason why there are no further episodes; None where there may be."""
        if self.episode_count and self.single_policy_reason:
            return "one policy"
        if self._bisection is not None and self._bisection.is_over:
            return "least cost"
        return "episodes" if self.episode_count >= self.problem.config.episodes else None

    @property
    def must_continue(self) -> bool:
        """Whether there is no episode yet, or an interrupted run had more, which are not evaluated again."""
        return self.episode_count < max(self._recorded_count, 1)

    @property
    def forward_images(self) -> int:
        """Images that ran through the network for all episodes, the float network's passes included."""
        return self._objective.forward_images

    @property
    def seconds(self) -> float:
        """Time in seconds that this search has taken, its preparation and earlier sessions included."""
        return self._seconds_before + monotonic() - self._began

    def enter(self, run: RunFolder) -> None:
        """Start writing into a run folder, and resume from its checkpoint.

        Policies that the journal holds beyond the checkpoint are not evaluated again; their lines stay. A checkpoint of
        another run, or one beyond the end of the journal, is ignored; the search then starts at the first episode.

        Args:
            run: Folder of the run.

        Raises:
            UserError: The journal, or the checkpoint of this run, is damaged; no file is overwritten then.
        """
        self._run, self._recorded_count = run, run.episodes.count()
        state, checkpoint = run.load_checkpoint(), None
        if state is not None and same_settings(state.get("run"), self._identity):
            with damage_named(run.path / CHECKPOINT, remedy=_RESTART):
                checkpoint = Checkpoint.model_validate(state)
        resumed = checkpoint.episode if checkpoint and checkpoint.episode <= self._recorded_count else 0
        for episode in recorded_episodes(self.problem, run):
            if episode.episode < resumed:
                self._records.recall(episode, is_counted=True)
                self._add(episode)
        if checkpoint and resumed:
            self._resume(checkpoint)
        run.episodes.truncate()
        self._replay = Replay(run, first=resumed, count=self._recorded_count)

    def run_episode(self) -> Episode:
        """Run one episode: evaluate the next policy, train the method, and write the episode into the journal.

        Policies of a round are proposed before its first one is evaluated. An episode that the journal of an
        interrupted run has stays as it is there.

        Returns:
            The episode.
        """
        began = monotonic()
        if not self._round:
            self._propose()
        proposal = self._round.popleft()
        evaluation = self._objective.evaluate(proposal.bits)
        reward = self._objective.reward(evaluation)
        episode = self._records.make(self.episode_count, proposal, evaluation, self._method.learn(proposal, reward))
        recorded = self._replay.take(episode) if self._replay else None
        if recorded is None:
            episode = episode.model_copy(update={"seconds": round(monotonic() - began, 6)})
            self._folder.episodes.append(episode)
        if self._add(recorded or episode):
            self.found.write(self._folder)
        if self._is_between_rounds:
            self._end_round()
        return recorded or episode

    def _add(self, episode: Episode) -> bool:
        """Count an episode; return whether it is the best so far, or the nearest miss."""
        self.episode_count += 1
        self.latest.append(episode)
        self._is_budget_new |= self._changes_budget(episode)
        return self.found.add(episode)

    def _propose(self) -> None:
        """Propose the policies of a round, of the last one those that there are episodes for."""
        config = self.problem.config
        left = 1 if self.single_policy_reason else config.episodes - self.episode_count
        count = max(1, min(config.proposals, left))
        for episode in self._replay.read(count) if self._replay else ():
            self._records.recall(episode, is_counted=False)
        for _ in range(count):
            proposal = self._method.propose()
            self._objective.request(proposal.bits)
            self._round.append(proposal)

    def _end_round(self) -> None:
        """Change the budget where it is due, and write a checkpoint from time to time."""
        if self._is_budget_new:
            earlier, self._method = self._method, self._new_method()
            self._method.take_over(earlier, self._scored_policies())
            self._is_budget_new = False
        if monotonic() - self._saved > CHECKPOINT_SECONDS:
            self.checkpoint()

    def select(self, episodes: int | None = None) -> Selection:
        """Select the winner of the episodes, of which at least one met the goal.

        Args:
            episodes: Number of episodes, from the first; None for all.

        Returns:
            The winner with its finalists.
        """
        if self._selection is None and self.problem.task.size("selection"):
            self._selection = SearchObjective(self.problem, "selection", store=self.store)
        return select(self.goal, self.episodes(episodes), self._objective, self._selection)

    def episodes(self, count: int | None = None) -> Iterator[Episode]:
        """Read the episodes so far from the journal.

        Args:
            count: Number of episodes, from the first; None for all.

        Returns:
            The episodes, in order.
        """
        return islice(self._folder.episodes.stream(remedy=REMEDY), self.episode_count if count is None else count)

    def checkpoint(self) -> None:
        """Write the state that the next round depends on.

        Nothing is written within a round. A search that ends there is resumed from an earlier checkpoint, without
        evaluating the policies of its journal again.
        """
        if not self._is_between_rounds:
            return
        checkpoint = Checkpoint(
            run=self._identity,
            episode=self.episode_count,
            seconds=self.seconds,
            evaluations=self.evaluator.evaluations,
            forward_images=self.evaluator.forward_images,
            agent=self._method.state_dict(),
        )
        self._folder.episodes.sync()  # a checkpoint beyond the end of the journal would be of no use
        self._folder.save_checkpoint(dict(checkpoint))
        self._saved = monotonic()

    @property
    def _is_between_rounds(self) -> bool:
        """Whether all policies of the last round were tried; the last round of a search may end before."""
        return self.episode_count % self.problem.config.proposals == 0

    @property
    def _folder(self) -> RunFolder:
        assert self._run is not None, "enter a run folder first"
        return self._run

    @property
    def _identity(self) -> str:
        """Settings that a checkpoint belongs to: all but the number of episodes, which does not affect it."""
        return self.problem.config.model_dump_json(exclude={"episodes"})

    def _resume(self, checkpoint: Checkpoint) -> None:
        """Restore the state after the episodes of a checkpoint, which were added."""
        self._seconds_before, self._is_budget_new = checkpoint.seconds, False
        self._method = self._new_method()
        with damage_named(self._folder.path / CHECKPOINT, remedy=_RESTART):
            self._method.load_state_dict(checkpoint.agent)
        self.evaluator.resume(evaluations=checkpoint.evaluations, forward_images=checkpoint.forward_images)
        self.found.write(self._folder)

    def _new_method(self) -> Method:
        """Return a new search method for the current budget."""
        problem, stage = self.problem, 0
        if self._bisection:
            problem, stage = with_budget_ratio(problem, self._bisection.ratio), self._bisection.stage
        self.limit = problem.limits[0].limit
        config = problem.config
        env = BitAllocationEnv(
            problem.priced.layers,
            problem.priced.table,
            problem.choice,
            self._objective.evaluate,
            reward=self._objective.reward,
            allowed=problem.allowed,
            config=EnvConfig(config.observation, config.budget_rule),
        )
        method = make_method(config.agent, env, seed=config.seed + stage, prior=self._prior)
        return WarmStart(method, env, problem.choice, self._observations) if self._observations else method

    def _changes_budget(self, episode: Episode) -> bool:
        """Record an episode in the bisection; return whether the next one has another budget."""
        if self._bisection is None:
            return False
        baseline = cost_in(self.problem.config.objective, self.problem.priced.baseline)
        return self._bisection.observe(episode.cost / baseline, met=self.goal.meets(episode))

    def _scored_policies(self) -> ScoredPolicies:
        choice = self.problem.choice
        return ((choice.decisions(episode.bits), episode.score) for episode in distinct(self.episodes()))
