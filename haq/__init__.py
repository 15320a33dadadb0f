"""Hardware-aware mixed-precision quantization: how many bits each layer of a trained network gets."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any


def _require_neighbours() -> None:
    """Check that `agents`, `envs` and `hardware_sim` are those of haq: other distributions use these names too."""
    here = Path(__file__).resolve().parent.parent
    for name in ("agents", "envs", "hardware_sim"):
        spec = find_spec(name)
        found = Path(spec.origin).resolve() if spec and spec.origin else None
        if found != here / name / "__init__.py":
            raise ImportError(
                f"haq needs its own package {name!r} from {here}, but Python finds {found or 'none'}; "
                "install haq in a virtual environment of its own"
            )


_require_neighbours()

if TYPE_CHECKING:
    from haq.api import (
        evaluate,
        export,
        finetune,
        load,
        load_packed,
        load_policy,
        plot,
        reconstruct,
        report,
        search,
        simulate,
    )

__all__ = [
    "evaluate",
    "export",
    "finetune",
    "load",
    "load_packed",
    "load_policy",
    "plot",
    "reconstruct",
    "report",
    "search",
    "simulate",
]


def __getattr__(name: str) -> Any:
    """Import a public function when it is first used, as importing torch takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("haq.api"), name)
