"""What long journals and many devices take: reading, resuming, plotting and explaining a run, and pricing policies."""

import json
import tempfile
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from growth_search import SEED, StubEvaluator, enter, peak_mebibytes, resume, session_of

from haq.costs.pricing import cost_in
from haq.costs.specialization import Candidate, PricedNetwork, specialization
from haq.execution.progress import SILENT
from haq.experiment.results import save_source
from haq.layer_bits import uniform_bits
from haq.reporting.explanation.explain import explain
from haq.reporting.plots.run import plot_run
from haq.runs.episode import Episode
from haq.runs.run_folder import RunFolder
from haq.searching.checkpoint import Checkpoint
from haq.searching.finish import finish
from haq.searching.session import Session
from hardware_sim.catalog import load_accelerator

DEVICES = ("bismo-edge", "bismo-cloud", "bitfusion-edge", "bitfusion-cloud", "gpu-t4", "gpu-orin", "systolic-tpu")


def measure_journal(layers: int, lines: int) -> dict[str, Any]:
    """Measure the work on a run with so many episodes."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        session = session_of("random", layers, lines + 1)
        enter(session, run)
        _write_journal(session, RunFolder(run), lines)
        again = session_of("random", layers, lines + 1)
        found = {"layers": layers, "lines": lines, **resume(again, run)}
        config, trace = again.problem.config, again.problem.priced.trace
        save_source(RunFolder(run), config, trace, again.problem.task.example())
        found["journal_bytes"] = (run / "episodes.jsonl").stat().st_size
        steps: dict[str, Callable[[], object]] = {
            "reading": lambda: RunFolder(run).episodes.read(remedy="delete it"),
            "finishing": lambda: finish(again, RunFolder(run), losses=None, watcher=SILENT),
            "plotting": lambda: plot_run(run, kinds=["learning"]),
            "explaining": lambda: explain(run),
        }
        for name, step in steps.items():
            before, began = peak_mebibytes(), process_time()
            step()
            found |= {f"{name}_s": process_time() - began, f"{name}_mebibytes": peak_mebibytes() - before}
    return found


def _write_journal(session: Session, run: RunFolder, lines: int) -> None:
    """Write the journal and the checkpoint of a search that tried random policies."""
    choice, stub, generator = session.problem.choice, StubEvaluator(len(session.problem.priced.layers)), np.random
    pairs = [np.argwhere(each) + 1 for each in choice.allowed]
    pairs = [each[(each <= 4).all(axis=1)] if (each <= 4).all(axis=1).any() else each for each in pairs]
    drawn = generator.default_rng(SEED)
    with run.episodes.path.open("w", encoding="utf-8") as file:
        for number in range(lines):
            bits = choice.expand(np.stack([each[drawn.integers(len(each))] for each in pairs]))
            w_bits, a_bits = bits[:, 0].tolist(), bits[:, 1].tolist()
            found = stub(w_bits, a_bits)
            episode = Episode(
                episode=number,
                w_bits=w_bits,
                a_bits=a_bits,
                cost=cost_in(
                    session.problem.config.objective, session.problem.priced.table.policy_cost(w_bits, a_bits)
                ),
                accuracy=found.accuracy,
                divergence=found.divergence,
                noise=found.noise,
                reward=session._objective.accuracy_reward(found.accuracy),
                score=-found.noise,
                actor_loss=None,
                critic_loss=None,
                seconds=0.001,
            )
            file.write(json.dumps(episode.model_dump(mode="json")) + "\n")
    checkpoint = Checkpoint(
        run=session._identity,
        episode=lines,
        seconds=1.0,
        evaluations=lines,
        forward_images=lines,
        agent=session._method.state_dict(),
    )
    run.save_checkpoint(dict(checkpoint))


def measure_devices(layers: int) -> list[dict[str, Any]]:
    """Price one policy and ten policies on more and more devices."""
    network = session_of("random", layers, 1).problem.priced
    priced, found = PricedNetwork(model="chain", layers=network.layers), []
    bits = uniform_bits(network.layers, w_bits=4, a_bits=4)
    for policies in (1, 10):
        for count in (1, 2, 4, 8, 16, 32):
            devices = [load_accelerator(name) for name in islice(cycle(DEVICES), count)]
            began = process_time()
            specialization(priced, [Candidate(str(number), bits) for number in range(policies)], devices)
            seconds = process_time() - began
            found.append({"layers": layers, "policies": policies, "devices": count, "seconds": seconds})
    return found
