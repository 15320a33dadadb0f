"""Session of a search: runs episodes and writes their results into a run folder.

Policies are proposed in rounds of `proposals`, and evaluated and learned from in the order of their proposals. Budgets
change, and checkpoints are written, between rounds only.
"""

from collections import deque
from collections.abc import Mapping
from time import monotonic

from envs.bit_allocation import BitAllocationEnv, EnvConfig
from haq.costs.pricing import cost_in
from haq.errors import MAX_MESSAGE
from haq.evaluation.protocols import Evaluation, Store
from haq.experiment.inputs import Observations
from haq.experiment.methods import Method, Prior, Proposal, ScoredPolicies, make_method
from haq.experiment.problem import Problem
from haq.runs.episode import Episode, distinct
from haq.runs.records import damage_named, same_settings
from haq.runs.run_folder import CHECKPOINT, RunFolder
from haq.runs.summary import EndedBy
from haq.searching.best_episodes import BestEpisodes
from haq.searching.checkpoint import Checkpoint
from haq.searching.confidence import Pairs
from haq.searching.goals import TOLERANCE, MinimumCost, goal_of
from haq.searching.journal_checks import recorded_episodes
from haq.searching.min_cost import Bisection, least_ratio, with_budget_ratio
from haq.searching.objective import SearchObjective
from haq.searching.preconditions import network_warnings, single_policy_reason
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
        episodes: All episodes so far.
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
        self._bisection = Bisection(least_ratio(problem)) if isinstance(self.goal, MinimumCost) else None
        self._method = self._new_method()
        self.episodes: list[Episode] = []
        self.found = BestEpisodes(problem, self.goal, self.evaluator.accuracy_fp32)
        self._round: deque[Proposal] = deque()
        self._is_budget_new = False
        self._run: RunFolder | None = None
        self._recorded_count = 0
        self._seconds_before = 0.0
        self._saved = monotonic()
        self._began = self._saved if began is None else began

    @property
    def episode_count(self) -> int:
        """Number of episodes so far."""
        return len(self.episodes)

    @property
    def ended_by(self) -> EndedBy | None:
        """Reason why there are no further episodes; None where there may be."""
        if self.episodes and self.single_policy_reason:
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

        Policies that the journal holds beyond the checkpoint are not evaluated again. A checkpoint of another run, or
        one beyond the end of the journal, is ignored; the search then starts at the first episode.

        Args:
            run: Folder of the run.

        Raises:
            UserError: The journal, or the checkpoint of this run, is damaged; no file is overwritten then.
        """
        self._run = run
        recorded, state = recorded_episodes(self.problem, run), run.load_checkpoint()
        self._recorded_count = len(recorded)
        if state is not None and same_settings(state.get("run"), self._identity):
            with damage_named(run.path / CHECKPOINT, remedy=_RESTART):
                checkpoint = Checkpoint.model_validate(state)
            if checkpoint.episode <= len(recorded):
                self._resume(checkpoint, recorded)
        run.episodes.truncate(self.episode_count)
        for episode in recorded[self.episode_count :]:
            self._recall(episode)

    def run_episode(self) -> Episode:
        """Run one episode: evaluate the next policy, train the method, and write the episode into the journal.

        Policies of a round are proposed before its first one is evaluated.

        Returns:
            The episode.
        """
        began = monotonic()
        if not self._round:
            self._propose()
        proposal = self._round.popleft()
        evaluation = self._objective.evaluate(proposal.bits)
        reward = self._objective.reward(evaluation)
        episode = self._episode(proposal, evaluation, reward, self._method.learn(proposal, reward))
        episode = episode.model_copy(update={"seconds": round(monotonic() - began, 6)})
        self._folder.episodes.append(episode)
        self.episodes.append(episode)
        if self.found.add(episode):
            self.found.write(self._folder)
        self._is_budget_new |= self._changes_budget(episode)
        if self._is_between_rounds:
            self._end_round()
        return episode

    def _propose(self) -> None:
        """Propose the policies of a round, of the last one those that there are episodes for."""
        config = self.problem.config
        left = 1 if self.single_policy_reason else config.episodes - self.episode_count
        for _ in range(max(1, min(config.proposals, left))):
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
        return select(self.goal, self.episodes[:episodes], self._objective, self._selection)

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

    def _resume(self, checkpoint: Checkpoint, recorded: list[Episode]) -> None:
        self._seconds_before = checkpoint.seconds
        for episode in recorded[: checkpoint.episode]:
            self._recall(episode)
            self.episodes.append(episode)
            self.found.add(episode)
            self._changes_budget(episode)
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
        return ((choice.decisions(episode.bits), episode.score) for episode in distinct(self.episodes))

    def _recall(self, episode: Episode) -> None:
        evaluation = Evaluation(episode.accuracy, episode.divergence, episode.noise, episode.failure)
        self.evaluator.recall(episode.w_bits, episode.a_bits, evaluation)
        if episode.lost is not None and episode.won is not None:
            self._objective.paired.recall(episode.key, Pairs(episode.lost, episode.won, self._objective.images))

    def _episode(
        self, proposal: Proposal, evaluation: Evaluation, reward: float, losses: Mapping[str, float]
    ) -> Episode:
        w_bits, a_bits = proposal.bits[:, 0].tolist(), proposal.bits[:, 1].tolist()
        cost = self.problem.priced.table.policy_cost(w_bits, a_bits)
        episode = Episode(
            episode=self.episode_count,
            w_bits=w_bits,
            a_bits=a_bits,
            cost=cost_in(self.problem.config.objective, cost),
            accuracy=evaluation.accuracy,
            divergence=evaluation.divergence,
            noise=evaluation.noise,
            reward=self._objective.accuracy_reward(evaluation.accuracy),
            score=reward,
            actor_loss=losses.get("actor_loss"),
            critic_loss=losses.get("critic_loss"),
        )
        if evaluation.failure is not None:
            episode = episode.model_copy(update={"failure": evaluation.failure[:MAX_MESSAGE]})
        if self.problem.config.confidence is None:
            return episode
        is_compared = episode.failure is None and self.goal.excess(episode) <= TOLERANCE
        pairs = self._objective.pairs(proposal.bits) if is_compared else None
        return episode.model_copy(update={"lost": pairs.lost if pairs else None, "won": pairs.won if pairs else None})
