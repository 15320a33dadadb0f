"""Start of a search from the policies of other searches, whose scores depend on neither device nor budget."""

from collections.abc import Mapping
from typing import Any

from envs.bit_allocation import BitAllocationEnv
from envs.choices import Choices, IntArray
from haq.experiment.inputs import Observations
from haq.experiment.methods import Method, Proposal, ScoredPolicies
from haq.searching.goals import MAX_FINALISTS


class WarmStart:
    """Search method that first tries the best feasible policies of other searches.

    These become ordinary episodes, and one of them may win. The wrapped method receives all observations; agents that
    step through the layers do not use them.

    Args:
        method: The method that proposes policies afterwards.
        env: Environment with the rules of the budget.
        choice: Allowed bits and budgets.
        observations: Policies of other searches with their scores.
    """

    def __init__(self, method: Method, env: BitAllocationEnv, choice: Choices, observations: Observations) -> None:
        method.take_over(method, observations)
        self._method, self._env = method, env
        self._opening = opening(choice, observations)
        self._proposed = self._learned = 0

    def propose(self) -> Proposal:
        """Return the next policy of the other searches, or after the last one, a proposal of the wrapped method."""
        if self._proposed == len(self._opening):
            return self._method.propose()
        decisions = self._opening[self._proposed]
        self._proposed += 1
        return Proposal(self._env.choices.expand(decisions), decisions)

    def learn(self, proposal: Proposal, reward: float) -> Mapping[str, float]:
        """Let the wrapped method learn from its own proposals; it knows the policies of the other searches.

        Args:
            proposal: The oldest proposal that was not learned from.
            reward: Its reward.

        Returns:
            Losses of the networks of the method, by name.
        """
        if self._learned == len(self._opening):
            return self._method.learn(proposal, reward)
        self._learned += 1
        return {}

    def take_over(self, earlier: Method, observations: ScoredPolicies) -> None:
        """Continue from the state of the method on another budget.

        Args:
            earlier: The `WarmStart` on the other budget.
            observations: All policies evaluated so far, with their scores.
        """
        assert isinstance(earlier, WarmStart)
        self._method.take_over(earlier._method, observations)

    def state_dict(self) -> dict[str, Any]:
        """Return the method's state and the number of policies of other searches that were tried."""
        return {"method": self._method.state_dict(), "played": self._learned}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state, for the same observations.

        Args:
            state: Result of `state_dict`.
        """
        self._method.load_state_dict(state["method"])
        self._proposed = self._learned = state["played"]


def opening(choice: Choices, observations: Observations) -> list[IntArray]:
    """Select the policies to try first: the few feasible ones of the highest scores.

    Args:
        choice: Allowed bits and budgets.
        observations: Policies [decision, 2] of other searches with their scores.

    Returns:
        The policies, the best first.
    """
    legal = [(bits, score) for bits, score in observations if choice.allows(bits) and choice.fits(bits)]
    return [bits for bits, _ in sorted(legal, key=lambda each: -each[1])[:MAX_FINALISTS]]
