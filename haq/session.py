"""One search as it goes: agent, environment and evaluator at work, and the run folder that keeps what comes of it."""

from collections.abc import Iterator
from itertools import takewhile
from time import monotonic
from typing import Any, Protocol

import numpy as np

from agents.base import Transition
from envs.bit_allocation import BitAllocationEnv, EnvConfig, ExecutedStep
from envs.choices import IntArray
from envs.reward import accuracy_reward, fidelity_reward
from haq.evaluation import Evaluation, Evaluator
from haq.policy import CostSummary, LayerBits, Policy
from haq.problem import Problem, cost_in
from haq.proposing import make_agent
from haq.run_dir import NEAREST_MISS, POLICY, RunDir
from haq.tasks.classification import ClassificationTask, chance_warning

CHECKPOINT_SECONDS = 10.0
"""A kill costs about this much work at most; what comes out does not depend on when checkpoints are taken."""

Line = dict[str, Any]
"""One line of the journal."""


class Watcher(Protocol):
    """Somebody who looks on while a search runs."""

    def begin(self, session: "Session") -> None:
        """The search starts, or goes on."""
        ...

    def episode(self, session: "Session", line: Line) -> None:
        """An episode ended."""
        ...

    def end(self) -> None:
        """The episodes are over, or were interrupted."""
        ...


class Session:
    """Runs episodes and keeps the best policy within the budgets, or the nearest miss where none is within."""

    def __init__(self, problem: Problem) -> None:
        config = problem.config
        self.problem = problem
        self.evaluator = Evaluator(problem.network.engine, problem.task, "search", batch_size=config.eval_batch)
        self.warnings = tuple(_warnings(problem, self.evaluator.accuracy_fp32))
        self._env = BitAllocationEnv(
            problem.priced.trace.layers,
            problem.priced.table,
            problem.limits,
            self._score,
            reward=accuracy_reward(self.evaluator.accuracy_fp32) if self._by_accuracy else fidelity_reward,
            allowed=problem.allowed,
            config=EnvConfig(config.observation, config.budget_rule),
        )
        (size,) = self._env.observation_space.shape or ()
        self._agent = make_agent(config.agent, size, seed=config.seed)
        self.episode = 0
        self.best: Line | None = None
        self.miss: Line | None = None
        self._run: RunDir | None = None
        self._seconds_before = 0.0
        self._began = self._saved = monotonic()

    @property
    def seconds(self) -> float:
        """Time spent on this search, earlier sessions included."""
        return self._seconds_before + monotonic() - self._began

    def enter(self, run: RunDir) -> None:
        """Write into a run folder from now on, and go on where its checkpoint was taken.

        Evaluations that the journal holds beyond the checkpoint are not done again. A checkpoint of another run, or
        one that lies beyond the undamaged part of the journal, is of no use: then the first episode comes next.
        """
        self._run = run
        lines, state = self._journal(), run.load_checkpoint()
        if state is not None and state.get("run") == self._identity and state["episode"] <= len(lines):
            self._go_on(state, lines)
        run.truncate_episodes(self.episode)
        for line in lines[self.episode :]:
            self._recall(line)

    def run_episode(self) -> Line:
        """Walk the layers once, evaluate the policy, let the agent learn, and write it down."""
        began = monotonic()
        info, reward = self._walk()
        losses = self._teach(info["executed"], reward)
        line = self._line(info["bits"], reward, losses) | {"seconds": round(monotonic() - began, 6)}
        self._folder.append_episode(line)
        self.episode += 1
        if self._keep(line):
            self._write_policies()
        if monotonic() - self._saved > CHECKPOINT_SECONDS:
            self.checkpoint()
        return line

    def checkpoint(self) -> None:
        """Write down everything that the next episode depends on."""
        self._folder.save_checkpoint(
            {
                "run": self._identity,
                "episode": self.episode,
                "seconds": self.seconds,
                "evaluations": self.evaluator.evaluations,
                "forward_images": self.evaluator.forward_images,
                "agent": self._agent.state_dict(),
            }
        )
        self._saved = monotonic()

    def policy(self, line: Line) -> Policy:
        """The policy of a line of the journal."""
        problem = self.problem
        layers = problem.priced.trace.layers
        bits = zip(layers, line["w_bits"], line["a_bits"], strict=True)
        return Policy(
            model=problem.priced.name,
            hardware=problem.config.hardware,
            objective=problem.config.objective,
            layers=tuple(LayerBits(name=layer.name, kind=layer.kind, w_bits=w, a_bits=a) for layer, w, a in bits),
            cost=CostSummary.of(problem.priced.table.policy_cost(line["w_bits"], line["a_bits"])),
            baseline_cost=CostSummary.of(problem.priced.baseline),
            accuracy={"search": line["accuracy"], "fp32_search": self.evaluator.accuracy_fp32},
        )

    @property
    def _folder(self) -> RunDir:
        assert self._run is not None, "enter a run folder first"
        return self._run

    @property
    def _identity(self) -> str:
        """What a checkpoint belongs to."""
        return self.problem.config.model_dump_json()

    def _journal(self) -> list[Line]:
        """The lines of the journal up to the first that no episode of this run wrote."""
        layers = len(self.problem.priced.trace.layers)
        numbered = enumerate(self._folder.episodes())
        return [line for _, line in takewhile(lambda each: _is_whole(each[1], each[0], layers), numbered)]

    def _go_on(self, state: Line, lines: list[Line]) -> None:
        self._agent.load_state_dict(state["agent"])
        self.episode, self._seconds_before = state["episode"], state["seconds"]
        for line in lines[: self.episode]:
            self._recall(line)
            self._keep(line)
        self.evaluator.resume(evaluations=state["evaluations"], forward_images=state["forward_images"])
        self._write_policies()

    @property
    def _by_accuracy(self) -> bool:
        return self.problem.config.reward == "accuracy"

    def _score(self, bits: IntArray) -> float:
        evaluation = self._evaluation(bits)
        return evaluation.accuracy if self._by_accuracy else evaluation.divergence

    def _evaluation(self, bits: IntArray) -> Evaluation:
        return self.evaluator.evaluate(bits[:, 0].tolist(), bits[:, 1].tolist())

    def _walk(self) -> tuple[dict[str, Any], float]:
        observation, _ = self._env.reset()
        while True:
            action = np.array([self._agent.act(observation)], dtype=np.float32)
            observation, reward, terminated, _, info = self._env.step(action)
            if terminated:
                return info, reward

    def _teach(self, steps: tuple[ExecutedStep, ...], reward: float) -> dict[str, float | None]:
        for number, step in enumerate(steps, start=1):
            last = number == len(steps)
            following = step if last else steps[number]
            earned = reward if last else 0.0
            self._agent.observe(Transition(step.observation, step.action, earned, following.observation, last))
        losses = self._agent.end_episode()
        return {name: losses.get(name) for name in ("actor_loss", "critic_loss")}

    def _recall(self, line: Line) -> None:
        self.evaluator.recall(line["w_bits"], line["a_bits"], Evaluation(line["accuracy"], line["divergence"]))

    def _line(self, bits: IntArray, reward: float, losses: dict[str, float | None]) -> Line:
        w_bits, a_bits = bits[:, 0].tolist(), bits[:, 1].tolist()
        evaluation = self._evaluation(bits)
        cost = self.problem.priced.table.policy_cost(w_bits, a_bits)
        return {
            "episode": self.episode,
            "w_bits": w_bits,
            "a_bits": a_bits,
            "cost": cost_in(self.problem.config.objective, cost),
            "accuracy": evaluation.accuracy,
            "divergence": evaluation.divergence,
            "reward": reward,
            **losses,
        }

    def _keep(self, line: Line) -> bool:
        """Whether the line is the best so far within the budgets, by `_merit`."""
        if self.problem.choice.fits(self._decisions(line)):
            if self.best is None or _merit(line) > _merit(self.best):
                self.best = line
                return True
        elif self.best is None and (self.miss is None or self._excess(line) < self._excess(self.miss)):
            self.miss = line
            return True
        return False

    def _write_policies(self) -> None:
        for name, line in ((POLICY, self.best), (NEAREST_MISS, self.miss)):
            if line is not None:
                self._folder.write(name, self.policy(line).to_json().encode())

    def _excess(self, line: Line) -> float:
        """By how much the worst of the budgets is exceeded, in parts of that budget."""
        choice = self.problem.choice
        return float((choice.total(self._decisions(line)) / choice.limits).max() - 1)

    def _decisions(self, line: Line) -> IntArray:
        """The bits [decision, 2] of a line, which has them by layer."""
        bits = np.array([line["w_bits"], line["a_bits"]], dtype=np.int64).T
        return bits[list(self.problem.choice.layer_of_decision)]


def _warnings(problem: Problem, accuracy_fp32: float) -> Iterator[str]:
    """What is wrong with the float network before anything is quantized."""
    if isinstance(problem.task, ClassificationTask):
        chance = chance_warning(accuracy_fp32, problem.task.num_classes, problem.task.size("search"))
        if chance:
            yield f"the float network's {chance}"


def _is_whole(line: Line, number: int, layers: int) -> bool:
    """Whether a line is that of an episode, with all that a search needs to go on."""
    try:
        numbers = [line[key] for key in ("cost", "accuracy", "divergence", "reward")]
        bits = [*line["w_bits"], *line["a_bits"]]
        is_next = line["episode"] == number and len(bits) == 2 * layers
    except (KeyError, TypeError):
        return False
    return is_next and all(isinstance(each, int | float) for each in (*numbers, *bits))


def _merit(line: Line) -> tuple[float, float, float]:
    """More reward is better; of equal rewards, outputs closer to the float network's; of equal outputs, less cost.

    Accuracy on a few hundred images cannot tell good policies apart, and many tie at the best; their outputs do differ.
    """
    return line["reward"], -line["divergence"], -line["cost"]
