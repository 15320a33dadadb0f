"""Compare one trained actor at ten budgets, one rollout each, with ten searches.

The actor of `--agent ddpg` is trained in one search, at the budget in the middle. Its rollouts at ten budgets are
evaluated once each; the other column has a search for every budget. Errors are relative output errors on the report
split.

    python scripts/experiments/one_actor.py --out results/ablation/one_actor-digits.json
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.rollout_ddpg import RolloutDDPG
from envs.bit_allocation import BitAllocationEnv
from envs.rollout import EnvConfig
from haq.config import SearchConfig, search_config
from haq.costs.pricing import cost_in
from haq.evaluation.evaluator import Evaluator
from haq.experiment.methods import RolloutAdapter, search_space
from haq.experiment.preparation import prepare
from haq.experiment.prior.fisher import network_fisher
from haq.experiment.prior.layer_losses import prior_of_pairs
from haq.experiment.problem import Network, Problem
from haq.files import write_atomically
from haq.runs.environment import describe_environment
from haq.searching.objective import SearchObjective

BUDGETS = np.linspace(2.5, 7, 10)
"""Budgets: the cost of these bits everywhere, between whole bits by interpolation of the logarithm."""


def ratio_of(problem: Problem, bits: float) -> float:
    """Return the cost of uniform bits over that of 8 bits, for the objective; interpolated between whole bits."""
    layers, table = len(problem.priced.layers), problem.priced.table
    eight, costs = cost_in("latency", table.policy_cost((8,) * layers, (8,) * layers)), []
    for width in (int(np.floor(bits)), int(np.ceil(bits))):
        inner = (8, *(width,) * (layers - 2), 8)
        costs.append(cost_in("latency", table.policy_cost(inner, inner)) / eight)
    share = bits - np.floor(bits)
    return float(np.exp((1 - share) * np.log(costs[0]) + share * np.log(costs[1])))


class Search:
    """A search by `ddpg` at one budget.

    Args:
        config: Settings.
        network: The prepared network.
        losses: Losses of the layers, for the prior.
    """

    def __init__(self, config: SearchConfig, network: Network, losses: Any) -> None:
        self._problem = prepare(config, network=network)
        problem, self._objective = self._problem, SearchObjective(self._problem, "search")
        env = BitAllocationEnv(
            problem.priced.layers,
            problem.priced.table,
            problem.choice,
            self._objective.evaluate,
            allowed=problem.allowed,
            config=EnvConfig(config.observation, config.budget_rule),
        )
        self._env = env
        prior = prior_of_pairs(losses.losses, problem.choice.decision_of_layer)
        self.space = search_space(env.choices, prior)
        self.method = RolloutDDPG(self.space, RolloutAdapter(env.rollouts), seed=config.seed)
        self.best: Any = None

    def run(self) -> None:
        """Evaluate as many policies as configured."""
        scores = []
        for _ in range(self._problem.config.episodes):
            bits = self.method.propose()
            reward = self._objective.reward(self._objective.evaluate(self._env.choices.expand(bits)))
            self.method.tell(bits, reward)
            scores.append((reward, bits))
        self.best = max(scores, key=lambda each: each[0])[1]

    def rolled_out(self, other: "Search") -> Any:
        """Return the policy of this search's actor and model at the budget of another one."""
        load = float(other.limit / self.limit)
        rollouts, theta = self.method.rollouts, self.method.model.theta[None]
        bits = rollouts.act(rollouts.curves(theta), load=load)[0]
        return other.space.project(bits)

    @property
    def limit(self) -> float:
        """Budget."""
        return self._problem.limits[0].limit

    def error(self, report: Evaluator, bits: Any) -> tuple[float, float]:
        """Return relative output error and accuracy of a policy on the report split."""
        layers = self._env.choices.expand(bits)
        found = report.evaluate(layers[:, 0].tolist(), layers[:, 1].tolist())
        return found.noise, found.accuracy


def rows(options: argparse.Namespace) -> Iterator[dict[str, float]]:
    """Yield a row for every budget."""
    settings = {name: getattr(options, name) for name in ("model", "weights", "data", "search_from", "search_images")}
    settings = {name: value for name, value in settings.items() if value is not None}
    base = search_config(
        **settings, hardware="bismo-edge", episodes=options.episodes, report_images=options.report_images
    )
    problem = prepare(base)
    network = problem.network
    losses, report = network_fisher(network), Evaluator(network.engine, problem.task, "report")
    searches = []
    for bits in BUDGETS:
        config = base.model_copy(update={"budget": (str(ratio_of(problem, float(bits))),)})
        searches.append(Search(config, network, losses))
    one = searches[len(searches) // 2]
    one.run()
    answers = [one.rolled_out(each) for each in searches]
    for bits, search, answer in zip(BUDGETS, searches, answers, strict=True):
        if search is not one:
            search.run()
        (ours, accuracy), (theirs, best) = search.error(report, answer), search.error(report, search.best)
        yield {"bits": float(bits), "actor_error": ours, "search_error": theirs, "actor": accuracy, "search": best}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="digits_cnn")
    parser.add_argument("--weights")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--search-from")
    parser.add_argument("--search-images", type=int)
    parser.add_argument("--report-images", type=int)
    parser.add_argument("--episodes", type=int, default=25)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for row in rows(options):
        found.append(row)
        print(row, flush=True)
    environment = describe_environment(seed=0, device="cpu")
    settings = {name: value for name, value in vars(options).items() if not isinstance(value, Path)}
    document = {
        "rows": found,
        "settings": settings,
        "environment": {k: environment[k] for k in ("seed", "processor", "commit", "packages")},
    }
    write_atomically(options.out, (json.dumps(document, indent=1) + "\n").encode())
