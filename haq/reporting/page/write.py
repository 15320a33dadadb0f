"""Rendering of the page with its template, and writing of its file."""

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from haq.errors import UserError
from haq.files import link_target, write_atomically
from haq.reporting.page.comparison import quick_devices
from haq.reporting.page.document import is_study, make_page
from haq.reporting.page.runs import labels, read_run

REPORT = "report.html"
"""Usual file of the report in the folder of a run."""
_SUFFIXES = (".html", ".htm")


def write_report(paths: Sequence[Path], out: Path | None = None, *, devices: Sequence[str] | None = None) -> Path:
    """Write the report on one or several runs.

    Args:
        paths: Folders of finished runs, and of `haq compare` and `haq pareto`.
        out: File of the page; None for the usual one in the folder, of a single one.
        devices: Devices on which the policy of every run is priced; None for `quick_devices`.

    Returns:
        The file.

    Raises:
        UserError: A folder holds no finished run, a file in it is damaged, or the page cannot be written.
        DescriptionError: A device does not exist, or its file is invalid.
    """
    target = _target(paths, out)
    page = render_report(paths, devices=devices)
    try:
        write_atomically(target if out is None else link_target(target), page.encode())
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}") from error
    return target


def render_report(paths: Sequence[Path], *, devices: Sequence[str] | None = None) -> str:
    """Render the report on one or several runs.

    Equal runs give equal pages. All texts of files are escaped.

    Args:
        paths: Folders of finished runs, and of `haq compare` and `haq pareto`.
        devices: Devices on which the policy of every run is priced; None for `quick_devices`.

    Returns:
        The page, which refers to no other file.

    Raises:
        UserError: A folder holds no finished run, or a file in it is damaged.
        DescriptionError: A device does not exist, or its file is invalid.
    """
    studies = [path for path in paths if is_study(path)]
    folders = [path for path in paths if not is_study(path)]
    runs = [read_run(path, label=label) for path, label in zip(folders, labels(folders), strict=True)]
    loader = PackageLoader("haq.reporting.page", "template")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    script, style = (_source(environment, name) for name in ("page.js", "page.css"))
    digest = b64encode(sha256(script.encode()).digest()).decode()
    template = environment.get_template("page.html")
    page = make_page(runs, studies, quick_devices() if devices is None else devices)
    return template.render(page=page, style=style, script=script, script_hash=digest)


def _source(environment: Environment, name: str) -> Markup:
    """Return a file of the template, which is part of the package and inserted as it is."""
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])


def _target(paths: Sequence[Path], out: Path | None) -> Path:
    """Return the file of the page, before anything is read."""
    if not paths:
        raise UserError("give the folder of at least one run")
    resolved = [path.resolve() for path in paths]
    twice = next((path for path, other in zip(paths, resolved, strict=True) if resolved.count(other) > 1), None)
    if twice is not None:
        raise UserError(f"{twice} is given twice; give every run once")
    if out is None:
        if len(paths) > 1:
            raise UserError("a page on several runs belongs to none of them; say where with --out FILE.html")
        return paths[0] / REPORT
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; name a file, such as {out / REPORT}")
    if out.suffix.lower() not in _SUFFIXES:
        raise UserError(f"--out {out}: the name of a page ends in {' or '.join(_SUFFIXES)}")
    return out
