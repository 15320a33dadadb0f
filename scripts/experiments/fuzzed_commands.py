"""Command lines made of the bytes that atheris changes: a command, some of its flags, and sound or unsound values.

They run in this process, in a folder with the files that values name. A command may only exit with 0, under `--json`
with one JSON document, or with 2 and one line; whatever else it does is a failure.
"""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from random import Random
from typing import Any

from fuzzed_formats import COSTS, RUN, TABLE, Format
from killed_commands import TINY

ROOT = Path(__file__).parents[2]
SEEDS, SEED_BYTES = 200, 64
QUICK = ("layers", "simulate", "explain", "hardware list", "hardware show", "hardware validate", "hardware targets",
         "policy show", "policy diff", "policy schema", "policy import")  # fmt: skip
LONG = ("search", "train", "evaluate", "sensitivity", "finetune", "reconstruct", "export", "verify", "plot", "compare",
        "pareto", "hardware measure")  # fmt: skip
COUNTS = {"--episodes", "--epochs", "--steps", "--repeats", "--more-episodes", "--seeds", "--at", "--workers",
          "--cluster", "--images", "--proposals", "--episode-finetune-steps", "--episode-finetune", "--time", "--ema",
          "--threads", "--agents", "--devices", "--objectives", "--objective", "--budgets"}  # fmt: skip
"""Flags of which large values are sound and take long, or start processes; these get unsound ones only."""
SMALL = {"--model": TINY[1], "--data": TINY[3], "--engine": "torch", "--episodes": "2", "--epochs": "1", "--steps": "1",
         "--repeats": "3", "--agents": "random", "--at": "2", "--seeds": "1", "--images": "8",
         "--out": "out"}  # fmt: skip
"""Values with which a command ends within seconds; each command gets those of its flags."""
UNSOUND = ("", " ", "-1", "0", "x", "nan", "inf", "1e400", "-0.5", "1.5.2", "9" * 30, "\u00e9\u2028\x1b[31m", "a\nb",
           "--", "=", "None", "a:b", "a:b:c", "..", "missing.json", "x" * 5000, "[", "%s", "{}", "\ud800", "1,,2",
           "digits?x=1", "text:missing", "coco:.", "imagefolder:policy.json", "torchvision:nothing", "darknet:bits.csv",
           "os:getcwd", "tiny_task:data", "tiny_task:nothing")  # fmt: skip
SOUND = ("1", "2", "8", "0.5", "0.9", "free", "auto", "tiny_task:network", "policy.json", "bits.csv", "costs.csv",
         "device.toml", "run", "bismo-edge", "bitfusion-edge", "imx500", "latency", "size=1kB", "0=4", "3=8", "random",
         "greedy", "uniform", "kmeans", "linear", "max", "mse", "none", "half", "1x6x6", "train", "1kB", "float",
         "onnx", "packed", "csv", "roofline", "policy")  # fmt: skip


@dataclass(frozen=True)
class Form:
    """What a command takes: options with and without a value, and the number of its arguments."""

    options: tuple[str, ...]
    switches: tuple[str, ...]
    arguments: int


def command_formats() -> dict[str, Format]:
    """Return the formats: commands that end at once, and those that evaluate or train."""
    return {
        "command lines": Format(_seeds, lambda path: run(QUICK, path), "quick"),
        "command lines of long commands": Format(_seeds, lambda path: run(LONG, path), "long"),
    }


@cache
def forms() -> dict[str, Form]:
    """Return the forms of all commands by their words."""
    import typer

    from haq.cli.app import app

    found: dict[str, Form] = {}

    def visit(command: Any, words: tuple[str, ...]) -> None:
        options = [each for each in command.params if each.param_type_name == "option"]
        found[" ".join(words)] = Form(
            tuple(each.opts[0] for each in options if not each.is_flag),
            tuple(flag for each in options if each.is_flag for flag in (*each.opts, *each.secondary_opts)),
            len(command.params) - len(options),
        )
        for name, inner in getattr(command, "commands", {}).items():
            visit(inner, (*words, name))

    visit(typer.main.get_command(app), ())
    return found


def command_line(commands: Sequence[str], content: bytes) -> tuple[list[str], bool]:
    """Make a command line of bytes; also return whether it asks for JSON."""
    import atheris

    source = atheris.FuzzedDataProvider(content)
    command = commands[source.ConsumeIntInRange(0, len(commands) - 1)]
    form = forms()[command]
    words = [*command.split()]
    words += [_value(source, "") for _ in range(source.ConsumeIntInRange(0, form.arguments + 1))]
    for flag, value in SMALL.items():
        if flag in form.options and source.ConsumeIntInRange(0, 15):
            words += [flag, value]
    words += ["--quiet"] if "--quiet" in form.switches else []
    for _ in range(source.ConsumeIntInRange(0, 4)):
        if form.options and source.ConsumeIntInRange(0, 3):
            flag = form.options[source.ConsumeIntInRange(0, len(form.options) - 1)]
            words += [flag, _value(source, flag)]
        elif form.switches:
            words.append(form.switches[source.ConsumeIntInRange(0, len(form.switches) - 1)])
    wants_json = "--json" in form.switches and source.ConsumeIntInRange(0, 1) == 1
    return [*words, "--json"] if wants_json else words, wants_json


def run(commands: Sequence[str], path: Path) -> None:
    """Run the command line that a file stands for. Raises UserError if it was refused as it should be."""
    from haq.__main__ import main
    from haq.errors import UserError

    words, wants_json = command_line(commands, path.read_bytes())
    _prepare(path.parent)
    output, errors = StringIO(), StringIO()
    with redirect_stdout(output), redirect_stderr(errors):
        code = main(words)
    lines = errors.getvalue().splitlines()
    if code == 2:
        refusals = [line for line in lines if line.startswith("haq: ")]
        if refusals != lines[-1:] or not lines[-1].isprintable():
            raise AssertionError(f"{words} was refused with {lines}")
        raise UserError(lines[-1])
    if code:
        raise AssertionError(f"{words} exited with {code}: {lines[-3:]}")
    if wants_json:
        json.loads(output.getvalue())


def _value(source: Any, flag: str) -> str:
    values = UNSOUND if flag in COUNTS or source.ConsumeIntInRange(0, 1) else SOUND
    return values[source.ConsumeIntInRange(0, len(values) - 1)]


def _prepare(folder: Path) -> None:
    """Work in a folder with the files that `SOUND` names, and without what the command before left there."""
    if Path.cwd() != folder:
        os.chdir(folder)
        sys.path.insert(0, str(Path(__file__).parent))
        shutil.copytree(ROOT / RUN, "run")
        shutil.copy(ROOT / RUN / "policy.json", "policy.json")
        Path("bits.csv").write_bytes(TABLE)
        Path("costs.csv").write_bytes(COSTS)
        device = (ROOT / "hardware_sim/devices/bismo-edge.toml").read_text(encoding="utf-8")
        Path("device.toml").write_text(device.replace('name = "', 'name = "my-', 1), encoding="utf-8")
        Path("kept").write_text("\n".join(each.name for each in Path().iterdir()), encoding="utf-8")
    kept = {"kept", *Path("kept").read_text(encoding="utf-8").splitlines()}
    for path in Path().iterdir():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _seeds() -> list[bytes]:
    random = Random(0)
    return [random.randbytes(SEED_BYTES) for _ in range(SEEDS)]
