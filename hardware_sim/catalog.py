"""Loading of devices: the shipped ones by name, a user's own from files."""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from hardware_sim.accelerator import Accelerator
from hardware_sim.bit_fusion import BitFusion
from hardware_sim.bit_serial import BitSerial
from hardware_sim.lookup import Lookup, csv_device
from hardware_sim.mcu import Mcu
from hardware_sim.mcu_measured import MeasuredMcu
from hardware_sim.roofline import Roofline
from hardware_sim.systolic import Systolic
from hardware_sim.units import closest_key, unit_hint

DEVICES = Path(__file__).parent / "devices"
MAX_FILE_BYTES = 2**20
KINDS: Mapping[str, type[Accelerator]] = {
    "bit_serial": BitSerial,
    "bit_fusion": BitFusion,
    "systolic": Systolic,
    "roofline": Roofline,
    "mcu": Mcu,
    "mcu_measured": MeasuredMcu,
    "lookup": Lookup,
}
"""Device classes by the key `kind` of a device file."""


class DeviceError(ValueError):
    """An unknown device, or a file that does not describe one; the message is one line."""


def device_names() -> tuple[str, ...]:
    """Names of the shipped devices, sorted."""
    return tuple(sorted(path.stem for path in DEVICES.glob("*.toml")))


def load_accelerator(name_or_path: str | Path) -> Accelerator:
    """Load a device by name or from a file.

    Args:
        name_or_path: Name of a shipped device, or path of a `.toml` device file or a `.csv` table of costs.

    Returns:
        The validated device.

    Raises:
        DeviceError: The device is unknown or the file invalid; the message says what would be right.

    Example:
        >>> load_accelerator("bismo-edge").batch
        1
    """
    name, path = str(name_or_path), Path(name_or_path)
    if name in device_names():
        path = DEVICES / f"{name}.toml"
    elif path.suffix.lower() == ".npy":
        raise DeviceError(
            f"{name!r}: an array has no unit, batch or widths; describe it in a .toml device of kind "
            "'lookup' with table_file, unit, clock_hz, batch, w_bits and a_bits"
        )
    elif path.suffix.lower() not in (".toml", ".csv"):
        raise DeviceError(
            f"unknown device {name!r:.80}{_closest(name, device_names())}; known are {', '.join(device_names())}, "
            "or give a .toml device file or a .csv table"
        )
    values = csv_device(path) if path.suffix.lower() == ".csv" else _read_toml(path)
    device = _build(values, path)
    if device.name in device_names() and path.resolve().parent != DEVICES.resolve():
        raise DeviceError(f"{str(path)!r}: {device.name!r} is the name of a shipped device; choose another")
    return device


def _read_toml(path: Path) -> Mapping[str, Any]:
    try:
        if not path.is_file():
            raise DeviceError(f"{str(path)!r:.200}: {'not a file' if path.exists() else 'no such file'}")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise DeviceError(f"{str(path)!r}: larger than {MAX_FILE_BYTES} bytes, the limit for device files")
        return tomllib.loads(content.decode())
    except OSError as error:
        raise DeviceError(f"{str(path)!r:.200}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DeviceError(f"{str(path)!r}: not text in UTF-8") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise DeviceError(f"{str(path)!r}: not TOML: {error}") from error


def _build(values: Mapping[str, Any], path: Path) -> Accelerator:
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        got = "missing" if kind is None else f"{kind!r:.60}{_closest(str(kind), KINDS)}"
        raise DeviceError(f"{str(path)!r}: kind is {got}; it must be one of {', '.join(KINDS)}")
    try:
        return KINDS[kind].model_validate(values, context={"folder": path.parent})
    except ValidationError as error:
        raise DeviceError(f"{str(path)!r:.200}: {'; '.join(_messages(error, KINDS[kind]))}") from error


def _messages(error: ValidationError, cls: type[Accelerator]) -> Iterator[str]:
    problems = error.errors(include_url=False)
    unknown = {problem["loc"]: problem["input"] for problem in problems if problem["type"] == "extra_forbidden"}
    hints = {loc: unit_hint(str(loc[-1]), value, _keys(cls)) for loc, value in unknown.items()}
    in_other_units = {(*loc[:-1], hint.partition(" ")[0]) for loc, hint in hints.items() if hint}
    for problem in problems:
        key = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            hint = hints[problem["loc"]]
            yield f"unknown key {key!r:.60}{f'; write {hint}' if hint else _closest(key, _keys(cls))}"
        elif problem["type"] == "missing":
            if problem["loc"] not in in_other_units:
                yield f"missing key {key!r}"
        else:
            yield _message(key, problem["type"], message=problem["msg"], got=problem["input"])


def _message(key: str, kind: str, *, message: str, got: object) -> str:
    text = message.removeprefix("Value error, ").replace("\n", " ")
    return text if kind == "value_error" else f"{key}: {text[:1].lower()}{text[1:]}, got {got!r:.60}"


def _keys(kind: Any) -> Iterator[str]:
    """List the keys of a device file of this kind, and of the tables within."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            yield name
            yield from _keys(field.annotation)
    else:
        for part in get_args(kind):
            yield from _keys(part)


def _closest(word: str, known: Iterable[str]) -> str:
    match = closest_key(word, known)
    return f" (did you mean {match!r}?)" if match else ""
