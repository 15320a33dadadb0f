"""The environment: Gymnasium's checks, episodes, and the guarantees of its budget rules."""

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.action import bits_of_actions
from envs.bit_allocation import BitAllocationEnv
from envs.choices import AllowedBits, Budget, BudgetError
from envs.observation import OBSERVATION_KINDS, ObservationKind
from envs.reward import accuracy_reward
from envs.rollout import BUDGET_RULES, BudgetRule, EnvConfig
from hardware_sim.bit_serial import BitSerial
from hardware_sim.cost import CostTable, Limit
from hardware_sim.layer import Layer
from hardware_sim.proxy import proxy_table

PAIRS = np.multiply.outer(np.arange(1, 9.0), np.arange(1, 9.0))
FREE = AllowedBits(pinned={})


def linears(count: int) -> tuple[Layer, ...]:
    return tuple(Layer(name=f"l{number}", kind="linear", c_in=4 + number, c_out=3) for number in range(count))


def latency_table(
    latency: np.ndarray, layers: tuple[Layer, ...] | None = None, limits: tuple[Limit, ...] = ()
) -> CostTable:
    layers = layers or linears(len(latency))
    proxies = proxy_table(layers)
    padded = np.full((len(layers), 9, 9), np.nan)
    padded[:, :8, :8] = latency
    return CostTable(
        hardware="desk",
        layers=layers,
        batch=1,
        cycles=None,
        latency_s=padded,
        energy_parts_j={},
        weight_bytes=proxies.weight_bytes,
        bops=proxies.bops,
        limits=limits,
    )


def env_of(
    latency: np.ndarray,
    limit: float,
    *,
    rule: BudgetRule = "cost-aware",
    observation: ObservationKind = "haq",
    allowed: AllowedBits = FREE,
) -> BitAllocationEnv:
    table = latency_table(latency)
    config = EnvConfig(observation=observation, rule=rule)
    return BitAllocationEnv(
        table.layers, table, Budget("latency", limit), lambda bits: bits.sum() / 100, allowed=allowed, config=config
    )


def play(env: BitAllocationEnv, actions: list[float]) -> tuple[dict, list[np.ndarray]]:
    """Run one episode with repeated actions; returns the last info and the observations."""
    seen = [env.reset()[0]]
    for step in range(env.episode_length):
        observation, reward, terminated, truncated, info = env.step(np.array([actions[step % len(actions)]]))
        assert terminated == (step == env.episode_length - 1)
        assert not truncated
        assert terminated or (reward == 0 and info == {})
        seen.append(observation)
    return info, seen


@pytest.mark.parametrize("observation", OBSERVATION_KINDS)
@pytest.mark.parametrize("rule", BUDGET_RULES)
@pytest.mark.filterwarnings("error")
def test_check_env(rule: BudgetRule, observation: ObservationKind) -> None:
    env = env_of(np.stack([PAIRS] * 4), 150, rule=rule, observation=observation, allowed=AllowedBits())
    check_env(env, skip_render_check=True)


@pytest.mark.parametrize("observation", OBSERVATION_KINDS)
@pytest.mark.parametrize("rule", BUDGET_RULES)
@pytest.mark.filterwarnings("error")
def test_check_env_for_size_objective(rule: BudgetRule, observation: ObservationKind) -> None:
    layers = linears(4)
    env = BitAllocationEnv(
        layers,
        proxy_table(layers),
        Budget("size", 50.0),
        lambda _: 0.5,
        allowed=AllowedBits(a_bits=8),
        config=EnvConfig(observation, rule),
    )
    check_env(env, skip_render_check=True)
    assert env.episode_length == 4


def test_episode_has_two_steps_per_layer_and_then_needs_reset() -> None:
    env = env_of(np.stack([PAIRS] * 3), 1000)
    assert env.episode_length == 6
    play(env, [0.5])
    with pytest.raises(ResetNeeded):
        env.step(np.array([0.5]))
    assert play(env, [0.5])[0]["bits"].tolist() == play(env, [0.5])[0]["bits"].tolist()


@pytest.mark.parametrize("action", [-0.01, 1.01, float("nan")])
def test_action_outside_unit_interval_raises(action: float) -> None:
    env = env_of(np.stack([PAIRS]), 1000)
    env.reset()
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        env.step(np.array([action]))


def test_only_last_step_has_reward_of_final_policy() -> None:
    table = latency_table(np.stack([PAIRS] * 2))
    evaluated: list[list[list[int]]] = []

    def evaluate(bits: np.ndarray) -> float:
        evaluated.append(bits.tolist())
        return 0.6

    env = BitAllocationEnv(
        table.layers, table, Budget("latency", 128), evaluate, reward=accuracy_reward(0.7), allowed=FREE
    )
    env.reset()
    rewards = [env.step(np.array([1.0]))[1] for _ in range(4)]
    assert rewards == pytest.approx([0, 0, 0, -1.0])
    assert evaluated == [[[8, 8], [8, 8]]]


def test_table_of_other_layers_raises() -> None:
    with pytest.raises(ValueError, match="other layers"):
        BitAllocationEnv(linears(2), latency_table(np.stack([PAIRS] * 3)), Budget("latency", 9), lambda _: 0.5)


@pytest.mark.parametrize("rule", BUDGET_RULES)
def test_infeasible_budget_raises_before_any_evaluation(rule: BudgetRule) -> None:
    def evaluate(_: np.ndarray) -> float:
        raise AssertionError("nothing is to be evaluated")

    table = latency_table(np.stack([PAIRS] * 3))
    # Pinned ends cost 64 each, the middle layer at least 4.
    with pytest.raises(BudgetError, match=r"latency budget of 131.*cost 132") as caught:
        BitAllocationEnv(table.layers, table, Budget("latency", 131), evaluate, config=EnvConfig(rule=rule))
    assert "\n" not in str(caught.value)
    BitAllocationEnv(table.layers, table, Budget("latency", 132), evaluate, config=EnvConfig(rule=rule))


@pytest.mark.parametrize("rule", BUDGET_RULES)
def test_baseline_budget_allows_8_bits_everywhere(rule: BudgetRule) -> None:
    """Also if the sums over layers and over decisions are rounded differently."""
    latency = np.stack([PAIRS * factor for factor in (0.1, 0.7, 0.3, 1.1, 0.13, 0.17, 0.19, 0.23, 0.29, 0.31, 0.37)])
    table = latency_table(latency)
    for objective in ("latency", "size"):
        limit = table.policy_cost([8] * 11, [8] * 11).of(objective)
        assert limit is not None
        env = BitAllocationEnv(
            table.layers, table, Budget(objective, limit), lambda _: 0.5, allowed=FREE, config=EnvConfig(rule=rule)
        )
        info, _ = play(env, [1.0])
        assert (info["bits"] == 8).all()
        assert info["fits"]


def random_costs(seed: int, *, count: int, shape: str) -> np.ndarray:
    """Latency [count, 8, 8] that grows with all bits, with none, or with the activations' alone."""
    rng = np.random.default_rng(seed)
    cost = rng.integers(0, 9, (count, 8, 8)).astype(float)
    if shape == "monotone":
        return cost.cumsum(axis=1).cumsum(axis=2) * rng.choice([0.1, 1.0, 3.0])
    return cost if shape == "wild" else np.repeat(cost[:, :1].cumsum(axis=2) + 1, 8, axis=1)


episodes = {
    "seed": st.integers(0, 2**32 - 1),
    "count": st.integers(1, 4),
    "shape": st.sampled_from(["monotone", "wild", "memory"]),
    "ratio": st.floats(0.02, 1),
    "actions": st.lists(st.floats(0, 1), min_size=1, max_size=8),
}


def env_or_none(latency: np.ndarray, ratio: float, **arguments: object) -> BitAllocationEnv | None:
    try:
        return env_of(latency, max(1e-3, ratio * latency[:, 7, 7].sum()), **arguments)  # type: ignore[arg-type]
    except BudgetError:
        return None


@given(**episodes)
@settings(max_examples=150, deadline=None)
def test_cost_aware_policies_fit_and_allow_no_further_upgrade(
    seed: int, count: int, shape: str, ratio: float, actions: list[float]
) -> None:
    env = env_or_none(random_costs(seed, count=count, shape=shape), ratio)
    if env is None:
        return
    info, _ = play(env, actions)
    bits, choice = info["bits"], env.choices
    assert info["fits"]
    assert choice.fits(bits)
    for decision, (w_bits, a_bits) in enumerate(bits):
        assert choice.allowed[decision, w_bits - 1, a_bits - 1]
        for w, a in np.argwhere(choice.allowed[decision]) + 1:
            step = bits.copy()
            step[decision] = w, a
            has_more = w >= w_bits and a >= a_bits and w + a > w_bits + a_bits
            assert not (has_more and choice.fits(step))


@given(**episodes)
@settings(max_examples=80, deadline=None)
def test_free_weight_bits_of_memory_bound_layers_are_used(
    seed: int, count: int, shape: str, ratio: float, actions: list[float]
) -> None:
    del shape
    env = env_or_none(random_costs(seed, count=count, shape="memory"), ratio)
    if env is not None:
        assert (play(env, actions)[0]["bits"][:, 0] == 8).all()


@given(**episodes, rule=st.sampled_from(BUDGET_RULES), pin=st.tuples(st.integers(1, 8), st.integers(1, 8)))
@settings(max_examples=80, deadline=None)
def test_pinned_layers_keep_their_bits_for_any_action(
    seed: int, count: int, shape: str, ratio: float, actions: list[float], rule: BudgetRule, pin: tuple[int, int]
) -> None:
    allowed = AllowedBits(min_bits=3, max_bits=6, pinned={"l0": pin})
    env = env_or_none(random_costs(seed, count=count, shape=shape), ratio, rule=rule, allowed=allowed)
    if env is None:
        return
    bits = play(env, actions)[0]["bits"]
    assert tuple(bits[0]) == pin
    assert ((bits[1:] >= 3) & (bits[1:] <= 6)).all()


@given(**episodes, rule=st.sampled_from(BUDGET_RULES), observation=st.sampled_from(OBSERVATION_KINDS))
@settings(max_examples=80, deadline=None)
def test_executed_steps_lead_to_final_policy(
    seed: int,
    count: int,
    shape: str,
    ratio: float,
    actions: list[float],
    rule: BudgetRule,
    observation: ObservationKind,
) -> None:
    env = env_or_none(random_costs(seed, count=count, shape=shape), ratio, rule=rule, observation=observation)
    if env is None:
        return
    info, seen = play(env, actions)
    executed = info["executed"]
    assert [step.bits for step in executed] == info["bits"].ravel().tolist()
    decoded = bits_of_actions([step.action for step in executed], min_bits=2, max_bits=8)
    assert decoded.tolist() == [step.bits for step in executed]
    previous = [1.0] + [step.action for step in executed[:-1]]
    assert [step.observation[9] for step in executed] == pytest.approx(previous)
    # Features of the layers do not depend on actions, and observations stay in the space.
    for step, live in zip(executed, seen, strict=False):
        np.testing.assert_array_equal(step.observation[:9], live[:9])
        assert env.observation_space.contains(step.observation)
        assert env.observation_space.contains(live)
    # Repeating the executed actions leads to the same policy and the same observations.
    again, seen_again = play(env, [step.action for step in executed])
    np.testing.assert_array_equal(again["bits"], info["bits"])
    for step, live in zip(executed, seen_again, strict=False):
        np.testing.assert_allclose(step.observation, live, rtol=1e-6)


def test_impossible_action_is_observed_as_executed() -> None:
    env = env_of(np.stack([PAIRS] * 3), 2 * 64 + 20, allowed=AllowedBits())
    env.reset()
    after_pinned, *_ = env.step(np.array([0.0]))
    assert after_pinned[9] == pytest.approx(6.5 / 7)  # 8 bits, though the action stands for 2
    for action in (0.5, 1.0):
        observation, *_ = env.step(np.array([action]))
    after_middle, *_ = env.step(np.array([1.0]))
    # 20 are left for the middle layer: 8 weight bits allow 2 activation bits.
    assert after_middle[9] == pytest.approx(0.5 / 7)
    assert observation[9] == 1.0


def test_only_cost_aware_rule_drops_dominated_pairs() -> None:
    by_activations = np.broadcast_to(np.arange(1, 9.0), (1, 8, 8))
    assert env_of(by_activations, 100).choices.allowed.sum() == 7
    assert env_of(by_activations, 100, rule="haq").choices.allowed.sum() == 49
    # The executed width is 8 bits, not the 2 of the action, which were raised.
    env = env_of(by_activations, 100)
    env.reset()
    assert env.step(np.array([0.0]))[0][9] == pytest.approx(6.5 / 7)


def test_steps_keep_enough_budget_for_remaining_layers() -> None:
    # At least 4 + 4; the first layer can use everything else.
    info, _ = play(env_of(np.stack([PAIRS] * 2), 24), [1.0])
    assert info["bits"].tolist() == [[8, 2], [4, 2]]


def test_haq_rule_lowers_in_sequence_after_the_last_step() -> None:
    # 8 x 8 twice is 128; last a: 120, last w: 113, first a: 105, first w: 98, last a: 91.
    info, _ = play(env_of(np.stack([PAIRS] * 2), 91, rule="haq"), [1.0])
    assert info["bits"].tolist() == [[7, 7], [7, 6]]
    assert [step.bits for step in info["executed"]] == [7, 7, 7, 6]


def test_haq_rule_reports_policies_over_budget() -> None:
    falling = 100 - PAIRS[None]
    info, _ = play(env_of(falling, 40, rule="haq"), [0.5])
    assert not info["fits"]
    assert play(env_of(falling, 40), [0.5])[0]["fits"]


def test_tied_layers_are_visited_once_and_share_their_bits() -> None:
    a, b = linears(2)
    layers = (a, b, Layer(name="l0:2", kind="linear", c_in=4, c_out=3, tied_to="l0"))
    table = latency_table(np.stack([PAIRS] * 3), layers)
    env = BitAllocationEnv(layers, table, Budget("latency", 16 + 16 + 36), lambda _: 0.5, allowed=FREE)
    assert env.episode_length == 4
    info, _ = play(env, [2.5 / 7, 2.5 / 7, 4.5 / 7, 4.5 / 7])
    assert info["bits"].tolist() == [[4, 4], [6, 6], [4, 4]]


def test_several_limits_are_respected() -> None:
    layers = linears(3)
    ram = Limit("RAM", "B", 40.0, np.broadcast_to(np.arange(1, 10.0)[None, None], (3, 9, 9)) * 2)
    table = latency_table(np.stack([PAIRS] * 3), layers, (ram,))
    budgets = [Budget("latency", 100), Budget("size", 25)]
    for actions in ([1.0], [0.0], [0.3, 0.9]):
        env = BitAllocationEnv(layers, table, budgets, lambda _: 0.5, allowed=FREE)
        bits = play(env, actions)[0]["bits"]
        cost = table.policy_cost(*bits.T.tolist())
        assert cost.latency_s is not None
        assert cost.latency_s <= 100
        assert cost.weight_bytes <= 25
        assert 2 * bits[:, 1].sum() <= 40


def test_episode_on_simulated_device_ends_close_below_budget() -> None:
    device = BitSerial(
        name="tiny",
        description="64 binary MACs",
        array_size=2,
        dot_bits=16,
        port_bits=16,
        buffer_words=64,
        clock_hz=1e6,
    )
    layers = (
        Layer(name="a", kind="conv", c_in=3, c_out=8, kernel=(3, 3), input_size=(8, 8), output_size=(8, 8)),
        Layer(name="b", kind="depthwise", c_in=8, c_out=8, groups=8, input_size=(8, 8), output_size=(8, 8)),
        Layer(name="c", kind="conv", c_in=8, c_out=8, input_size=(8, 8), output_size=(8, 8)),
        Layer(name="d", kind="linear", c_in=8, c_out=4),
    )
    table = device.table(layers)
    baseline = table.policy_cost([8] * 4, [8] * 4).latency_s
    assert baseline is not None
    for actions in ([0.0], [0.5], [1.0]):
        env = BitAllocationEnv(layers, table, Budget("latency", 0.7 * baseline), lambda _: 0.5)
        bits = play(env, actions)[0]["bits"]
        cost = table.policy_cost(*bits.T.tolist()).latency_s
        assert cost is not None
        assert cost <= 0.7 * baseline
        assert bits[[0, 3]].tolist() == [[8, 8], [8, 8]]
        assert bits[1:3].sum() > 8, "what the first actions left is given back"
