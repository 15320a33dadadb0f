"""The commands that `kill_runs.py` kills, on the network of `tiny_task.py`, and where each writes."""

from dataclasses import dataclass
from pathlib import Path

TINY = ("--model", "tiny_task:network", "--data", "tiny_task:data", "--engine", "torch")
LEARNING = (*TINY[:4], "--quiet")
FILES = {"measure": "table.csv", "export": "net.onnx"}
"""Commands that write a file, and its name in the folder."""


@dataclass(frozen=True)
class Command:
    """A command, and its arguments with `RUN` for the folder of a finished search."""

    name: str
    words: tuple[str, ...]
    can_resume: bool = True

    def arguments(self, folder: Path, run: Path) -> list[str]:
        """Return the command line that starts or continues a run in a folder."""
        words = [str(run) if word == "RUN" else word for word in self.words]
        out = folder / FILES[self.name] if self.name in FILES else folder
        return [*words, "--out", str(out), *(["--resume"] if self.can_resume else [])]


COMMANDS = (
    Command("search", ("search", *TINY, "--quiet", "--budget", "0.8", "--episodes", "25", "--no-store")),
    Command("finetune", ("finetune", *LEARNING, "--epochs", "6", "--batch-size", "16")),
    Command("reconstruct", ("reconstruct", *LEARNING, "--engine", "torch", "--w-bits", "3", "--steps", "60")),
    Command("sensitivity", ("sensitivity", *TINY, "--quiet")),
    Command("measure", ("hardware", "measure", *LEARNING, "--repeats", "100000"), can_resume=False),
    Command(
        "compare",
        (
            "compare",
            *TINY,
            "--quiet",
            "--agents",
            "evolution,random",
            "--budgets",
            "0.8",
            "--at",
            "10,20",
            "--seeds",
            "2",
        ),
    ),
    Command(
        "pareto",
        (
            "pareto",
            *TINY,
            "--quiet",
            "--budgets",
            "0.9,0.8",
            "--agent",
            "evolution",
            "--episodes",
            "20",
            "--more-episodes",
            "8",
        ),
    ),
    Command("export", ("export", "RUN"), can_resume=False),
)
