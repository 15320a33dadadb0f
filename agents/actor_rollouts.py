"""Simulated rollouts of an actor: with noise to learn from, and without noise to search with."""

from collections.abc import Callable

import numpy as np

from agents.base import FloatArray, IntArray, RolloutSimulator, RolloutStep
from agents.price_curves import PriceCurves
from agents.rollout_actor import RolloutActor
from agents.simulated_rollouts import WIDTHS, Experience, Loads, RolloutObserver
from agents.space import SearchSpace

Noise = Callable[[FloatArray], FloatArray]
"""Function from widths [rollout] that the actor chose to the widths that are tried."""
_SIGMA = 1.0
"""Largest standard deviation of the noise of training, in bits."""
_RANDOM_SHARE = 0.1
"""Share of the steps of training whose widths are random."""
_CHANGED_STEPS = 2.0
"""Expected number of steps that are changed in a rollout."""


class ActorRollouts:
    """Rollouts of an actor over the decisions of one search space, under models of the loss.

    Args:
        space: Search space.
        simulator: Environment of the rollouts.
        actor: Actor and critic.
        near: A policy near the budgets, [decision, 2].
    """

    def __init__(self, space: SearchSpace, simulator: RolloutSimulator, actor: RolloutActor, near: IntArray) -> None:
        self._space, self._simulator, self._actor = space, simulator, actor
        self._loads = Loads(space, space.total(near) / space.budget)

    def curves(self, theta: FloatArray) -> PriceCurves:
        """Return the price curves of models.

        Args:
            theta: Logarithms of the losses of all terms, [model, decision, 2, width].

        Returns:
            The curves.
        """
        return PriceCurves(theta, self._loads.of_pairs, self._space.allowed)

    def explore(self, curves: PriceCurves, generator: np.random.Generator, *, count: int) -> Experience:
        """Roll out the actor with noise, each time for one of the models and a budget drawn from all there are.

        Args:
            curves: Price curves of the models.
            generator: Source of models, budgets and noise.
            count: Number of rollouts.

        Returns:
            Steps to learn from.
        """
        models = generator.integers(len(curves.terms), size=count)
        loads = self._loads.least * (self._loads.largest / self._loads.least) ** generator.uniform(0.02, 1, count)
        sigma = generator.uniform(0, _SIGMA, count)

        def perturb(widths: FloatArray) -> FloatArray:
            tried = widths + sigma * generator.standard_normal(count)
            return np.where(generator.random(count) < _RANDOM_SHARE, generator.uniform(0.5, WIDTHS + 0.5, count), tried)

        observer, bits = self._simulate(curves, models, loads, perturb)
        return observer.experience(bits)

    def act(
        self, curves: PriceCurves, generator: np.random.Generator | None = None, *, changed: int = 0, load: float = 1.0
    ) -> IntArray:
        """Roll out the actor once for every model as it is, and several times for the first with a few steps changed.

        Args:
            curves: Price curves of the models.
            generator: Source of the changes, by one bit each.
            changed: Number of rollouts with changes.
            load: Budgets in parts of those of the search.

        Returns:
            Policies [rollout, decision, 2] as they were chosen, before the budget rule spends what is left.
        """
        models = np.concatenate((np.arange(len(curves.terms)), np.zeros(changed, dtype=np.int64)))
        share = _CHANGED_STEPS / (2 * len(self._space.names))

        def change(widths: FloatArray) -> FloatArray:
            if generator is not None:
                changes = np.where(generator.random(changed) < share, generator.choice((-1, 1), changed), 0)
                widths[len(curves.terms) :] += changes
            return widths

        return self._simulate(curves, models, np.full(len(models), load), change)[1]

    def _simulate(
        self, curves: PriceCurves, models: IntArray, loads: FloatArray, noise: Noise
    ) -> tuple[RolloutObserver, IntArray]:
        """Simulate a rollout for each model and load; returns the observer and the chosen bits."""
        observer = RolloutObserver(self._space.allowed, self._loads, curves, models, loads)
        narrowest, widest = self._simulator.min_bits, self._simulator.max_bits

        def act(step: RolloutStep) -> FloatArray:
            widths = 0.5 + WIDTHS * self._actor.act(observer.observe(step)).numpy().astype(np.float64)
            return ((noise(widths) - narrowest + 0.5) / (widest - narrowest + 1)).clip(0, 1)

        return observer, self._simulator.simulate(act, loads[:, None] * self._space.budget)
