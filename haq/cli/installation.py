"""Checks of an installation: packages, processor, GPU, cache folder, and tools of the system."""

import os
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from packaging.requirements import Requirement

from haq.errors import UserError
from haq.exporters.c.toolchain.tools import DEBIAN_PACKAGES
from haq.runs.cache import cache_dir
from haq.runs.environment import describe_environment

State = Literal["ok", "missing", "problem"]
"""`missing`: an optional part is not there. `problem`: haq, or some of its commands, will fail."""
EXTRAS = ("detection", "export", "ray", "slurm", "timm", "tpe")
"""Optional parts of haq that users install."""
RESULT_VARIABLES = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that change the kernels of torch or the order of their sums."""
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
"""Instruction sets that torch and onnxruntime choose kernels by."""


class Check(NamedTuple):
    """Result of a check.

    Attributes:
        part: Heading that the check belongs to.
        name: What was checked.
        state: Whether it is as it has to be.
        text: What was found, and what to do.
    """

    part: str
    name: str
    state: State
    text: str


def installation_checks() -> list[Check]:
    """Check the installation.

    Returns:
        The results.
    """
    return [*_packages(), *_operators(), *_extras(), *_machine(), *_cache(), *_tools()]


def _packages() -> Iterator[Check]:
    environment = describe_environment(seed=0, device="cpu")
    yield Check("packages", "python", "ok", str(environment["python"]))
    yield Check("packages", "haq", "ok", f"{version('haq')} in {Path(__file__).resolve().parents[1]}")
    for requirement in _requirements(extra=None):
        yield _requirement_check("packages", requirement, extra=None)


def _operators() -> Iterator[Check]:
    """Check that torchvision was built for the torch that is there."""
    try:
        import torchvision.ops  # noqa: F401
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        yield Check(
            "packages", "torch and torchvision", "problem", f"do not fit ({reason}); install both by one command"
        )


def _extras() -> Iterator[Check]:
    for extra in EXTRAS:
        for requirement in _requirements(extra=extra):
            yield _requirement_check("extras", requirement, extra=extra)


def _requirements(*, extra: str | None) -> list[Requirement]:
    """Return what haq requires, or what one of its extras adds."""
    every = [Requirement(text) for text in requires("haq") or ()]
    if extra is None:
        return [each for each in every if each.marker is None]
    return [each for each in every if each.marker is not None and each.marker.evaluate({"extra": extra})]


def _requirement_check(part: str, requirement: Requirement, *, extra: str | None) -> Check:
    command = "pip install -e ." if extra is None else f"pip install -e '.[{extra}]'"
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        state: State = "problem" if extra is None else "missing"
        return Check(part, requirement.name, state, f"not installed; {command}")
    if not requirement.specifier.contains(found, prereleases=True):
        return Check(part, requirement.name, "problem", f"{found}, needs {requirement.specifier}; {command}")
    return Check(part, requirement.name, "ok", found if extra is None else f"{found} ({extra})")


def _machine() -> Iterator[Check]:
    environment = describe_environment(seed=0, device="cpu")
    yield Check("machine", "processor", "ok", f"{environment['processor']}, {environment['cores']} cores")
    yield Check("machine", "instructions", "ok", _instructions())
    given = {name: os.environ[name] for name in RESULT_VARIABLES if name in os.environ}
    shown = ", ".join(f"{name}={value}" for name, value in given.items()) or "none"
    yield Check("machine", "variables that change last bits", "ok", shown)
    yield Check("machine", "threads", "ok", f"{torch.get_num_threads()}")
    yield Check("machine", "gpu", "ok" if torch.cuda.is_available() else "missing", _gpu())


def _instructions() -> str:
    """Return the instruction sets of the processor that choose kernels, and what torch makes of them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    flags = set(chain.from_iterable(line.split()[2:] for line in lines if line.startswith("flags")))
    found = " ".join(name for name in INSTRUCTIONS if name in flags) or "not known"
    return f"{found}; torch uses {torch.backends.cpu.get_cpu_capability()}"


def _gpu() -> str:
    if not torch.cuda.is_available():
        return "none that torch can use; searches run on the processor"
    return ", ".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))


def _cache() -> Iterator[Check]:
    try:
        folder = cache_dir()
    except UserError as error:
        yield Check("machine", "cache", "problem", str(error))
        return
    free = shutil.disk_usage(folder).free
    if os.access(folder, os.W_OK):
        yield Check("machine", "cache", "ok", f"{folder}, {free / 1e9:.1f} GB free")
    else:
        yield Check("machine", "cache", "problem", f"{folder} cannot be written; set HAQ_CACHE to a folder of yours")


def _tools() -> Iterator[Check]:
    for name, package in DEBIAN_PACKAGES.items():
        found = shutil.which(name)
        text = found or f"not installed; on Debian and Ubuntu: apt-get install {package}"
        yield Check("tools", name, "ok" if found else "missing", text)
