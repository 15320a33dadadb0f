"""DDPG that learns from a model of the reward: few true evaluations, many imagined ones.

Every evaluation corrects a Bayesian model of the loss (`agents.reward_model`) that starts from the space's prior.
The first is what the prior thinks best, the second the uniform bits that it thinks best: a prior that errs misjudges
these less. Before each further one, policies are gathered that may be better: the answers to the model's most probable
beliefs and to draws from them, exchanges of bits around the best, and walks of a DDPG actor that is trained on imagined
episodes. The one that is expected to be the best is evaluated as long as that pays; when it does not, every other time
the one from which most improvement is to be expected. So a search that is stopped has measured what it believes in.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Generator

from agents.acquisition import log_expected_improvement
from agents.base import IntArray, Walker
from agents.ddpg import DDPGConfig
from agents.imagination import Imagination
from agents.local_search import Knapsack
from agents.log_loss import log_losses, probable_ceiling
from agents.noise_terms import FloatArray, centre_of, pair_losses
from agents.reward_model import MEASURED, TYPICAL, RewardModel
from agents.space import SearchSpace
from agents.uniform import uniform_policies

_TRIES = 20
_RELEARN = 1.4
"""The priors' strengths are learned again when so many times as many policies are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBasedConfig:
    """Settings of `ModelBasedDDPG`; a value out of range raises ValueError.

    For every proposal: `draws` from the model's beliefs are solved, `neighbours` are looked at around the best told and
    around the best expected, the actor walks `episodes` and learns in `updates` steps. `kept` candidates stay from
    proposal to proposal; the model is conditioned on `memory` policies at most: those near the best and the latest.
    The best expected is proposed as long as it proves better than all before, and then every `exploit_every`-th time.
    `scales_until`: the priors' strengths are learned from at most so many policies.

    >>> ModelBasedConfig(exploit_every=0)
    Traceback (most recent call last):
    ValueError: exploit_every must be an integer of at least 1, got 0
    """

    draws: int = 6
    neighbours: int = 150
    episodes: int = 2
    updates: int = 8
    kept: int = 200
    memory: int = 300
    exploit_every: int = 2
    scales_until: int = 120
    ddpg: DDPGConfig = field(default_factory=lambda: DDPGConfig(sigma_decay=0.995, replay_episodes=64))

    def __post_init__(self) -> None:
        for name, least in (
            ("draws", 0), ("neighbours", 0), ("episodes", 0), ("updates", 0),
            ("kept", 1), ("memory", 2), ("exploit_every", 1), ("scales_until", 2),
        ):  # fmt: skip
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")


class ModelBasedDDPG:
    """A `Proposer` whose answers follow from a model of the reward; `seed` governs everything random.

    `tell` takes news of any policy of the network, also of those that do not fit this budget: the loss does not depend
    on what is paid for it. `model` is the reward model of log losses, `ceiling` the score that losses are counted from;
    both are up to date after `condition`.
    """

    def __init__(
        self, space: SearchSpace, walker: Walker, *, config: ModelBasedConfig = ModelBasedConfig(), seed: int = 0
    ) -> None:
        self.model = RewardModel(centre_of(space.nominal_prior), typical=TYPICAL if space.prior is None else MEASURED)
        self.ceiling = 0.0
        self._space, self._config = space, config
        self._knapsack = Knapsack(space)
        self._uniform = space.project(next(uniform_policies(space)))
        self._generator = Generator().manual_seed(seed)
        self._imagination = Imagination(walker, config.ddpg, self._generator)
        self._told: dict[bytes, tuple[IntArray, float]] = {}
        self._best: tuple[IntArray, float] | None = None
        self._kept: dict[bytes, IntArray] = {}
        self._asked: dict[bytes, IntArray] = {}
        self._in_vain = 0
        self._scales_at = 6

    def propose(self) -> IntArray:
        """The next policy [decision, 2], within the budget; one that was neither told nor proposed if there is any."""
        self.condition()
        candidates = self._candidates()
        if len(self._told) == 1 and self._uniform.tobytes() not in self._told | self._asked:
            candidates = self._uniform[None]
        bits = self._chosen(candidates) if len(candidates) else self._anything()
        self._asked[bits.tobytes()] = bits.copy()
        return bits

    def tell(self, bits: IntArray, score: float) -> None:
        """Take note of a policy [decision, 2]; ValueError for another shape, or a score that is not finite."""
        if bits.shape != (len(self._space.names), 2) or (bits < 1).any() or (bits > self.model.shape[2]).any():
            raise ValueError(f"a policy of this space must be bits [{len(self._space.names)}, 2], got {bits.tolist()}")
        if not math.isfinite(score):
            raise ValueError(f"a score must be finite, got {score}")
        bits = np.array(bits, dtype=np.int64, order="C")
        self._told[bits.tobytes()] = (bits, float(score))
        self._in_vain = 0 if self._keep(bits, score) else self._in_vain + 1
        self._kept.pop(bits.tobytes(), None)

    def predict(self, bits: IntArray) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation [policy] of the scores of `bits` [policy, decision, 2]: losses are log-normal."""
        mean, std = self.model.predict(bits)
        loss = np.exp(mean + std**2 / 2)
        return self.ceiling - loss, loss * np.sqrt(np.expm1(std**2))

    def condition(self) -> None:
        """Bring `model` and `ceiling` up to what was told; `propose` begins with it."""
        if not self._told:
            return
        bits, scores = self._evidence()
        due = len(self._told) >= self._scales_at
        if due or scores.max() >= self.ceiling:
            self.ceiling = probable_ceiling(self.model, bits, scores)
        targets, goal = log_losses(scores, self.ceiling), self._goal(scores)
        self.model.fit(bits, targets, goal=goal)
        if due:
            near = np.sort(np.argsort(np.abs(targets - goal), kind="stable")[: self._config.scales_until])
            self.model.fit(bits[near], targets[near], goal=goal)
            self.model.learn_scales()
            self.model.fit(bits, targets, goal=goal)
            self._scales_at = int(_RELEARN * len(self._told)) + 1

    def _goal(self, scores: FloatArray) -> float:
        """The log loss of the best told policy within this budget, or of the best of all."""
        return float(log_losses(np.array(scores.max() if self._best is None else self._best[1]), self.ceiling))

    def _evidence(self) -> tuple[IntArray, FloatArray]:
        """The told policies that the model is conditioned on, in the order of telling.

        Half of them those whose scores are nearest to the best within this budget, the others the latest.
        """
        bits, scores = (np.array(column) for column in zip(*self._told.values(), strict=True))
        if len(bits) > self._config.memory:
            goal = scores.max() if self._best is None else self._best[1]
            near = np.argsort(np.abs(scores - goal), kind="stable")[: self._config.memory // 2]
            others = np.setdiff1d(np.arange(len(bits)), near)
            index = np.sort(np.concatenate((near, others[-(self._config.memory - len(near)) :])))
            bits, scores = bits[index], scores[index]
        return bits, scores

    def _candidates(self) -> IntArray:
        """New policies [policy, decision, 2] within the budget, each once, in a fixed order."""
        losses = pair_losses(np.concatenate((self.model.theta[None], self._draws())))
        solved = np.stack([self._legal(bits) for bits in self._knapsack.solve(losses)])
        count = self._config.neighbours
        groups = [solved, self._imagined(solved), self._knapsack.neighbours(losses[0], solved[0], count // 2)]
        if self._best is not None:
            groups.append(self._knapsack.neighbours(losses[0], self._best[0], count))
        found = {bits.tobytes(): bits for group in groups for bits in group} | self._kept
        new = [bits for key, bits in found.items() if key not in self._told and key not in self._asked]
        return np.array(new, dtype=np.int64)

    def _legal(self, bits: IntArray) -> IntArray:
        """Prices alone may miss several budgets at once; the space's own rule does not."""
        return bits if self._space.fits(bits) else self._space.project(bits)

    def _draws(self) -> FloatArray:
        # The first evaluation is the prior's best, not a guess.
        return self.model.draw(self._numpy_generator(), self._config.draws if self._told else 0)

    def _imagined(self, solved: IntArray) -> IntArray:
        """Walks of the actor, which then learns what the model expects of them and of the answers of the solver."""
        if not self._config.episodes:
            return solved[:0]
        walks = np.stack([self._imagination.walk() for _ in range(self._config.episodes)])
        self._imagination.retrace(solved[:2])
        self._imagination.learn(self.model.expect, self._config.updates)
        # By the paper's rule of the budget a walk may end above it.
        return walks[[self._space.fits(bits) for bits in walks]]

    def _chosen(self, candidates: IntArray) -> IntArray:
        mean, std = self.model.predict(candidates)
        kept = candidates[np.argsort(mean, kind="stable")[: self._config.kept]]
        self._kept = {bits.tobytes(): bits for bits in kept}
        if self._best is None or self._in_vain % self._config.exploit_every == 0:
            return np.array(candidates[mean.argmin()])
        target = float(log_losses(np.array(self._best[1]), self.ceiling))
        return np.array(candidates[log_expected_improvement(mean, std, target).argmax()])

    def _keep(self, bits: IntArray, score: float) -> bool:
        """Whether a told policy is the best within this budget; remembered if it is."""
        better = self._space.fits(bits) and (self._best is None or score > self._best[1])
        if better:
            self._best = (bits, score)
        return better

    def _anything(self) -> IntArray:
        """A random policy where the model has no new one to offer; the best one where there are no others."""
        generator = self._numpy_generator()
        for _ in range(_TRIES):
            bits = self._space.sample(generator)
            if bits.tobytes() not in self._told and bits.tobytes() not in self._asked:
                return bits
        return bits if self._best is None else self._best[0].copy()

    def _numpy_generator(self) -> np.random.Generator:
        """For what numpy draws, so that one state holds all chance."""
        return np.random.default_rng(int(torch.randint(2**62, (), generator=self._generator)))

    def state_dict(self) -> dict[str, Any]:
        """Everything but space and configuration."""
        told = list(self._told.values())
        return {
            "model": self.model.state_dict(),
            "imagination": self._imagination.state_dict(),
            "generator": self._generator.get_state(),
            "ceiling": self.ceiling,
            "told": [torch.tensor(bits) for bits, _ in told],
            "scores": [score for _, score in told],
            "kept": [torch.tensor(bits) for bits in self._kept.values()],
            "asked": [torch.tensor(bits) for bits in self._asked.values()],
            "in_vain": self._in_vain,
            "scales_at": self._scales_at,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state_dict` was taken, with an equal space and configuration."""
        self.model.load_state_dict(state["model"])
        self._imagination.load_state_dict(state["imagination"])
        self._generator.set_state(state["generator"])
        self.ceiling = state["ceiling"]
        told = zip((bits.numpy().copy() for bits in state["told"]), state["scores"], strict=True)
        self._told = {bits.tobytes(): (bits, score) for bits, score in told}
        self._best = None
        for bits, score in self._told.values():
            self._keep(bits, score)
        self._kept, self._asked = (
            {bits.numpy().tobytes(): bits.numpy().copy() for bits in state[name]} for name in ("kept", "asked")
        )
        self._in_vain = state["in_vain"]
        self._scales_at = state["scales_at"]
