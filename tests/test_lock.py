"""The lock file has a hash-checked version of every requirement of pyproject.toml."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCK = (ROOT / ".ci" / "requirements.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def locked() -> dict[str, tuple[str, list[str]]]:
    """Version and hashes by name."""
    lines = [line for line in LOCK.replace("\\\n", " ").splitlines() if not line.startswith("#")]
    found = {}
    for line in lines:
        pin, *hashes = line.split()
        name, _, version = pin.partition("==")
        found[canonicalize_name(name)] = version, hashes
    return found


def required(texts: list[str]) -> Iterator[Requirement]:
    """Requirements, with those of our own extras in their place."""
    for text in texts:
        requirement = Requirement(text)
        if requirement.name != PROJECT["project"]["name"]:
            yield requirement
        for extra in requirement.extras:
            yield from required(PROJECT["project"]["optional-dependencies"].get(extra, []))


def test_every_requirement_is_locked_in_a_version_that_it_allows() -> None:
    found = locked()
    texts = [*PROJECT["build-system"]["requires"], *PROJECT["project"]["dependencies"], "haq[dev]"]
    wanted = list(required(texts))
    assert len(wanted) > 25
    for requirement in wanted:
        version, _ = found[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), requirement


def test_every_version_has_hashes_and_comes_from_no_named_place() -> None:
    for name, (version, hashes) in locked().items():
        assert re.fullmatch(r"[0-9][0-9a-z.]*", version), f"{name} {version}"  # no local version such as +cpu
        assert hashes, name
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), name
    assert "://" not in LOCK
    assert "--index" not in LOCK
