"""Ten kills: runs that were killed at random moments end as undisturbed ones."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "experiments" / "kill_runs.py"


def test_killed_runs_give_the_results_of_undisturbed_ones() -> None:
    flags = ("--kills", "10", "--only-kills", "--commands", "search,reconstruct,sensitivity")
    command = [sys.executable, str(SCRIPT), *flags]
    answer = subprocess.run(command, cwd=SCRIPT.parent, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    totals = next(line for line in answer.stdout.splitlines() if line.startswith("| all |"))
    kills, runs, *wrong = (int(totals.split("|")[place]) for place in (3, 5, 6, 7, 8))
    assert (kills, wrong) == (10, [0, 0, 0])
    assert runs >= 6
