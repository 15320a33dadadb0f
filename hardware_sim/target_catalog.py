"""Loading of deployment targets: the shipped ones by name, a user's own from files."""

from pathlib import Path

from hardware_sim.deployment_target import DeploymentTarget
from hardware_sim.description_files import DescriptionError, closest, read_toml, validated
from hardware_sim.file_limits import TARGET

TARGETS = Path(__file__).parent / "targets"


def target_names() -> tuple[str, ...]:
    """Names of the shipped targets, sorted."""
    return tuple(sorted(path.stem for path in TARGETS.glob("*.toml")))


def load_target(name_or_path: str | Path) -> DeploymentTarget:
    """Load a deployment target by name or from a file.

    Args:
        name_or_path: Name of a shipped target, or path of a `.toml` file.

    Returns:
        The validated target.

    Raises:
        DescriptionError: The target is unknown or the file invalid; the message says what would be right.

    Example:
        >>> sorted(load_target("imx500").pairs)
        [(2, 8), (4, 8), (8, 8)]
    """
    name, path = str(name_or_path), Path(name_or_path)
    if name in target_names():
        path = TARGETS / f"{name}.toml"
    elif path.suffix.lower() != ".toml":
        raise DescriptionError(
            f"unknown deployment target {name!r:.80}{closest(name, target_names())}; known are "
            f"{', '.join(target_names())}, or give a .toml file"
        )
    target = validated(DeploymentTarget, read_toml(path, TARGET), path)
    if target.name in target_names() and path.resolve().parent != TARGETS.resolve():
        raise DescriptionError(f"{str(path)!r}: {target.name!r} is the name of a shipped target; choose another")
    return target
