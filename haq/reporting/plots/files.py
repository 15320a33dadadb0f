"""Writing of figures to files."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

from haq.errors import UserError
from haq.files import write_atomically
from haq.reporting.plots.style import house_style

DPI = 150
# What is set to None would hold the time or matplotlib's version, and differ where the pictures do not.
METADATA: Mapping[str, Mapping[str, None]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure to a file atomically; equal figures give equal bytes.

    Args:
        figure: The figure.
        path: File whose name ends in .png, .svg or .pdf, which selects the format.

    Raises:
        UserError: The name has another ending, or the file cannot be written.
    """
    path = Path(path)
    suffix = check_suffix(path)
    buffer = BytesIO()
    with house_style():
        figure.savefig(buffer, format=suffix[1:], dpi=DPI, metadata=dict(METADATA[suffix]))
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def check_suffix(path: Path) -> str:
    """Check the ending of a figure file.

    Args:
        path: File of the figure.

    Returns:
        The ending in lower case.

    Raises:
        UserError: It is neither .png, .svg nor .pdf.

    Examples:
        >>> check_suffix(Path("policy.SVG"))
        '.svg'
    """
    suffix = path.suffix.lower()
    if suffix not in METADATA:
        raise UserError(f"cannot draw {path}: its name must end in {' or '.join(METADATA)}")
    return suffix
