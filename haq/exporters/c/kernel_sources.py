"""Functions of the C program, from the files in `kernels/`."""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from string import Template

_KERNELS = Path(__file__).parent / "kernels"
_TEMPLATES = Path(__file__).parent / "templates"
REQUANTIZE = "requantize_down"
"""File of the conversion of sums by factors below one half, as almost all are."""
_REQUANTIZE_ANY = "requantize_any"
"""The same by any factors."""
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "arithmetic": (),
    "division": ("arithmetic",),
    "fixed_point": ("division",),
    "code": (),
    "product": ("arithmetic",),
    "requantize_down": ("product",),
    "requantize_any": ("product", "fixed_point"),
    "convolution": (REQUANTIZE,),
    "dot_narrow": ("product",),
    "dot_wide": ("product",),
    "linear": (REQUANTIZE,),
    "depthwise": (REQUANTIZE,),
    "add": ("division",),
    "multiply": ("fixed_point",),
    "windows": (),
    "max_pool": ("windows",),
    "average_pool": ("windows",),
    "table": (),
    "interleave": (),
    "flatten": (),
    "pad": (),
    "subsample": (),
    **{f"unpack_{bits}": ("code",) for bits in range(1, 9)},
}
"""Files that each file uses; a program has them in this order."""


class _Template(Template):
    delimiter = "@"


def kernel_sources(names: Iterable[str], *, has_any_factors: bool = False) -> str:
    """Return the functions of some files and of those that they use.

    Args:
        names: Names of files without their suffix; `unpack_3` is `unpack` for 3 bits.
        has_any_factors: Whether factors of one half and more convert sums to codes, or sums exceed 2^30.

    Returns:
        C source.
    """
    needed: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        name = _REQUANTIZE_ANY if name == REQUANTIZE and has_any_factors else name
        needed.add(name)
        pending.extend(_NEEDS[name])
    return "\n".join(_text(name) for name in _NEEDS if name in needed)


def fill_template(name: str, **values: object) -> str:
    """Return a file of `templates/` with its placeholders replaced.

    Args:
        name: Name of the file.
        **values: Values by placeholder.

    Returns:
        The text.
    """
    return _Template(template(name)).substitute(values)


def template(name: str) -> str:
    """Return a file of `templates/`.

    Args:
        name: Name of the file.

    Returns:
        Its text.
    """
    return _file(_TEMPLATES / name)


def _text(name: str) -> str:
    kind, _, bits = name.partition("_")
    return _unpack(int(bits)) if kind == "unpack" else _file(_KERNELS / f"{name}.c")


def _unpack(bits: int) -> str:
    """Return the function that unpacks codes of a width: eight codes are as many bytes as a code has bits."""
    eight = "\n".join(f"        codes[{code}] = {_code(code * bits, bits)};" for code in range(8))
    return _Template(_file(_KERNELS / "unpack.c.in")).substitute(bits=bits, eight=eight)


def _code(bit: int, bits: int) -> str:
    byte, start = divmod(bit, 8)
    if start + bits <= 8:
        window = f"(uint32_t)stream[{byte}]"
    else:
        window = f"((uint32_t)stream[{byte}] | (uint32_t)stream[{byte + 1}] << 8)"
    return f"(int8_t)((int32_t)({window} << {32 - start - bits}) >> {32 - bits})"


@cache
def _file(path: Path) -> str:
    return path.read_text(encoding="utf-8")
