"""Kill every long command at random moments (SIGKILL), continue it, and compare the results with an undisturbed run.

Commands run in children of this process, which have imported everything; the searches of `haq compare` run in one
process. Each command is run twice undisturbed, which also shows that it is deterministic. Then it is started, killed at
a random moment and continued until enough kills hit it, with at most `--kills-of-a-run` in one folder, after which that
run is finished and compared. Prints a Markdown table:

    python scripts/experiments/kill_runs.py --kills 104
"""

import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from traceback import print_exc
from typing import Annotated

import onnxscript  # noqa: F401  imported once here, and not in every child
import pandas as pd  # noqa: F401
import typer
from killed_commands import COMMANDS, FILES, TINY, Command
from run_contents import contents, episodes

import haq.costs.layer_graph
import haq.exporters.onnx.exporter
import haq.exporters.onnx.runtime
import haq.reconstruction.checkpoint
import haq.reporting.plots.comparison
import haq.searching.session
import haq.studies.comparison.compare
import haq.studies.comparison.tables
from haq.__main__ import main as haq_main
from haq.cli.app import app
from haq.cli.flags import read_several
from haq.execution.executors import InProcess
from haq.runs.environment import describe_environment
from haq.runs.run_folder import CONFIG

CHECKPOINT_SECONDS = 0.2
"""Time between checkpoints in these short runs, 10 seconds by default."""


@dataclass
class Outcome:
    """What became of the runs of a command."""

    seconds: float = 0.0
    kills: int = 0
    kills_in_progress: int = 0
    runs: int = 0
    lost: int = 0
    duplicated: int = 0
    differing: list[str] = field(default_factory=list)
    litter: set[str] = field(default_factory=set)


def start(arguments: list[str], log: Path, prepare: Callable[[], None] = lambda: None) -> int:
    """Run a command in a child of this process, which has imported everything; return its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        haq.searching.session.CHECKPOINT_SECONDS = CHECKPOINT_SECONDS
        haq.reconstruction.checkpoint.CHECKPOINT_SECONDS = CHECKPOINT_SECONDS
        haq.studies.comparison.compare.Processes = lambda _: InProcess()  # type: ignore[assignment,attr-defined,return-value]
        prepare()
        code = haq_main(arguments)
    except BaseException:  # noqa: BLE001  the child must never return into the parent's code
        print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def finish(child: int, log: Path) -> None:
    """Wait for a command. Raises SystemExit with its output if it failed."""
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit(f"a command failed with {os.waitstatus_to_exitcode(status)}:\n{log.read_text(encoding='utf-8')}")


def killed(child: int, seconds: float, log: Path) -> bool:
    """Kill a command after some seconds; return False if it was finished before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            if status:
                sys.exit(f"a command failed with status {status}:\n{log.read_text(encoding='utf-8')}")
            return False
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def new_folder(parent: Path, command: Command, name: str) -> Path:
    """Return a folder for a run; commands that write a file need it to be there."""
    folder = parent / f"{command.name}-{name}"
    if command.name in FILES:
        folder.mkdir()
    return folder


def has_rows(table: Path) -> bool:
    """Return whether a table has a row below the names of its columns."""
    return table.read_bytes().count(b"\n") > 1


def compare(folder: Path, expected: Path, outcome: Outcome) -> None:
    """Compare the result of a disturbed run with that of an undisturbed one."""
    found, wanted = contents(folder), contents(expected)
    left = {name for name in found.keys() - wanted.keys() if ".haq" in name}
    outcome.litter |= left
    names = sorted((found.keys() | wanted.keys()) - left)
    outcome.differing += [f"{folder.name}/{name}" for name in names if found.get(name) != wanted.get(name)]
    lines, before = Counter(episodes(folder)), Counter(episodes(expected))
    outcome.lost += (before - lines).total()
    outcome.duplicated += (lines - before).total()
    outcome.runs += 1


def disturb(
    command: Command, parent: Path, run: Path, *, kills: int, kills_of_a_run: int, generator: random.Random
) -> Outcome:
    """Kill a command so many times, and compare every run of it with an undisturbed one."""
    outcome, log, expected = Outcome(), parent / f"{command.name}.log", new_folder(parent, command, "whole")
    for folder in (expected, new_folder(parent, command, "again")):
        began = time.monotonic()
        finish(start(command.arguments(folder, run), log), log)
        outcome.seconds = time.monotonic() - began
    compare(folder, expected, outcome)
    while outcome.kills < kills:
        folder, is_finished = new_folder(parent, command, str(outcome.runs)), False
        for number in range(min(kills_of_a_run, kills - outcome.kills)):
            began = time.monotonic()
            child = start(command.arguments(folder, run), log)
            if not killed(child, generator.uniform(0, outcome.seconds), log):
                is_finished = True
                if number == 0:  # the machine is faster than it was
                    outcome.seconds = time.monotonic() - began
                break
            outcome.kills += 1
            print(f"{command.name}: {outcome.kills} kills", file=sys.stderr, flush=True)
            outcome.kills_in_progress += any(folder.rglob(CONFIG)) or any(map(has_rows, folder.rglob("*.csv")))
        if not is_finished:
            began = time.monotonic()
            finish(start(command.arguments(folder, run), log), log)
            outcome.seconds = max(outcome.seconds, time.monotonic() - began)
        compare(folder, expected, outcome)
    return outcome


def suspend(command: Command, parent: Path, run: Path, *, pauses: int, generator: random.Random) -> Outcome:
    """Suspend a command several times for a second (SIGSTOP, SIGCONT), and compare it with an undisturbed run."""
    outcome, log, folder = Outcome(), parent / f"{command.name}.log", new_folder(parent, command, "suspended")
    child = start(command.arguments(folder, run), log)
    for _ in range(pauses):
        time.sleep(generator.uniform(0.2, 0.8))
        os.kill(child, signal.SIGSTOP)
        time.sleep(1)
        os.kill(child, signal.SIGCONT)
    finish(child, log)
    compare(folder, parent / f"{command.name}-whole", outcome)
    return outcome


def fill_disk(command: Command, parent: Path, run: Path, *, sizes: tuple[int, ...]) -> tuple[Outcome, list[str]]:
    """Continue a command with larger and larger files allowed, as on a full disk of which more and more becomes free.

    Returns the outcome, and the last lines with which the command ended where it could not write.
    """
    outcome, folder, said = Outcome(), new_folder(parent, command, "full"), []
    for number, size in enumerate(sizes):
        log = parent / f"{command.name}-full-{number}.log"

        def limit(size_bytes: int = size) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))

        child = start(command.arguments(folder, run), log, limit)
        _, status = os.waitpid(child, 0)
        text = log.read_text(encoding="utf-8").strip()
        assert "Traceback" not in text, text
        said.append(f"exit {os.waitstatus_to_exitcode(status)}: {text.splitlines()[-1] if text else ''}")
    log = parent / f"{command.name}-full.log"
    finish(start(command.arguments(folder, run), log), log)
    compare(folder, parent / f"{command.name}-whole", outcome)
    return outcome, said


def main(
    *,
    kills: Annotated[int, typer.Option(help="Kills over all commands.")] = 104,
    kills_of_a_run: Annotated[int, typer.Option(help="Kills before a run is left alone.")] = 4,
    commands: Annotated[str, typer.Option(help="Commands.")] = ",".join(map(attrgetter("name"), COMMANDS)),
    seed: Annotated[int, typer.Option(help="Seed of the moments.")] = 0,
    only_kills: Annotated[bool, typer.Option("--only-kills", help="Suspend no search, and fill no disk.")] = False,
) -> None:
    """Kill, continue, compare and print. Exits with 1 if a result differs."""
    dict(typer.main.get_group(app).commands)  # imports every command here, and not in every child
    chosen = [each for each in COMMANDS if each.name in read_several(commands)]
    generator, total = random.Random(seed), Outcome()
    print("| command | seconds undisturbed | kills | of these after the preparation | runs compared | lost lines "
          "| duplicated lines | differing files |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    with TemporaryDirectory() as name:
        parent, run = Path(name), Path(name) / "run"
        log = parent / "run.log"
        finish(start(["search", *TINY, "--quiet", "--budget", "0.8", "--episodes", "5", "--out", str(run)], log), log)
        for number, command in enumerate(chosen):
            share = kills * (number + 1) // len(chosen) - kills * number // len(chosen)
            found = disturb(command, parent, run, kills=share, kills_of_a_run=kills_of_a_run, generator=generator)
            print(f"| {command.name} | {found.seconds:.1f} | {found.kills} | {found.kills_in_progress} | {found.runs} "
                  f"| {found.lost} | {found.duplicated} | {', '.join(found.differing) or 0} |", flush=True)  # fmt: skip
            add(total, found)
        print(f"| all | | {total.kills} | {total.kills_in_progress} | {total.runs} | {total.lost} "
              f"| {total.duplicated} | {len(total.differing)} |\n")  # fmt: skip
        if not only_kills:
            found = suspend(COMMANDS[0], parent, run, pauses=4, generator=generator)
            print(f"Search suspended 4 times for a second: differing files: {', '.join(found.differing) or 0}.\n")
            add(total, found)
            found, said = fill_disk(COMMANDS[0], parent, run, sizes=(500, 3000, 8000, 20000))
            print("Search on a disk that is full four times:\n", *(f"    {line}" for line in said), sep="\n")
            print(f"\nDiffering files after it went on: {', '.join(found.differing) or 0}.\n")
            add(total, found)
    print(f"Unfinished files that were left behind: {', '.join(sorted(total.litter)) or 'none'}.\n")
    environment = describe_environment(seed=seed, device="cpu")
    versions = ", ".join(f"{package} {version}" for package, version in environment["packages"].items() if version)
    print(f"Made with `python scripts/experiments/{' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}`, one thread, "
          f"checkpoints every {CHECKPOINT_SECONDS} s; commit {environment['commit']}, {versions}.")  # fmt: skip
    if total.lost or total.duplicated or total.differing or total.litter:
        sys.exit(1)


def add(total: Outcome, found: Outcome) -> None:
    """Add an outcome to a sum."""
    total.kills += found.kills
    total.kills_in_progress += found.kills_in_progress
    total.runs += found.runs
    total.lost += found.lost
    total.duplicated += found.duplicated
    total.differing += found.differing
    total.litter |= found.litter


if __name__ == "__main__":
    typer.run(main)
