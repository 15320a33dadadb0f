"""Train the actor of `agents.rollout_ddpg` on random problems, and write agents/pretrained_actor.safetensors.

    python scripts/experiments/pretrain_actor.py --problems 1200

A problem has 4 to 60 decisions with costs and losses drawn at random: costs that grow as those of bit-serial arrays, of
arrays that compose multipliers of 2, 4 and 8 bits, of weight memory, or of an array with a fixed part; losses that fall
by about 4 with every bit, each decision from a level of its own. No network and no device of haq is among them.
"""

import argparse
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from safetensors.torch import save_file

from agents.actor_rollouts import ActorRollouts
from agents.base import FloatArray
from agents.knapsack import Knapsack
from agents.loss_terms import pair_losses
from agents.rollout_actor import PRETRAINED, RolloutActor
from agents.simulated_rollouts import Experience
from agents.space import SearchSpace
from envs.choices import AllowedBits, Choices
from envs.rollout import EnvConfig, LayerRollouts
from haq.experiment.methods import RolloutAdapter, search_space
from hardware_sim.layer import Layer

WIDTHS = np.arange(1, 9)
KINDS = ("bit-serial", "composed", "memory", "fixed part")
MODELS = 16
"""Loss models of a problem."""


@dataclass(frozen=True, slots=True, eq=False)
class RandomProblem:
    """Decisions with random costs and losses."""

    space: SearchSpace
    simulator: RolloutAdapter
    theta: FloatArray
    """[decision, 2, width]"""


def random_problem(generator: np.random.Generator) -> RandomProblem:
    """Draw a problem."""
    count, kind = int(generator.integers(4, 61)), KINDS[generator.integers(len(KINDS))]
    cost, allowed = _random_costs(generator, count, kind), np.zeros((count, 8, 8), dtype=np.bool_)
    allowed[:, 1:, 7 if kind == "memory" else slice(1, 8)] = True
    if generator.random() < 0.7:
        for pinned in (0, -1):
            allowed[pinned] = False
            allowed[pinned, 7, 7] = True
    names = tuple(f"layer{number}" for number in range(count))
    least, most = (
        np.where(allowed, cost, np.inf).min(axis=(1, 2)).sum(),
        np.where(allowed, cost, 0).max(axis=(1, 2)).sum(),
    )
    limit = float(least * (most / least) ** generator.uniform(0.1, 0.9))
    choices = Choices(names, tuple(range(count)), allowed, cost[None], np.array([limit]), ("latency",))
    widths = AllowedBits(a_bits=8 if kind == "memory" else None)
    rollouts = LayerRollouts(
        [Layer(name=name, kind="linear", c_in=1, c_out=1) for name in names], choices, widths, EnvConfig()
    )
    theta = generator.normal(0, 1.5, (count, 2, 1)) - np.log(4) * WIDTHS * generator.uniform(0.7, 1.2, (count, 2, 1))
    theta += generator.normal(0, 0.2, theta.shape)
    return RandomProblem(search_space(rollouts.choices), RolloutAdapter(rollouts), theta)


def _random_costs(generator: np.random.Generator, count: int, kind: str) -> FloatArray:
    """Draw costs [decision, w_bits, a_bits]."""
    scale = np.exp(generator.normal(0, 1.2, (count, 1, 1)))
    w, a = WIDTHS[:, None] * np.ones(8), WIDTHS * np.ones((8, 1))
    if kind == "memory":
        return scale * w
    if kind == "composed":
        w, a = (np.maximum(2 ** np.ceil(np.log2(each)), 2) for each in (w, a))
    fixed = generator.uniform(0, 40) if kind == "fixed part" else 0.0
    transfer = generator.uniform(0, 5) * np.exp(generator.normal(0, 1, (count, 1, 1)))
    return np.asarray(scale * (w * a + fixed) + transfer * (w + a))


def train(problems: int, *, seed: int = 0) -> dict[str, torch.Tensor]:
    """Train on random problems, with a smaller step size for the last third; returns averages of the parameters."""
    generator = np.random.default_rng(seed)
    tests = [random_problem(np.random.default_rng(10**6 + each)) for each in range(8)]
    actor = RolloutActor(learning_rate=1e-3, generator=torch.Generator().manual_seed(seed))
    memory: deque[Experience] = deque(maxlen=24)
    averages, averaged = actor.parameters(), RolloutActor(learning_rate=1e-3, generator=torch.Generator())
    for number in range(1, problems + 1):
        if number == 2 * problems // 3:
            actor.set_learning_rate(3e-4)
        problem = random_problem(generator)
        spread = generator.normal(0, 0.7, (MODELS, *problem.theta.shape[:2], 1))
        spread = spread + generator.normal(0, 0.1, (MODELS, *problem.theta.shape))
        rollouts = rollouts_of(problem, actor)
        curves = rollouts.curves(problem.theta + spread)
        for _ in range(2):
            memory.append(rollouts.explore(curves, generator, count=48))
            actor.learn(Experience.joined(memory), 40)
        for name, values in actor.parameters().items():
            averages[name].lerp_(values, max(1 / number, 0.02))
        if number % 100 == 0:
            averaged.load_parameters(averages)
            ratios = [loss_ratio(test, averaged) for test in tests]
            print(f"{number} problems: loss over the solver's {mean(ratios):.3f}, worst {max(ratios):.3f}", flush=True)
    return averages


def rollouts_of(problem: RandomProblem, actor: RolloutActor) -> ActorRollouts:
    """Return the rollouts of an actor on a problem."""
    near = Knapsack(problem.space).solve(pair_losses(problem.theta[None]))[0]
    return ActorRollouts(problem.space, problem.simulator, actor, near)


def loss_ratio(problem: RandomProblem, actor: RolloutActor) -> float:
    """Return the loss of the actor's policy over that of the solver's, at the budget of a problem."""
    losses, rollouts = pair_losses(problem.theta[None])[0], rollouts_of(problem, actor)
    solved = Knapsack(problem.space).solve(losses[None])[0]
    found = problem.space.project(rollouts.act(rollouts.curves(problem.theta[None]))[0])
    ours, best = (losses[np.arange(len(bits)), bits[:, 0] - 1, bits[:, 1] - 1].sum() for bits in (found, solved))
    return float(ours / best)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=1200)
    parser.add_argument("--out", type=Path, default=PRETRAINED)
    options = parser.parse_args()
    torch.set_num_threads(1)
    save_file(train(options.problems), options.out)
