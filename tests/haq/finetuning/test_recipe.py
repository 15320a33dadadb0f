"""Rates, and learning from a teacher."""

import pytest

from haq.network.layers import Trace
from haq.quantization.training.config import FinetuneConfig
from haq.quantization.training.recipe import mean_weight_bits, resolve_rates


@pytest.mark.parametrize(
    ("bits", "lr", "decay"),
    [
        (1.0, 0.01 * 10**0.5, 0.125),
        (2.0, 0.01 * 10**0.5, 0.25),
        (3.0, 0.01 * 10**0.25, 0.5),
        (4.0, 0.01, 1.0),
        (6.0, 0.01 * 0.1**0.5, 1.0),
        (8.0, 0.001, 1.0),
    ],
)
def test_rates_follow_the_bits(bits: float, lr: float, decay: float) -> None:
    rates = resolve_rates(FinetuneConfig(weight_decay=1.0), bits)
    assert (rates.lr, rates.weight_decay) == pytest.approx((lr, decay))


def test_rates_that_were_given_are_taken() -> None:
    rates = resolve_rates(FinetuneConfig(lr=0.5, scale_lr=0.25), 2.0)
    assert (rates.lr, rates.scale_lr) == (0.5, 0.25)
    assert resolve_rates(FinetuneConfig(optimizer="adamw"), 4.0).lr == pytest.approx(0.001)


def test_shared_weights_count_once(small_trace: Trace) -> None:
    # stem 72 weights, depthwise 8, mix 64, used twice, classifier 128
    assert mean_weight_bits(small_trace, ((8, 2, 4, 4, None), (8,) * 5)) == (72 * 8 + 8 * 2 + 64 * 4) / 144
    assert mean_weight_bits(small_trace, ((None,) * 5, (None,) * 5)) == 8
