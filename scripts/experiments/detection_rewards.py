"""Compare distances between the outputs of detectors by how well they rank policies by AP on other images.

Prints rank correlations (Spearman), over policies within a budget, between average precision on images that the
distances do not see and minus each distance on the first images of the search split, for the embedded detector of
shapes. Neither part is in the report split. Policies are drawn as in `compare_rewards.py`.

    python scripts/experiments/detection_rewards.py
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from compare_rewards import near_uniform_policies, random_policies
from rank_agreement import FloatArray, rank_correlations
from torch import Tensor

from haq.config import search_config
from haq.execution.structures import Structure, item_count, take
from haq.experiment.preparation import prepare
from haq.experiment.problem import Problem
from haq.network.models.shapes_training import train_shapes
from haq.policy import PolicyBits
from haq.runs.environment import describe_environment
from haq.tasks.detection.outputs import DetectionHeads, OutputPart
from haq.tasks.detection.task import heads_of

Parts = Sequence[OutputPart]


def raw_error(found: Parts, reference: Parts) -> Tensor:
    """Squared difference of all raw outputs over the power of the reference."""
    error = sum((ours.values - theirs.values).square().sum() for ours, theirs in zip(found, reference, strict=True))
    return torch.as_tensor(error) / sum(theirs.values.square().sum() for theirs in reference)


def relative_parts(found: Parts, reference: Parts) -> Tensor:
    """Mean over boxes, objectness and classes of the squared difference over the power of the reference."""
    pairs = zip(found, reference, strict=True)
    shares = [(ours.values - theirs.values).square().sum() / theirs.values.square().sum() for ours, theirs in pairs]
    return torch.stack(shares).mean()


def centred_parts(found: Parts, reference: Parts) -> Tensor:
    """The same with the power of the reference about its mean in each channel."""
    shares = []
    for ours, theirs in zip(found, reference, strict=True):
        centred = theirs.values - theirs.values.mean(dim=(0, 1))
        shares.append((ours.values - theirs.values).square().sum() / centred.square().sum())
    return torch.stack(shares).mean()


def weighted_error(found: Parts, reference: Parts) -> Tensor:
    """Squared difference of boxes, and of probabilities; boxes and classes weighted by the reference's objectness."""
    weight = _weight(reference)
    total = torch.zeros(())
    for ours, theirs in zip(found, reference, strict=True):
        if theirs.kind == "box":
            total += (weight * (ours.values - theirs.values).square()).sum()
        else:
            squares = (ours.values.sigmoid() - theirs.values.sigmoid()).square()
            total += (squares if theirs.kind == "objectness" else weight * squares).sum()
    return total


def divergence(found: Parts, reference: Parts) -> Tensor:
    """KL divergence of objectness and classes, half the squared difference of boxes; weighted by objectness."""
    weight = _weight(reference)
    total = torch.zeros(())
    for ours, theirs in zip(found, reference, strict=True):
        if theirs.kind == "box":
            total += (weight * (ours.values - theirs.values).square()).sum() / 2
        else:
            lost = _bernoulli_divergence(ours.values, theirs.values)
            total += (lost if theirs.kind == "objectness" else weight * lost).sum()
    return total


def weighted_logits(found: Parts, reference: Parts) -> Tensor:
    """Squared difference of all raw outputs of a position, weighted by the reference's objectness; of objectness by
    the standard deviation of its Bernoulli distribution."""
    weight = _weight(reference)
    total = torch.zeros(())
    for ours, theirs in zip(found, reference, strict=True):
        squares = (ours.values - theirs.values).square()
        total += ((weight * (1 - weight)).sqrt() * squares if theirs.kind == "objectness" else weight * squares).sum()
    return total


def _weight(reference: Parts) -> Tensor:
    (objectness,) = (part.values for part in reference if part.kind == "objectness")
    return objectness.sigmoid()


def _bernoulli_divergence(found: Tensor, reference: Tensor) -> Tensor:
    probability = reference.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(reference, probability, reduction="none")
    return F.binary_cross_entropy_with_logits(found, probability, reduction="none") - entropy


CANDIDATES: dict[str, Callable[[Parts, Parts], Tensor]] = {
    "raw": raw_error,
    "relative parts": relative_parts,
    "centred parts": centred_parts,
    "weighted error": weighted_error,
    "weighted logits": weighted_logits,
    "divergence": divergence,
}
"""Distances by name."""


@torch.no_grad()
def outputs(problem: Problem, bits: PolicyBits | None) -> Iterator[tuple[Structure, Structure]]:
    """Yield raw outputs and targets on the search and the selection split, image batch by image batch."""
    network = problem.network.engine.runner(bits)
    for split in ("search", "selection"):
        for inputs, targets in problem.task.batches(split, batch_size=problem.config.eval_batch):
            yield network(inputs), targets


def signals(
    problem: Problem, heads: DetectionHeads, bits: PolicyBits, reference: Parts, images: int
) -> tuple[float, list[float]]:
    """Return AP on the images after the first, and AP and minus the distances on the first."""
    seen, other, distances = problem.task.meter(), problem.task.meter(), []
    for number, (found, targets) in enumerate(outputs(problem, bits)):
        if number == 0:
            first = slice(images)
            seen.update(take(found, first), take(targets, first))
            parts = heads.parts(take(found, first))
            distances = [-candidate(parts, reference).item() for candidate in CANDIDATES.values()]
            rest = slice(images, item_count(found))
            found, targets = take(found, rest), take(targets, rest)  # noqa: PLW2901
        if len(targets):
            other.update(found, targets)
    return other.compute(), [seen.compute(), *distances]


def row(problem: Problem, kind: str, policies: int, images: int) -> tuple[FloatArray, FloatArray]:
    """Return AP on other images [policy], and the signals [signal, policy]."""
    bits = int(problem.config.budget[0].removesuffix("bits"))
    drawn = random_policies(problem, policies) if kind == "random" else near_uniform_policies(problem, bits, policies)
    every = sorted({(tuple(each[:, 0].tolist()), tuple(each[:, 1].tolist())) for each in drawn})
    heads = heads_of(problem.priced.model)
    assert heads is not None, "a detector"
    reference = heads.parts(take(next(outputs(problem, None))[0], slice(images)))
    found = [signals(problem, heads, each, reference, images) for each in every]
    return np.array([truth for truth, _ in found]), np.array([each for _, each in found]).T


def main() -> None:
    """Print a row for each seed of the network, budget and kind of policies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policies", type=int, default=20, help="of each kind")
    parser.add_argument("--bits", nargs="+", type=int, default=[4], help="budgets: the cost of these everywhere")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=96, help="images that the distances see")
    parser.add_argument("--search-images", type=int, default=500, help="these and those that AP is measured on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = ["AP", *CANDIDATES]
    print("| seed | bits | policies | number | AP of others | " + " | ".join(names) + " |")
    print("|---" * (5 + len(names)) + "|")
    for seed in options.seeds:
        for bits in options.bits:
            config = search_config(
                model="shapes_detector",
                data="shapes",
                budget=(f"{bits}bits",),
                search_images=options.search_images,
                report_images=20,
                calibration_images=128,
            )
            problem = prepare(config, model=train_shapes(seed=seed))
            for kind in ("random", "near uniform"):
                truth, found = row(problem, kind, options.policies, options.images)
                ranks = rank_correlations(found, np.broadcast_to(truth, found.shape))
                cells = [
                    f"{seed}",
                    f"{bits}",
                    kind,
                    f"{len(truth)}",
                    f"{100 * truth.min():.1f} to {100 * truth.max():.1f}",
                ]
                print(f"| {' | '.join([*cells, *(f'{each:.2f}' for each in ranks)])} |", flush=True)
    versions = describe_environment(seed=0, device="cpu")["packages"]
    print(f"\nMade with `python {shlex.join(sys.argv)}`; one thread.", end=" ")
    print(f"Versions: {', '.join(f'{name} {version}' for name, version in versions.items() if version)}.")


if __name__ == "__main__":
    main()
