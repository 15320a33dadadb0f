"""The best episode of a search, and the nearest miss, as policy files."""

from haq.experiment.problem import Problem
from haq.layer_bits import LayerBits
from haq.policy import CostSummary, Policy
from haq.runs.episode import Episode
from haq.runs.run_folder import NEAREST_MISS, POLICY, RunFolder
from haq.searching.goals import Goal


class BestEpisodes:
    """The best episode that meets the goal, or the nearest miss while none does.

    Args:
        problem: The problem.
        goal: Criterion for the result.
        accuracy_fp32: Score of the float network on the search split.

    Attributes:
        best: The best episode that meets the goal.
        nearest_miss: The episode that misses the goal by least; not updated once an episode meets it.
    """

    def __init__(self, problem: Problem, goal: Goal, accuracy_fp32: float) -> None:
        self._problem, self._goal, self._accuracy_fp32 = problem, goal, accuracy_fp32
        self.best: Episode | None = None
        self.nearest_miss: Episode | None = None

    def add(self, episode: Episode) -> bool:
        """Add the next episode.

        Args:
            episode: The episode.

        Returns:
            Whether it is the best so far, or the nearest miss where none met the goal.
        """
        if self._goal.meets(episode):
            if self.best is None or self._goal.merit(episode) > self._goal.merit(self.best):
                self.best = episode
                return True
        elif (
            episode.failure is None
            and self.best is None
            and (self.nearest_miss is None or self._goal.excess(episode) < self._goal.excess(self.nearest_miss))
        ):
            self.nearest_miss = episode
            return True
        return False

    def policy(self, episode: Episode) -> Policy:
        """Convert an episode to a policy.

        Args:
            episode: An episode.

        Returns:
            The policy, with its cost and its accuracy on the search split.
        """
        config, priced = self._problem.config, self._problem.priced
        bits = zip(priced.layers, episode.w_bits, episode.a_bits, strict=True)
        return Policy(
            model=priced.name,
            weights=priced.weights,
            hardware=config.hardware,
            objective=config.objective,
            layers=tuple(LayerBits(name=layer.name, kind=layer.kind, w_bits=w, a_bits=a) for layer, w, a in bits),
            cost=CostSummary.of(priced.table.policy_cost(episode.w_bits, episode.a_bits)),
            baseline_cost=CostSummary.of(priced.baseline),
            accuracy={"search": episode.accuracy, "fp32_search": self._accuracy_fp32},
        )

    def write(self, run: RunFolder) -> None:
        """Write the policies of the best episode and of the nearest miss.

        Args:
            run: Folder of the run.
        """
        for name, episode in ((POLICY, self.best), (NEAREST_MISS, self.nearest_miss)):
            if episode is not None:
                run.write(name, self.policy(episode).to_json().encode())
