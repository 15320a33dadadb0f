"""Make the runs behind every table of `README.md` and `results/README.md` anew: `make results`, which takes hours.

    python scripts/experiments/make_results.py --data DIR --weights DIR

The searches of the digits network need no data. Those of ResNet-20 and the MobileNets are made only with `--data` and
`--weights`, whose folders hold what `search_networks.py` reads. Runs lie in `--runs` and are continued when the script
is started again. Tables follow from the new runs; numbers in the text do not: `make results-check` names them.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from check_results import QUICK_START, ROOT
from reconstruct_networks import FOLDERS

from haq.runs.locking import LOCK
from haq.runs.run_folder import CHECKPOINT

SCRIPTS = {
    "bismo-cloud": "search_bismo_cloud",
    "bismo-edge": "search_bismo_edge",
    "bitfusion-cloud": "search_bitfusion_cloud",
    "bitfusion-edge": "search_bitfusion_edge",
    "gpu-t4": "search_gpu",
    "mcu-cortex-m7-measured": "search_mcu",
    "systolic-tpu": "search_systolic",
}
NETWORKS = {
    "networks": ("cifar_resnet20", 100),
    "mobilenet_v1": ("tf_mobilenets:mobilenet_v1_075", 50),
    "mobilenet_v2": ("tf_mobilenets:mobilenet_v2", 50),
}
"""Name of the folder: network and episodes."""


def digits_commands(runs: Path) -> Iterator[tuple[Path, Sequence[str]]]:
    """Yield the folders of the digits runs with the commands that make them."""
    haq, first = (sys.executable, "-m", "haq"), runs / QUICK_START
    yield first, (*haq, "search", "--budget", "0.25", "--episodes", "60", "--resume", "--out", str(first))
    for name, script in SCRIPTS.items():
        path = ROOT / "scripts" / f"{script}.py"
        yield runs / name, (sys.executable, str(path), "--resume", "--out", str(runs / name))


def network_command(name: str, *, data: Path, weights: Path, runs: Path) -> Sequence[str]:
    """Return the command that makes the runs of a network and its page."""
    model, episodes = NETWORKS[name]
    folders = ("--data", str(data), "--weights", str(weights), "--runs", str(runs / "networks"))
    script = ROOT / "scripts" / "experiments" / "search_networks.py"
    settings = (*folders, "--episodes", str(episodes), "--workers", "1", "--out", str(ROOT / "results" / name))
    return sys.executable, str(script), model, *settings


def reconstruction_command(name: str, *, data: Path, weights: Path, runs: Path) -> Sequence[str]:
    """Return the command that reconstructs what the searches of a network found."""
    script = ROOT / "scripts" / "experiments" / "reconstruct_networks.py"
    folders = ("--data", str(data), "--weights", str(weights), "--runs", str(runs / "reconstructed"))
    return sys.executable, str(script), NETWORKS[name][0], "--searched", str(ROOT / "results" / name), *folders


def replace(run: Path, target: Path) -> None:
    """Replace a folder in `results` by a finished run, without what only resuming needs."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(run, target, ignore=shutil.ignore_patterns(CHECKPOINT, LOCK))


def main() -> None:
    """Make all runs, one after the other, then the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/results"), help="default: runs/results")
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    for run, command in digits_commands(options.runs):
        subprocess.run(command, check=True)
        replace(run, ROOT / "results" / run.name)
    if options.data and options.weights:
        folders = {"data": options.data, "weights": options.weights, "runs": options.runs}
        for name in NETWORKS:
            subprocess.run(network_command(name, **folders), check=True)
        for name in FOLDERS:
            subprocess.run(reconstruction_command(name, **folders), check=True)
    else:
        print("without --data and --weights, ResNet-20 and the MobileNets are left as they are")
    subprocess.run(
        (sys.executable, str(ROOT / "scripts/experiments/collect_results.py"), str(ROOT / "results")), check=True
    )


if __name__ == "__main__":
    main()
