"""One search as it goes: agent, environment and evaluator at work, and the run folder that keeps what comes of it."""

from collections.abc import Iterator
from time import monotonic

from envs.bit_allocation import BitAllocationEnv, EnvConfig
from envs.reward import accuracy_reward
from haq.costs.pricing import cost_in
from haq.evaluation.protocols import Evaluation, Store
from haq.experiment.inputs import Observations
from haq.experiment.methods import Method, Prior, ScoredPolicies, Trial, make_method
from haq.experiment.problem import Problem
from haq.policy import CostSummary, LayerBits, Policy
from haq.runs.records import damage_named, same_settings
from haq.runs.run_folder import CHECKPOINT, NEAREST_MISS, POLICY, RunFolder
from haq.searching.confidence import Pairs
from haq.searching.goals import TOLERANCE, Goal, LeastCost, Line, MostReward, decided, distinct
from haq.searching.min_cost import Bisection, at_ratio, least_ratio
from haq.searching.objective import SearchObjective
from haq.searching.records import Checkpoint, EndedBy, own_episodes
from haq.searching.selection import Selection, select
from haq.searching.single import nothing_to_choose
from haq.searching.warm_start import WarmStart
from haq.tasks.base import float_warning

CHECKPOINT_SECONDS = 10.0
"""A kill costs about this much work at most; what comes out does not depend on when checkpoints are taken."""
_ANEW = "delete it to start this run again from its first episode"


class Session:
    """Runs episodes and keeps the best policy that meets the goal, or the nearest miss where none does.

    `prior` is what is known of the pairs of bits before the first episode, `store` holds evaluations of other searches,
    `observations` are policies of other searches, tried first; `began` is the time, by `monotonic`, at which the
    preparation started.
    Raises UserError for a method that needs a library that is not installed.
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
        self._judge = SearchObjective(problem, "search", store=store)
        self.evaluator = self._judge.evaluator
        self._selection: SearchObjective | None = None
        self._paper_reward = accuracy_reward(self.evaluator.accuracy_fp32)
        self.warnings: tuple[str, ...] = tuple(_warnings(problem, self.evaluator.accuracy_fp32))
        self.nothing_to_choose = nothing_to_choose(problem)
        self.goal, self._bisection = _aim(problem, self.evaluator.accuracy_fp32)
        self._method = self._begin()
        self.lines: list[Line] = []
        self.best: Line | None = None
        self.miss: Line | None = None
        self._run: RunFolder | None = None
        self._seconds_before = 0.0
        self._saved = monotonic()
        self._began = self._saved if began is None else began

    @property
    def episode(self) -> int:
        """How many episodes there were."""
        return len(self.lines)

    @property
    def ended_by(self) -> EndedBy | None:
        """Why there are no further episodes; None where there may be."""
        if self.episode and self.nothing_to_choose:
            return "one policy"
        if self._bisection is not None and self._bisection.is_over:
            return "least cost"
        return "episodes" if self.episode >= self.problem.config.episodes else None

    @property
    def forward_images(self) -> int:
        """Images that all episodes took, float passes included."""
        return self._judge.forward_images

    @property
    def seconds(self) -> float:
        """Time spent on this search, its preparation and earlier sessions included."""
        return self._seconds_before + monotonic() - self._began

    def enter(self, run: RunFolder) -> None:
        """Write into a run folder from now on, and go on where its checkpoint was taken.

        Evaluations that the journal holds beyond the checkpoint are not done again. A checkpoint of another run, or
        one that lies beyond the undamaged part of the journal, is of no use: then the first episode comes next.
        Raises UserError for a checkpoint of this run that is damaged; nothing is overwritten then.
        """
        self._run = run
        lines, state = own_episodes(self.problem, run.episodes()), run.load_checkpoint()
        if state is not None and same_settings(state.get("run"), self._identity):
            with damage_named(run.path / CHECKPOINT, remedy=_ANEW):
                kept = Checkpoint.model_validate(state)
            if kept.episode <= len(lines):
                self._go_on(kept, lines)
        run.truncate_episodes(self.episode)
        for line in lines[self.episode :]:
            self._recall(line)

    def run_episode(self) -> Line:
        """Have a policy proposed and evaluated, let the method learn, and write it down."""
        began = monotonic()
        line = self._line(self._method.play()) | {"seconds": round(monotonic() - began, 6)}
        self._folder.append_episode(line)
        if self._note(line):
            self._write_policies()
        if self._turn(line):
            self._next_budget()
        if monotonic() - self._saved > CHECKPOINT_SECONDS:
            self.checkpoint()
        return line

    def select(self, episodes: int | None = None) -> Selection:
        """The winner of all episodes so far, or of the first few, of which at least one met the goal."""
        if self._selection is None and self.problem.task.size("selection"):
            self._selection = SearchObjective(self.problem, "selection", store=self.store)
        return select(self.goal, self.lines[:episodes], self._judge, self._selection)

    def checkpoint(self) -> None:
        """Write down everything that the next episode depends on."""
        self._folder.save_checkpoint(
            {
                "run": self._identity,
                "episode": self.episode,
                "seconds": self.seconds,
                "evaluations": self.evaluator.evaluations,
                "forward_images": self.evaluator.forward_images,
                "agent": self._method.state_dict(),
            }
        )
        self._saved = monotonic()

    def policy(self, line: Line) -> Policy:
        """The policy of a line of the journal."""
        problem = self.problem
        layers = problem.priced.layers
        bits = zip(layers, line["w_bits"], line["a_bits"], strict=True)
        return Policy(
            model=problem.priced.name,
            weights=problem.priced.weights,
            hardware=problem.config.hardware,
            objective=problem.config.objective,
            layers=tuple(LayerBits(name=layer.name, kind=layer.kind, w_bits=w, a_bits=a) for layer, w, a in bits),
            cost=CostSummary.of(problem.priced.table.policy_cost(line["w_bits"], line["a_bits"])),
            baseline_cost=CostSummary.of(problem.priced.baseline),
            accuracy={"search": line["accuracy"], "fp32_search": self.evaluator.accuracy_fp32},
        )

    @property
    def _folder(self) -> RunFolder:
        assert self._run is not None, "enter a run folder first"
        return self._run

    @property
    def _identity(self) -> str:
        """What a checkpoint belongs to: the settings, but for the number of episodes, on which none of them depends."""
        return self.problem.config.model_dump_json(exclude={"episodes"})

    def _go_on(self, kept: Checkpoint, lines: list[Line]) -> None:
        self._seconds_before = kept.seconds
        for line in lines[: kept.episode]:
            self._recall(line)
            self._note(line)
            self._turn(line)
        self._method = self._begin()
        with damage_named(self._folder.path / CHECKPOINT, remedy=_ANEW):
            self._method.load_state_dict(kept.agent)
        self.evaluator.resume(evaluations=kept.evaluations, forward_images=kept.forward_images)
        self._write_policies()

    def _begin(self) -> Method:
        """A fresh method on the budget whose turn it is."""
        problem, stage = self.problem, 0
        if self._bisection:
            problem, stage = at_ratio(problem, self._bisection.ratio), self._bisection.stage
        self.limit = problem.limits[0].limit
        config = problem.config
        env = BitAllocationEnv(
            problem.priced.layers,
            problem.priced.table,
            problem.limits,
            self._judge.score,
            reward=self._judge.reward,
            allowed=problem.allowed,
            config=EnvConfig(config.observation, config.budget_rule),
        )
        method = make_method(config.agent, env, seed=config.seed + stage, prior=self._prior)
        return WarmStart(method, env, problem.choice, self._observations) if self._observations else method

    def _turn(self, line: Line) -> bool:
        """Whether another budget comes next."""
        if self._bisection is None:
            return False
        baseline = cost_in(self.problem.config.objective, self.problem.priced.baseline)
        return self._bisection.observe(line["cost"] / baseline, met=self.goal.meets(line))

    def _next_budget(self) -> None:
        earlier, self._method = self._method, self._begin()
        self._method.take_over(earlier, self._known())

    def _known(self) -> ScoredPolicies:
        return ((decided(self.problem, line), line["score"]) for line in distinct(self.lines))

    def _recall(self, line: Line) -> None:
        self.evaluator.recall(
            line["w_bits"], line["a_bits"], Evaluation(line["accuracy"], line["divergence"], line["noise"])
        )
        if line.get("lost") is not None:
            pairs = Pairs(line["lost"], line["won"], self._judge.images)
            self._judge.paired.recall((tuple(line["w_bits"]), tuple(line["a_bits"])), pairs)

    def _line(self, played: Trial) -> Line:
        w_bits, a_bits = played.bits[:, 0].tolist(), played.bits[:, 1].tolist()
        evaluation = self._judge.evaluation(played.bits)
        cost = self.problem.priced.table.policy_cost(w_bits, a_bits)
        line = {
            "episode": self.episode,
            "w_bits": w_bits,
            "a_bits": a_bits,
            "cost": cost_in(self.problem.config.objective, cost),
            "accuracy": evaluation.accuracy,
            "divergence": evaluation.divergence,
            "noise": evaluation.noise,
            "reward": self._paper_reward(evaluation.accuracy),
            "score": played.reward,
            "actor_loss": played.losses.get("actor_loss"),
            "critic_loss": played.losses.get("critic_loss"),
        }
        if self.problem.config.confidence is not None:
            is_within = self.goal.excess(line) <= TOLERANCE
            pairs = self._judge.pairs(played.bits) if is_within else None
            line |= {"lost": pairs.lost if pairs else None, "won": pairs.won if pairs else None}
        return line

    def _note(self, line: Line) -> bool:
        """Add a line; whether it is the best so far, or the nearest miss where none met the goal."""
        self.lines.append(line)
        if self.goal.meets(line):
            if self.best is None or self.goal.merit(line) > self.goal.merit(self.best):
                self.best = line
                return True
        elif self.best is None and (self.miss is None or self.goal.excess(line) < self.goal.excess(self.miss)):
            self.miss = line
            return True
        return False

    def _write_policies(self) -> None:
        for name, line in ((POLICY, self.best), (NEAREST_MISS, self.miss)):
            if line is not None:
                self._folder.write(name, self.policy(line).to_json().encode())


def _aim(problem: Problem, accuracy_fp32: float) -> tuple[Goal, Bisection | None]:
    """What a configuration is after, and how its budget moves, if it does."""
    drop = problem.config.max_accuracy_drop
    if drop is None:
        return MostReward(problem), None
    images, confidence = problem.task.size("search"), problem.config.confidence
    return LeastCost(problem, drop / 100, accuracy_fp32, images, confidence), Bisection(least_ratio(problem))


def _warnings(problem: Problem, accuracy_fp32: float) -> Iterator[str]:
    """What is wrong with the float network before anything is quantized."""
    warning = float_warning(problem.task, accuracy_fp32, "search")
    if warning:
        yield warning
    if problem.network.quantizers.warning:
        yield problem.network.quantizers.warning
