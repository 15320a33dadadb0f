"""Numbers in the tables of networks: losses of reconstructed policies, uniform bits, and the noise of search images."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from haq.searching.confidence import Pairs


def test_points_lost_have_the_interval_of_paired_proportions(load_script: Callable[[str], ModuleType]) -> None:
    script = load_script("experiments/reconstruct_networks")
    # 20 of 1,000 images more lost than won; variance (30 + 10) / 1,000 - 0.02^2 for one image
    assert script.lost(Pairs(30, 10, 1000)) == pytest.approx((2.0, 0.767, 3.233), abs=5e-4)
    assert script.spoken_loss(Pairs(30, 10, 1000)) == "2.0 (0.8 to 3.2)"


def test_uniform_bits_are_the_dearest_within_a_budget(load_script: Callable[[str], ModuleType]) -> None:
    script = load_script("experiments/search_networks")
    uniform = [{"bits": 4, "cost": 0.4}, {"bits": 5, "cost": 0.1 + 0.4}, {"bits": 6, "cost": 0.6}]
    assert script.dearest_within(0.5, uniform)["bits"] == 5
    assert script.dearest_within(0.49, uniform)["bits"] == 4
    assert [script.spoken(budget) for budget in ("4bits", "0.513")] == ["4 bits", "0.513 of 8 bits"]


def test_noise_of_images_is_separated_from_differences_of_policies(load_script: Callable[[str], ModuleType]) -> None:
    script, generator = load_script("experiments/image_noise"), np.random.default_rng(0)
    policies, draws = generator.normal(0, 0.04, (400, 1)), generator.normal(0, 0.5, (1, 6))
    logarithms = policies + draws + generator.normal(0, 0.02, (400, 6))
    logarithms[generator.random(logarithms.shape) < 0.3] = np.nan
    found = script.spread(logarithms[(~np.isnan(logarithms)).sum(axis=1) > 1])
    assert (found.of_noise, found.of_policies) == pytest.approx((0.02, 0.04), rel=0.1)
    one, four = (script.excess(found, 10, images=images, generator=generator) for images in (1, 4))
    assert 0 < four < one < 0.02
