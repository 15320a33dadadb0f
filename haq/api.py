"""The Python API: every function runs a workflow and draws the plots of the folder that it leaves."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from haq.config import search_config
from haq.costs.simulation import policy_bits, simulation
from haq.errors import warn_caller
from haq.execution.progress import SILENT, Watcher
from haq.experiment.inputs import Inputs, names_of
from haq.experiment.loading import load_priced
from haq.experiment.starting_point import Asked, PolicyLike, starting_point
from haq.finetuning.running import FinetuneResult, finetune_configured
from haq.policy import Policy, load_policy, uniform_bits
from haq.quantization.training.config import FinetuneConfig, finetune_config
from haq.reconstruction.config import ReconstructionConfig, reconstruction_config
from haq.reconstruction.running import QUANTIZER_SETTINGS, ReconstructionResult, reconstruct_configured
from haq.reconstruction.running import Asked as ReconstructionAsked
from haq.searching.running import SearchResult, search_configured
from haq.tasks import TaskLike, as_task

__all__ = ["finetune", "load_policy", "reconstruct", "search", "simulate"]


def search(
    model: nn.Module | str = "digits_cnn",
    task: TaskLike = "digits",
    *,
    out: str | Path | None = None,
    resume: bool = False,
    time_limit_s: float | None = None,
    watcher: Watcher = SILENT,
    **settings: Any,
) -> SearchResult:
    """Find the bits of every layer, within a budget, that lose the least accuracy (HAQ, Wang et al., CVPR 2019).

    `model` and `task` are objects, or names as on the command line; `task` may be a mapping of data sets of (input,
    label), or of loaders of batches of them, with the names `calibration`, `search`, `report` and, if there are more,
    `selection` and `train`. `settings` are the fields of
    `haq.config.SearchConfig`: hardware, objective, budget (a ratio of the 8-bit cost, a text such as "12ms", or a
    mapping such as {"latency": 0.6, "size": "250kB"}), episodes, seed and others. With `max_accuracy_drop`, in points
    of accuracy such as 0.5, in place of a budget the least cost is looked for.
    `out` keeps the run in a folder; `resume` continues one that was interrupted, that a time limit ended, or that is
    to have more `episodes` than it had. When a search has taken `time_limit_s`, its preparation and earlier sessions
    included, it ends with the best policy so far. The network is not changed.

    Raises UserError, UnsupportedError or BudgetError for what cannot be done, before the first episode.
    """
    task = as_task(task)
    config = search_config(**names_of(model, task), **settings)
    inputs = Inputs.of(model, task)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run" if out is None else Path(out)
        result = search_configured(
            config, path, inputs=inputs, resume=resume and out is not None, time_limit_s=time_limit_s, watcher=watcher
        )
        _draw(out)
    warn_caller(result.summary["warnings"])
    return result if out is not None else replace(result, path=None)


def finetune(
    model: nn.Module | str | None = None,
    task: TaskLike | None = None,
    *,
    policy: PolicyLike = (4, 4),
    out: str | Path | None = None,
    resume: bool = False,
    watcher: Watcher = SILENT,
    **settings: Any,
) -> FinetuneResult:
    """Train a network with a policy on it: weights, and the scales and shifts of all quantizers.

    `model` and `task` are objects, or names as on the command line, and `task` may be a mapping, as in `haq.search`;
    without them those of the run that the policy lies in, else the digits network and its data. `policy` is one, its
    file, the folder of its run, or (w_bits, a_bits) for every layer but the first and the last. `settings` are the
    fields of `haq.quantization.training.config.FinetuneConfig`, such as epochs, lr and oscillation, and those of
    `haq.config.SearchConfig` that are about network, data, quantizers, device and seed. `out` keeps the run in a
    folder; `resume` goes on with one that was interrupted. The network that is given is not changed.

    Raises UserError or UnsupportedError for what cannot be done, before the first step; UserError for a loss that
    becomes NaN.
    """
    task = None if task is None else as_task(task)
    learning = {name: settings.pop(name) for name in list(settings) if name in FinetuneConfig.model_fields}
    start = starting_point(policy, search_config(**names_of(model, task), **settings))
    asked = Asked(start.config, finetune_config(**learning), start.policy, start.example)
    inputs = Inputs.of(model, task)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run" if out is None else Path(out)
        result = finetune_configured(asked, path, inputs=inputs, resume=resume and out is not None, watcher=watcher)
        _draw(out)
    warn_caller(result.summary["warnings"])
    return result if out is not None else replace(result, path=None)


def reconstruct(
    model: nn.Module | str | None = None,
    task: TaskLike | None = None,
    *,
    policy: PolicyLike = (4, 8),
    out: str | Path | None = None,
    watcher: Watcher = SILENT,
    **settings: Any,
) -> ReconstructionResult:
    """Let rounding, scales and biases of a policy learn from the float network's outputs on the calibration images.

    `model` and `task` are objects, or names as on the command line, and `task` may be a mapping, as in `haq.search`;
    without them those of the run that the policy lies in, else the digits network and its data. `policy` is one, its
    file, the folder of its run, or (w_bits, a_bits) for every layer but the first and the last. `settings` are the
    fields of `haq.reconstruction.config.ReconstructionConfig`, and those of `haq.config.SearchConfig` that are about
    network, data, quantizers, device and seed. `out` keeps the run in a folder. The network that is given is not
    changed.

    Raises UserError or UnsupportedError for what cannot be done, before the first step; UserError for a loss that
    becomes NaN.
    """
    task = None if task is None else as_task(task)
    own = {name: settings.pop(name) for name in list(settings) if name in ReconstructionConfig.model_fields}
    start = starting_point(policy, search_config(**names_of(model, task), **settings), inherited=QUANTIZER_SETTINGS)
    asked = ReconstructionAsked(start.config, reconstruction_config(**own), start.policy, start.example)
    inputs = Inputs.of(model, task)
    if out is not None:
        return reconstruct_configured(asked, Path(out), inputs=inputs, watcher=watcher)
    with TemporaryDirectory() as folder:
        result = reconstruct_configured(asked, Path(folder) / "run", inputs=inputs, watcher=watcher)
    return ReconstructionResult(result.policy, result.summary, None)


def simulate(
    model: nn.Module | str = "digits_cnn",
    policy: Policy | None = None,
    *,
    w_bits: int | None = 8,
    a_bits: int | None = 8,
    exclude_first_last: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Latency, energy, size and bit operations of a policy, or of uniform bits, on a device.

    `settings` are fields of `haq.config.SearchConfig`, such as hardware, batch and input. Returns the document that
    `haq simulate --json` prints. Raises UserError or UnsupportedError for what cannot be priced.

    >>> document = simulate("digits_cnn", hardware="bismo-edge", w_bits=4, a_bits=4)
    >>> document["totals"]["weight_bytes"] == sum(layer["weight_bytes"] for layer in document["layers"])
    True
    """
    name = model if isinstance(model, str) else type(model).__name__
    config = search_config(model=name, **settings)
    priced = load_priced(config, model=None if isinstance(model, str) else model)
    layers = priced.layers
    bits = uniform_bits(layers, w_bits=w_bits, a_bits=a_bits) if policy is None else policy_bits(layers, policy, name)
    refused = priced.refused
    return simulation(name, priced.table, bits, refused=refused, exclude_first_last=exclude_first_last).to_json()


def _draw(out: str | Path | None) -> None:
    """Draw the figures of a run that is kept."""
    if out is not None:
        from haq.report.plots import draw_missing  # matplotlib takes longer to import than all the rest

        draw_missing(Path(out))
