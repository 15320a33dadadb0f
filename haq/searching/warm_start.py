"""A search that begins with what other searches found: what a policy earns depends on no device and no budget."""

from collections.abc import Mapping
from typing import Any

from envs.bit_allocation import BitAllocationEnv
from envs.choices import Choices, IntArray
from haq.experiment.inputs import Observations
from haq.experiment.methods import Method, ScoredPolicies, Trial
from haq.searching.goals import FINALISTS
from haq.searching.records import are_allowed


class WarmStart:
    """A search method that first tries the best feasible policies of other searches.

    These become episodes like any other, and one of them may win. The method itself receives all observations; agents
    that step through the layers do not use them.
    """

    def __init__(self, method: Method, env: BitAllocationEnv, choice: Choices, observations: Observations) -> None:
        method.take_over(method, observations)
        self._method, self._env = method, env
        self._opening = opening(choice, observations)
        self._played = 0

    def play(self) -> Trial:
        """The next known policy; when all were played, what the method proposes."""
        if self._played == len(self._opening):
            return self._method.play()
        bits = self._env.choice.expand(self._opening[self._played])
        self._played += 1
        return Trial(bits, self._env.reward_of(bits), {})

    def take_over(self, earlier: Method, observations: ScoredPolicies) -> None:
        """The method's, from the other's."""
        assert isinstance(earlier, WarmStart)
        self._method.take_over(earlier._method, observations)

    def state_dict(self) -> dict[str, Any]:
        """The method's, and how many known policies were played."""
        return {"method": self._method.state_dict(), "played": self._played}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state_dict` was taken, with the same observations."""
        self._method.load_state_dict(state["method"])
        self._played = state["played"]


def opening(choice: Choices, observations: Observations) -> list[IntArray]:
    """The policies tried first: the few allowed ones of the highest scores, the best first."""
    legal = [(bits, reward) for bits, reward in observations if are_allowed(choice, bits) and choice.fits(bits)]
    return [bits for bits, _ in sorted(legal, key=lambda each: -each[1])[:FINALISTS]]
