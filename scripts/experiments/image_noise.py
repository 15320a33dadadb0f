"""Estimate what more search images could gain: how much the error of the chosen policy exceeds that of the best one.

    python scripts/experiments/image_noise.py

`results/methods/NETWORK.npz` holds policies that several seeds evaluated, each on 160 images of its own, with
calibration images of its own. The logarithm of an error is modelled as a term of the policy, a term of the images and
noise, by least squares. Policies are then drawn with the spread of the terms, and the excess is that of the policy of
least noisy error over the best policy.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from haq.tables import Table, markdown

NETWORKS = {"cifar_resnet20": "ResNet-20", "digits_mobilenet": "small MobileNet"}
NEAR = 0.2
"""Largest logarithm of the error over that of the best policy on the same images, of policies that are compared."""
LEAST_DRAWS = 3
"""Number of draws of images that a policy must have been evaluated on."""
TRIALS = 20_000
CANDIDATES = (10, 100)
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Spread:
    """Standard deviations of the logarithm of the error among the best policies.

    Attributes:
        policies: Number of policies.
        of_noise: Deviation because of the images, after the term that all policies share.
        of_policies: Deviation between policies without noise.
    """

    policies: int
    of_noise: float
    of_policies: float


def log_errors(path: Path) -> FloatArray:
    """Return the logarithm of the error over the least on the same images [policy, draw], NaN where not measured."""
    data = np.load(path)
    draws = sorted(set(data["split_seed"].tolist()))
    errors: dict[bytes, dict[int, float]] = defaultdict(dict)
    for bits, seed, noise in zip(data["bits"], data["split_seed"], data["noise"], strict=True):
        errors[bits.tobytes()][draws.index(int(seed))] = float(noise)
    least = [min(found[draw] for found in errors.values() if draw in found) for draw in range(len(draws))]
    several = [found for found in errors.values() if len(found) >= LEAST_DRAWS]
    table = np.full((len(several), len(draws)), np.nan)
    for row, found in enumerate(several):
        for draw, error in found.items():
            table[row, draw] = np.log(error / least[draw])
    return table


def spread(table: FloatArray) -> Spread:
    """Separate the noise of the images from the differences between policies, by least squares.

    Args:
        table: Logarithms [policy, draw], NaN where not measured.

    Returns:
        The deviations.
    """
    known, of_draws = ~np.isnan(table), np.zeros(table.shape[1])
    for _ in range(200):
        of_policies = np.nanmean(table - of_draws, axis=1)
        rest = np.where(known, table - of_policies[:, None], 0.0)
        of_draws = rest.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    residuals = (table - of_policies[:, None] - of_draws)[known]
    freedom = known.sum() - len(of_policies) - known.any(axis=0).sum() + 1
    noise = float((residuals**2).sum() / freedom)
    between = float(np.var(of_policies, ddof=1) - (noise / known.sum(axis=1)).mean())
    return Spread(len(table), sqrt(noise), sqrt(max(between, 0.0)))


def excess(found: Spread, candidates: int, *, images: int, generator: np.random.Generator) -> float:
    """Return the mean excess of the chosen policy's error over the best one's, relative.

    Args:
        found: Deviations on one draw of images.
        candidates: Number of policies to choose from.
        images: Number of images over that of one draw.
        generator: Source of the trials.

    Returns:
        The excess.
    """
    true = generator.normal(0, found.of_policies, (TRIALS, candidates))
    seen = true + generator.normal(0, found.of_noise / sqrt(images), true.shape)
    chosen = true[np.arange(TRIALS), seen.argmin(axis=1)]
    return float(np.expm1(chosen - true.min(axis=1)).mean())


def rows(folder: Path) -> Iterator[tuple[str, ...]]:
    """Yield the cells of every network."""
    for stem, name in NETWORKS.items():
        table = log_errors(folder / f"{stem}.npz")
        found, generator = spread(table[np.nanmean(table, axis=1) < NEAR]), np.random.default_rng(0)
        numbers = (
            excess(found, candidates, images=images, generator=generator)
            for images in (1, 4)
            for candidates in CANDIDATES
        )
        deviations = (found.of_noise, found.of_policies)
        yield name, str(found.policies), *(f"{100 * number:.1f} %" for number in (*deviations, *numbers))


def table(folder: Path) -> str:
    """Return the Markdown table."""
    columns = (
        "network", "policies", "noise of 160 images", "spread of policies",
        *(f"excess, best of {count}, {images} images" for images in (160, 640) for count in CANDIDATES),
    )  # fmt: skip
    return markdown([Table(columns, tuple(rows(folder)))])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("results/methods"), help="default: results/methods"
    )
    print(table(parser.parse_args().folder), end="")


if __name__ == "__main__":
    main()
