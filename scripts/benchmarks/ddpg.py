"""Measure how fast DDPG learns: updates per CPU-second on one thread, by size of the networks.

One update is one batch of 64 for critic, actor and target networks. Prints Markdown.

    python scripts/benchmarks/ddpg.py
"""

import argparse
import time
from dataclasses import replace

import numpy as np
import torch

from agents import DDPG, DDPGConfig, Transition

OBSERVATION_SIZE = 10
STEPS = 40
EPISODES = 10
SETTINGS = {"default": DDPGConfig(warmup_episodes=1), "paper": replace(DDPGConfig.paper(), warmup_episodes=1)}
SIZES = ((64, 64), (300, 300))


def updates_per_cpu_second(config: DDPGConfig) -> float:
    """Return the updates per CPU-second over whole episodes of learning, bookkeeping included."""
    agent, random = DDPG(OBSERVATION_SIZE, config=config), np.random.default_rng(0)
    seconds = 0.0
    for _ in range(EPISODES):
        observations = random.random((STEPS + 1, OBSERVATION_SIZE), dtype=np.float32)
        for step in range(STEPS):
            last = step == STEPS - 1
            reward = random.random() if last else 0.0
            agent.observe(Transition(observations[step], random.random(), reward, observations[step + 1], last))
        start = time.process_time()
        agent.end_episode()
        seconds += time.process_time() - start
    return EPISODES * STEPS * config.updates_per_step / seconds


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    print("| settings | hidden | updates per CPU-second |\n|---|---|---|")
    for name, config in SETTINGS.items():
        for hidden in SIZES:
            rate = updates_per_cpu_second(replace(config, hidden=hidden))
            print(f"| {name} | {hidden[0]}-{hidden[1]} | {rate:.0f} |")


if __name__ == "__main__":
    main()
