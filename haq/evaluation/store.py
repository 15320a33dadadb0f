"""Persistent cache of evaluations, shared across searches.

Accuracy depends on a network, its data and the bits, not on the device, the budget, the objective or the agent.
`haq.evaluation.fingerprint` computes the key of evaluations that belong together.

The store changes no result and no count: a search finds, writes and counts the same with an empty and a full store
(`haq.evaluation.evaluator.Evaluator`), and is only faster. Agents use the evaluations of other searches only where
configured (`haq.searching.warm_start`).
"""

import json
import os
from math import isfinite
from pathlib import Path

from haq.errors import UserError
from haq.evaluation.float_run import FloatRuns
from haq.evaluation.policy_memory import PolicyMemory
from haq.evaluation.protocols import Evaluation
from haq.policy import PolicyBits
from haq.runs.cache import cache_dir
from hardware_sim.cost import WIDTHS, Bits

CAPACITY = 100_000
"""Number of stored evaluations of one key that a process keeps in memory."""
FLOAT_MARK = "f"
"""Letter of a layer in float."""
_NUMBERS = ("accuracy", "divergence", "noise")
_LETTERS = {width: FLOAT_MARK if width is None else str(width) for width in WIDTHS}
_WIDTH_OF = {letter: width for width, letter in _LETTERS.items()}


class EvaluationStore:
    """Store of evaluations on disk: a folder with one file for each key.

    Args:
        folder: Folder, which is created on first use; `evaluations/` in the cache if None.

    Attributes:
        folder: Folder of the files.
        float_runs: Runs of float networks that evaluators in this process share.
    """

    outlives_engine = True

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = cache_dir() / "evaluations" if folder is None else folder
        self.float_runs = FloatRuns()

    def open(self, key: str) -> "KeptEvaluations":
        """Return the evaluations of a key.

        Args:
            key: Key of `haq.evaluation.fingerprint`.

        Returns:
            The evaluations.

        Raises:
            UserError: The folder cannot be created.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(_advice(self.folder, error)) from error
        return KeptEvaluations(self.folder / f"{key}.jsonl")


class EngineStore:
    """Store of evaluations in memory, for searches that share an engine.

    Keys need no probe runs, each of which may be a training.

    Attributes:
        float_runs: Runs of float networks that evaluators in this process share.
    """

    outlives_engine = False

    def __init__(self) -> None:
        self._kept: dict[str, RememberedEvaluations] = {}
        self.float_runs = FloatRuns()

    def open(self, key: str) -> "RememberedEvaluations":
        """Return the evaluations of a key.

        Args:
            key: Key of `haq.evaluation.fingerprint`.

        Returns:
            The evaluations.
        """
        return self._kept.setdefault(key, RememberedEvaluations())


class RememberedEvaluations:
    """Evaluations of one key in memory."""

    def __init__(self) -> None:
        self._found: dict[PolicyBits, Evaluation] = {}

    def find(self, bits: PolicyBits) -> Evaluation | None:
        """Return the evaluation of a policy.

        Args:
            bits: (w_bits, a_bits) of every layer.

        Returns:
            The evaluation; None if there is none.
        """
        return self._found.get(bits)

    def add(self, bits: PolicyBits, evaluation: Evaluation) -> None:
        """Add the evaluation of a policy.

        Args:
            bits: (w_bits, a_bits) of every layer.
            evaluation: Its evaluation.
        """
        self._found[bits] = evaluation


class KeptEvaluations:
    """Evaluations of one key on disk: a file of JSON lines that several processes can read and extend at the same time.

    A line is `{"w": "8448", "a": "8fff", "accuracy": 0.97, "divergence": 0.02, "noise": 0.01}`, with one letter for
    each layer and `f` for float. Incomplete and invalid lines are skipped. The evaluations of the `CAPACITY` policies
    that were read or used last stay in memory; others are not found.

    Args:
        path: Path of the file; it need not exist.

    Attributes:
        path: Path of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found = PolicyMemory[Evaluation](CAPACITY)
        self._read = 0

    def find(self, bits: PolicyBits) -> Evaluation | None:
        """Return the evaluation of a policy, also one that another process has added.

        Args:
            bits: (w_bits, a_bits) of every layer.

        Returns:
            The evaluation; None if there is none.

        Raises:
            UserError: The file cannot be read.
        """
        if bits not in self._found:
            self._catch_up()
        return self._found.find(bits)

    def add(self, bits: PolicyBits, evaluation: Evaluation) -> None:
        """Append the evaluation of a policy; one that failed or is not finite is not stored.

        Args:
            bits: (w_bits, a_bits) of every layer.
            evaluation: Its evaluation.

        Raises:
            UserError: The file cannot be written.
        """
        numbers = {name: getattr(evaluation, name) for name in _NUMBERS}
        if evaluation.failure is not None or not all(map(isfinite, numbers.values())):
            return
        w, a = ("".join(_LETTERS[width] for width in each) for each in bits)
        line = {"w": w, "a": a, **numbers}
        try:
            _append(self.path, f"{json.dumps(line)}\n".encode())
        except OSError as error:
            raise UserError(_advice(self.path, error)) from error

    def _catch_up(self) -> None:
        """Read the lines that were added since the last call, up to the last complete one."""
        if not self.path.is_file():
            return
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                for line in file:
                    if line.endswith(b"\n"):
                        self._read += len(line)
                        self._remember(line)
        except OSError as error:
            raise UserError(_advice(self.path, error)) from error

    def _remember(self, line: bytes) -> None:
        """Add the evaluation of a line; the first one of a policy counts, and invalid lines are skipped."""
        found = _parse(line)
        if found is not None and found[0] not in self._found:
            self._found.add(*found)


def _advice(path: Path, error: OSError) -> str:
    return f"cannot keep evaluations in {path} ({error.strerror}); set HAQ_CACHE to a folder that can be written"


def _append(path: Path, line: bytes) -> None:
    """Append a line in a single write, which no other process can interrupt.

    An incomplete last line is ended first.
    """
    with path.open("ab+", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line)


def _parse(line: bytes) -> tuple[PolicyBits, Evaluation] | None:
    try:
        entry = json.loads(line)
        w, a = _widths(entry["w"]), _widths(entry["a"])
        numbers = [entry[name] for name in _NUMBERS]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    is_whole = len(w) == len(a) and all(isinstance(each, float) and isfinite(each) for each in numbers)
    return ((w, a), Evaluation(*numbers)) if is_whole else None


def _widths(letters: str) -> tuple[Bits, ...]:
    return tuple(_WIDTH_OF[letter] for letter in letters)
