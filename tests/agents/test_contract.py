"""Contract tests of `Agent`; a new agent is one line in AGENTS."""

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from agents import DDPG, Agent, DDPGConfig, RandomSearch, Transition

SIZE = 4
STEPS = 5
SMALL = {"hidden": (8, 8), "warmup_episodes": 2, "batch_size": 16, "replay_episodes": 3}
AGENTS: dict[str, Callable[[int], Agent]] = {
    "random": RandomSearch,
    "ddpg": lambda seed: DDPG(SIZE, config=DDPGConfig(**SMALL), seed=seed),
    "ddpg-paper": lambda seed: DDPG(SIZE, config=replace(DDPGConfig.paper(), **SMALL), seed=seed),
}
Event = Callable[[Agent], object]


@pytest.fixture(params=AGENTS.values(), ids=AGENTS.keys())
def make(request: pytest.FixtureRequest) -> Callable[[int], Agent]:
    return request.param


def observation(step: int) -> np.ndarray:
    return np.array([step / STEPS, (step % 2), 0.5, 1.0], dtype=np.float32)


def episode_events(episode: int) -> list[Event]:
    """One episode as a list of calls; the executed actions differ from the proposed ones."""
    executed = [((episode + 1) * (step + 2) % 7) / 7 for step in range(STEPS)]
    events: list[Event] = [lambda agent, step=step: agent.act(observation(step)) for step in range(STEPS)]
    for step, action in enumerate(executed):
        last = step == STEPS - 1
        reward = -sum(executed) if last else 0.0
        transition = Transition(observation(step), action, reward, observation(step + 1), last)
        events.append(lambda agent, transition=transition: agent.observe(transition))
    return [*events, lambda agent: dict(agent.end_episode())]


EVENTS = [event for episode in range(6) for event in episode_events(episode)]


def play(agent: Agent, events: list[Event] = EVENTS) -> list[object]:
    return [event(agent) for event in events]


def actions(answers: list[object]) -> list[float]:
    return [answer for answer in answers if isinstance(answer, float)]


def through_a_file(state: dict) -> dict:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_implements_agent_protocol(make):
    assert isinstance(make(0), Agent)


def test_actions_are_in_unit_interval(make):
    answers = actions(play(make(0)))
    assert len(answers) == 6 * STEPS
    assert all(0 <= answer <= 1 for answer in answers)


def test_losses_are_finite(make):
    for losses in (answer for answer in play(make(0)) if isinstance(answer, dict)):
        assert all(isinstance(name, str) and np.isfinite(value) for name, value in losses.items())


def test_equal_seeds_give_equal_actions(make):
    assert play(make(3)) == play(make(3))


def test_global_generator_is_not_used(make):
    first = play(make(3))
    torch.manual_seed(12345)
    before = torch.get_rng_state()
    assert play(make(3)) == first
    assert torch.equal(torch.get_rng_state(), before)


def test_different_seeds_give_different_actions(make):
    assert actions(play(make(0))) != actions(play(make(1)))


@pytest.mark.parametrize("stop", range(len(EVENTS)))
def test_restored_agent_continues_identically(make, stop):
    agent, restored = make(0), make(99)
    play(agent, EVENTS[:stop])
    restored.load_state_dict(through_a_file(agent.state_dict()))
    assert play(agent, EVENTS[stop:]) == play(restored, EVENTS[stop:])


def test_state_dict_is_independent_of_later_changes(make):
    """Neither later learning nor another agent with this state changes it."""
    agent, other = make(0), make(1)
    play(agent, EVENTS[:40])
    state = agent.state_dict()
    saved = through_a_file(state)
    other.load_state_dict(state)
    assert play(agent, EVENTS[40:]) == play(other, EVENTS[40:])
    fresh = make(2)
    fresh.load_state_dict(state)
    original = make(3)
    original.load_state_dict(saved)
    assert play(fresh, EVENTS[40:]) == play(original, EVENTS[40:])
