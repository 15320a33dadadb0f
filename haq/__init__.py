"""Hardware-aware mixed-precision quantization: how many bits each layer of a trained network gets."""

from importlib.util import find_spec
from pathlib import Path


def _require_neighbours() -> None:
    """`agents` and `envs` are names that other distributions use: stop where somebody else's would be imported."""
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

from haq.finetuning.running import finetune  # noqa: E402
from haq.policy import load_policy  # noqa: E402  only after the check
from haq.reconstruction.running import reconstruct  # noqa: E402
from haq.searching.running import search  # noqa: E402
from haq.simulating.simulation import simulate  # noqa: E402

__all__ = ["finetune", "load_policy", "reconstruct", "search", "simulate"]
