"""Entries of the observation."""

import numpy as np
import pytest

from envs.bit_allocation import BitAllocationEnv
from envs.choices import AllowedBits, Budget
from envs.observation import ObservationKind, layer_features
from envs.rollout import EnvConfig
from hardware_sim.layer import Layer
from hardware_sim.proxy import proxy_table

FIRST = Layer(
    name="first", kind="conv", c_in=3, c_out=9, kernel=(5, 5), stride=(2, 2), input_size=(16, 16), output_size=(6, 6)
)
DEPTHWISE = Layer(
    name="dw", kind="depthwise", c_in=9, c_out=9, kernel=(3, 3), groups=9, input_size=(6, 6), output_size=(4, 4)
)
CLASSIFIER = Layer(name="fc", kind="linear", c_in=9, c_out=5)
LAYERS = (FIRST, DEPTHWISE, CLASSIFIER)


def test_haq_features_of_convolution_depthwise_and_fully_connected() -> None:
    # Weights: 3*9*25 = 675, 9*9 = 81, 45. Strides 2, 1, and 0 for the classifier; sizes 16, 6, 1.
    expected = [
        [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
        [0.5, 1.0, 1.0, 0.5, 0.5, 5 / 15, (81 - 45) / 630, 1.0],
        [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    ]
    np.testing.assert_allclose(layer_features(LAYERS), expected, rtol=1e-6)


def test_constant_feature_is_zero() -> None:
    features = layer_features((CLASSIFIER,))
    np.testing.assert_array_equal(features, np.zeros((1, 8)))


def test_one_dimensional_convolutions_have_distinct_features() -> None:
    def conv1d(kernel: int, stride: int, length: int) -> Layer:
        return Layer(
            name=f"k{kernel}",
            kind="conv",
            c_in=4,
            c_out=4,
            kernel=(1, kernel),
            stride=(1, stride),
            input_size=(1, length),
            output_size=(1, length // stride),
        )

    features = layer_features((conv1d(3, 1, 8), conv1d(7, 2, 64)))
    np.testing.assert_array_equal(features[:, 3:6], [[0, 0, 0], [1, 1, 1]])


def run_episode(env: BitAllocationEnv, actions: list[float]) -> np.ndarray:
    seen = [env.reset()[0]]
    seen += [env.step(np.array([action], dtype=np.float32))[0] for action in actions]
    return np.array(seen)


def test_observed_flag_alternates_and_previous_action_is_reset() -> None:
    env = BitAllocationEnv(
        LAYERS, proxy_table(LAYERS), Budget("bops", 1e9), lambda _: 0.5, allowed=AllowedBits(pinned={})
    )
    actions = [0.25, 0.5, 0.75, 0.125, 0.0, 1.0]
    for _ in range(2):
        # Costs are low, so no action is replaced before the end: observed actions equal those taken.
        seen = run_episode(env, actions)
        np.testing.assert_array_equal(seen[:6, 8], [1, 0, 1, 0, 1, 0])
        np.testing.assert_array_equal(seen[:, 9], [1.0, *actions])
        np.testing.assert_array_equal(seen[:6, :8], layer_features(LAYERS).repeat(2, axis=0))


def test_size_objective_has_one_step_per_layer() -> None:
    env = BitAllocationEnv(
        LAYERS, proxy_table(LAYERS), Budget("size", 1e9), lambda _: 0.5, allowed=AllowedBits(a_bits=8, pinned={})
    )
    seen = run_episode(env, [0.5, 0.5, 0.5])
    np.testing.assert_array_equal(seen[:3, 8], [1, 1, 1])
    np.testing.assert_array_equal(seen[:3, :8], layer_features(LAYERS))


def test_rich_features() -> None:
    # BOPs at 8 x 8 bits are 64 * macs, macs = 675*36 = 24300, 81*16 = 1296, 45; at 2 x 2 bits 4 * macs.
    macs = np.array([24300, 1296, 45])
    limit = 32.0 * macs.sum()
    env = BitAllocationEnv(
        LAYERS,
        proxy_table(LAYERS),
        Budget("bops", limit),
        lambda _: 0.5,
        allowed=AllowedBits(pinned={}),
        config=EnvConfig(observation="rich"),
    )
    seen = run_episode(env, [1.0, 0.0])
    logs = np.log1p(macs)
    first, second = seen[0, 10:], seen[2, 10:]
    assert first == pytest.approx([1.0, 1.0, 1.0, 1 - 4 / 32], rel=1e-6)
    # The first layer took 8 x 2 bits, the others are still at 2 x 2.
    left = 1 - (16 * macs[0] + 4 * macs[1:].sum()) / limit
    middle = (logs[1] - logs[2]) / (logs[0] - logs[2])
    assert second == pytest.approx([middle, macs[1] / macs[0], macs[1:].sum() / macs.sum(), left], rel=1e-5)


@pytest.mark.parametrize("kind", ["haq", "rich"])
def test_observation_after_the_last_step_has_its_action_and_the_budget_left(kind: ObservationKind) -> None:
    limit = 64.0 * (24300 + 1296 + 45)
    env = BitAllocationEnv(
        LAYERS,
        proxy_table(LAYERS),
        Budget("bops", limit),
        lambda _: 0.5,
        allowed=AllowedBits(pinned={}),
        config=EnvConfig(observation=kind),
    )
    seen = run_episode(env, [1.0, 1.0, 1.0, 1.0, 0.0, 0.25])
    before, after = seen[-2:]
    np.testing.assert_array_equal(after[:9], before[:9])
    assert (before[8], before[9], after[8], after[9]) == (0.0, 0.0, 0.0, 0.25)
    if kind == "rich":
        np.testing.assert_array_equal(after[10:13], before[10:13])
        # The classifier has 2 x 3 bits in the end, and 2 x 2 before its last step, instead of 8 x 8.
        assert [before[13], after[13]] == pytest.approx([45 * 60 / limit, 45 * 58 / limit], rel=1e-3)
