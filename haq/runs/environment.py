"""Description of the software and the machine of a run, as needed to reproduce it."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("haq", "torch", "torchvision", "timm", "numpy", "gymnasium", "scikit-learn", "onnx", "onnxruntime")


def describe_environment(*, seed: int, device: str) -> dict[str, Any]:
    """Describe the software and the machine.

    Args:
        seed: Seed of the run.
        device: Torch device of the run.

    Returns:
        Seed, device, versions, platform, processor and threads, and the commit of this source if it is a checkout.
    """
    return {
        "seed": seed,
        "device": device,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "commit": _commit(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    source = Path(__file__).resolve()
    try:
        # The repository around an installed package is the user's; it does not track this file.
        _git(source.parent, "ls-files", "--error-unmatch", source.name)
        return _git(source.parent, "rev-parse", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
