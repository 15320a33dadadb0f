"""Loading of devices: the shipped ones by name, a user's own from files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hardware_sim.accelerator import Accelerator
from hardware_sim.bit_fusion import BitFusion
from hardware_sim.bit_serial import BitSerial
from hardware_sim.description_files import DescriptionError, closest, read_toml, validated
from hardware_sim.file_limits import DEVICE
from hardware_sim.lookup import Lookup, csv_device
from hardware_sim.mcu import Mcu
from hardware_sim.mcu_measured import MeasuredMcu
from hardware_sim.roofline import Roofline
from hardware_sim.systolic import Systolic

DEVICES = Path(__file__).parent / "devices"
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


class DeviceError(DescriptionError):
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
            f"unknown device {name!r:.80}{closest(name, device_names())}; known are {', '.join(device_names())}, "
            "or give a .toml device file or a .csv table"
        )
    try:
        values = csv_device(path) if path.suffix.lower() == ".csv" else read_toml(path, DEVICE)
        device = _build(values, path)
    except DescriptionError as error:
        raise DeviceError(str(error)) from error
    if device.name in device_names() and path.resolve().parent != DEVICES.resolve():
        raise DeviceError(f"{str(path)!r}: {device.name!r} is the name of a shipped device; choose another")
    return device


def _build(values: Mapping[str, Any], path: Path) -> Accelerator:
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        got = "missing" if kind is None else f"{kind!r:.60}{closest(str(kind), KINDS)}"
        raise DeviceError(f"{str(path)!r}: kind is {got}; it must be one of {', '.join(KINDS)}")
    return validated(KINDS[kind], values, path)
