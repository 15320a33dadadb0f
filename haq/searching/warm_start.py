"""A search that begins with what other searches found: what a policy earns depends on no device and no budget."""

from collections.abc import Mapping, Sequence
from typing import Any

from envs.bit_allocation import BitAllocationEnv
from envs.choices import Choices, IntArray
from haq.searching.goals import FINALISTS
from haq.searching.proposing import Known, Method, Played
from haq.searching.records import are_allowed

Told = Sequence[tuple[IntArray, float]]
"""Policies [decision, 2] with what they earned, each once."""


class WarmStart:
    """A `Method` that is told everything, and plays the best of it that fits before it proposes anything of its own.

    So the journal holds these policies like any other, and one of them may win. What a method makes of the news is its
    own affair: agents that walk make nothing of it.
    """

    def __init__(self, method: Method, env: BitAllocationEnv, choice: Choices, told: Told) -> None:
        method.take_over(method, told)
        self._method, self._env = method, env
        self._opening = opening(choice, told)
        self._played = 0

    def play(self) -> Played:
        """The next known policy; when all were played, what the method proposes."""
        if self._played == len(self._opening):
            return self._method.play()
        bits = self._env.choice.expand(self._opening[self._played])
        self._played += 1
        return Played(bits, self._env.reward_of(bits), {})

    def take_over(self, earlier: Method, known: Known) -> None:
        """The method's, from the other's."""
        assert isinstance(earlier, WarmStart)
        self._method.take_over(earlier._method, known)

    def state_dict(self) -> dict[str, Any]:
        """The method's, and how many known policies were played."""
        return {"method": self._method.state_dict(), "played": self._played}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state_dict` was taken, having been told the same."""
        self._method.load_state_dict(state["method"])
        self._played = state["played"]


def opening(choice: Choices, told: Told) -> list[IntArray]:
    """The policies to begin with: of those told that the choice allows the few that earned most, the best first."""
    legal = [(bits, reward) for bits, reward in told if are_allowed(choice, bits) and choice.fits(bits)]
    return [bits for bits, _ in sorted(legal, key=lambda each: -each[1])[:FINALISTS]]
