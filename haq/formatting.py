"""Formatting of quantities and names for reports: SI units in, readable units and shortened names out."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hardware_sim.catalog import DeviceError, load_accelerator
from hardware_sim.cost import Objective

Units = tuple[tuple[float, str], ...]
"""(size in SI units, name) of each unit, smallest first."""

SECONDS: Units = ((1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1.0, "s"))
JOULES: Units = ((1e-12, "pJ"), (1e-9, "nJ"), (1e-6, "µJ"), (1e-3, "mJ"), (1.0, "J"))
BYTES: Units = ((1.0, "B"), (2.0**10, "KiB"), (2.0**20, "MiB"), (2.0**30, "GiB"))
COUNTS: Units = ((1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T"))
BOPS: Units = ((1.0, "BOP"), (1e3, "kBOP"), (1e6, "MBOP"), (1e9, "GBOP"), (1e12, "TBOP"))


def counted(count: int, noun: str) -> str:
    """Format a number of things.

    Args:
        count: The number.
        noun: Name of one thing, whose plural ends in s.

    Returns:
        The number with the noun, in the plural unless it is one.

    Examples:
        >>> counted(1, "layer"), counted(2, "search")
        ('1 layer', '2 searches')
    """
    return f"{count} {noun if count == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """Return the regular plural of a noun.

    Args:
        noun: The noun in the singular.

    Returns:
        The plural.

    Examples:
        >>> plural("step"), plural("search")
        ('steps', 'searches')
    """
    return noun + ("es" if noun.endswith(("ch", "s")) else "s")


def format_seconds(seconds: float) -> str:
    """Format a time.

    Args:
        seconds: Time in seconds, at least 0.

    Returns:
        The time with a unit from ns to s.

    Examples:
        >>> format_seconds(0.0123456), format_seconds(9.9999e-4), format_seconds(0.0)
        ('12.3 ms', '1 ms', '0 s')
    """
    return format_quantity(seconds, SECONDS, zero="0 s")


def format_joules(joules: float) -> str:
    """Format an energy.

    Args:
        joules: Energy in joules, at least 0.

    Returns:
        The energy with a unit from pJ to J.

    Examples:
        >>> format_joules(4.2e-5)
        '42 µJ'
    """
    return format_quantity(joules, JOULES, zero="0 J")


def format_bytes(count: float) -> str:
    """Format a size in powers of 1024.

    Args:
        count: Number of bytes, at least 0.

    Returns:
        The size with a unit from B to GiB.

    Examples:
        >>> format_bytes(1536), format_bytes(1_048_575), format_bytes(7)
        ('1.5 KiB', '1 MiB', '7 B')
    """
    return format_quantity(count, BYTES, zero="0 B")


def format_bops(count: float) -> str:
    """Format a number of bit operations.

    Args:
        count: Number of bit operations, at least 0.

    Returns:
        The number with a unit from BOP to TBOP.

    Examples:
        >>> format_bops(19.2e9)
        '19.2 GBOP'
    """
    return format_quantity(count, BOPS, zero="0 BOP")


_FORMATTERS: Mapping[Objective, Callable[[float], str]] = {
    "latency": format_seconds,
    "energy": format_joules,
    "size": format_bytes,
    "bops": format_bops,
}


def format_cost(objective: Objective, value: float | None) -> str:
    """Format the cost that an objective minimizes.

    Args:
        objective: Objective that the cost belongs to.
        value: Seconds, joules, bytes or bit operations; None for what a device does not model.

    Returns:
        The cost with a unit; a dash for None.

    Examples:
        >>> format_cost("latency", 0.0521), format_cost("size", 3 * 2**20), format_cost("energy", None)
        ('52.1 ms', '3 MiB', '-')
    """
    return "-" if value is None else _FORMATTERS[objective](value)


def format_count(count: float) -> str:
    """Format a number of weights, multiply-accumulates or other things.

    Args:
        count: Number, at least 0.

    Returns:
        The number with k, M, G or T.

    Examples:
        >>> format_count(3_469_760), format_count(300_774_272), format_count(512), format_count(0)
        ('3.47 M', '301 M', '512', '0')
    """
    return format_quantity(count, COUNTS, zero="0").rstrip()


def percent(fraction: float, *, digits: int = 1) -> str:
    """Format a fraction as a percentage.

    Args:
        fraction: Fraction, 1 for all.
        digits: Digits after the decimal point.

    Returns:
        The percentage.

    Examples:
        >>> percent(0.9725), percent(0.6, digits=0)
        ('97.2 %', '60 %')
    """
    return f"{100 * fraction:.{digits}f} %"


def format_quantity(value: float, units: Units, *, zero: str) -> str:
    """Format a quantity in the largest unit that leaves 1 or more after rounding to three significant digits.

    Args:
        value: Quantity in SI units, at least 0.
        units: Units to choose from.
        zero: Text for 0.

    Returns:
        The rounded number and the unit.

    Examples:
        >>> format_quantity(1234.0, SECONDS, zero="0 s"), format_quantity(1023.7, BYTES, zero="0 B")
        ('1234 s', '1 KiB')
    """
    if value == 0:
        return zero
    scaled = [(_rounded(value / size), name) for size, name in units]
    number, name = next((pair for pair in reversed(scaled) if pair[0] >= 1), scaled[0])
    return f"{number:.15g} {name}"


def _rounded(number: float) -> float:
    """Round to three significant digits, and never before the decimal point."""
    return float(f"{number:.3g}") if abs(number) < 1000 else float(round(number))


def shorten(text: str, longest: int, *, front: int | None = None) -> str:
    """Shorten a text by replacing its middle with an ellipsis.

    Args:
        text: Text to shorten.
        longest: Maximum length of the result.
        front: Number of characters kept at the beginning; a third of `longest` if None.

    Returns:
        The text, unchanged if it is short enough.

    Examples:
        >>> shorten("features.17.conv.0.0", 14), shorten("conv1", 14)
        ('feat….conv.0.0', 'conv1')
    """
    if len(text) <= longest:
        return text
    kept = longest // 3 if front is None else front
    return f"{text[:kept]}…{text[len(text) - (longest - 1 - kept) :]}"


def shorten_all(names: Sequence[str], longest: int) -> list[str]:
    """Shorten names so that different names stay different.

    Args:
        names: Names to shorten.
        longest: Maximum length of a result, exceeded only where names would become equal.

    Returns:
        The shortened names, in order.

    Examples:
        >>> shorten_all(["encoder.layer_1.attention.out", "encoder.layer_2.attention.out"], 12)
        ['…1.attention.out', '…2.attention.out']
    """
    different, most = len(set(names)), max(map(len, names), default=0)
    for width in range(longest, most):
        for front in range(width // 3, -1, -1):
            short = [shorten(name, width, front=front) for name in names]
            if len(set(short)) == different:
                return short
    return list(names)


def device_title(hardware: str) -> str:
    """Return the display name of a device.

    Args:
        hardware: Name of a device, or path of its file.

    Returns:
        The name in the device's description; the name of the file if it no longer exists.

    Examples:
        >>> device_title("bismo-edge"), device_title("my/chip.toml")
        ('bismo-edge', 'chip')
    """
    try:
        return load_accelerator(hardware).name
    except DeviceError:
        path = Path(hardware)
        return path.stem if path.suffix.lower() in (".toml", ".csv") else path.name


def model_title(model: str) -> str:
    """Return the display name of a model, without the folder of a file.

    Args:
        model: Model as given on the command line.

    Returns:
        The model's source and name.

    Examples:
        >>> model_title("torchvision:resnet18"), model_title("darknet:nets/tiny.cfg")
        ('torchvision:resnet18', 'darknet:tiny.cfg')
    """
    kind, colon, rest = model.rpartition(":")
    return f"{kind}{colon}{Path(rest).name}"
