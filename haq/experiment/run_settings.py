"""The settings that hold for a policy: one rule for every command that takes a run or a policy file.

What the user gives explicitly wins over the run that the policy lies in, the run over the policy file, and that over
the defaults.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from haq.config import SearchConfig, search_config
from haq.costs.pricing import PricedLayers
from haq.errors import UserError
from haq.experiment.loading import load_priced
from haq.experiment.stored_layers import load_example, load_layers, save_layers
from haq.network.layers import Trace
from haq.policy import Policy, load_policy
from haq.runs.code_origins import record_callables, require_recorded
from haq.runs.run_folder import CONFIG, POLICY, RunFolder

_CALLABLE = ("model", "data")
"""Settings that may name code."""
_NETWORK = ("model", "weights", "data", "input", "resize", "crop")
"""Settings that decide what is traced."""
RECONSTRUCT = "reconstruct"
"""The key of `config.json` that holds how quantizers learned in a reconstruction."""


@dataclass(frozen=True, slots=True)
class PolicySource:
    """A policy, the run that it lies in, and the settings that hold for it.

    `config` may name code that has not been checked: call `allow_code` before the model or the data are loaded.
    """

    path: Path
    """Of the policy file."""
    policy: Policy
    run: RunFolder | None
    """None where the policy lies in no run."""
    run_config: SearchConfig | None
    """The settings of the run."""
    config: SearchConfig
    given: frozenset[str]
    """Names of the settings that the user gave."""
    notify: Callable[[str], None]
    """Receives a line for every callable that is about to be called because the files name it."""

    @property
    def is_runs_own(self) -> bool:
        """Whether the policy is the one that the run found."""
        if self.run is None:
            return False
        own = self.run.path / POLICY
        return own == self.path or (own.is_file() and load_policy(own).layers == self.policy.layers)

    def allow_code(self, *, replaced: Collection[str] = ()) -> None:
        """Raise UserError unless the code that the files name was called by this user for this run.

        `replaced` are settings, of model and data, that an object stands in for, so that they are not called.
        """
        named = {name: getattr(self.config, name) for name in _CALLABLE if name not in {*self.given, *replaced}}
        for line in require_recorded(self.path.parent, named):
            self.notify(line)

    def layers(self) -> Trace | None:
        """The layers that the run kept; None where it kept none, or another network, data or input was given."""
        if self.run is None or self.given & set(_NETWORK):
            return None
        return load_layers(self.run)

    def example(self) -> Tensor | None:
        """The input that the run traced its network with; None as for `layers`."""
        if self.run is None or self.given & set(_NETWORK):
            return None
        return load_example(self.run)

    def priced(self) -> PricedLayers:
        """The layers with their costs on the device of the settings; the network is loaded only where it has to be.

        Raises UserError where the policy does not fit, or code would have to be called that is not known.
        """
        layers = self.layers()
        if layers is None:
            self.allow_code()
        priced = load_priced(self.config, layers=layers)
        self.policy.check_fits(priced.layers, model=priced.name)
        return priced


def policy_source(
    path: Path,
    config: SearchConfig,
    *,
    inherited: Collection[str] | None = None,
    notify: Callable[[str], None] = lambda _: None,
) -> PolicySource:
    """Read a policy, given by its file or the folder of its run, and resolve the settings for it.

    `config` holds what the user gave (`model_fields_set`). Of the run's settings those named in `inherited` hold, or
    all. Raises UserError for a folder without a policy, and for files that are damaged.
    """
    path = policy_path(path)
    policy = load_policy(path)
    run, run_config = _run_settings(path.parent)
    settings = {} if run_config is None else {name: getattr(run_config, name) for name in run_config.model_fields_set}
    own = {"model": policy.model} | ({"hardware": policy.hardware} if policy.hardware else {})
    given = {name: getattr(config, name) for name in config.model_fields_set}
    chosen = settings if inherited is None else {name: settings[name] for name in settings.keys() & set(inherited)}
    merged = search_config(**{**own, **chosen, **given})
    return PolicySource(path, policy, run, run_config, merged, frozenset(given), notify)


def policy_path(source: Path) -> Path:
    """The policy file of a run, or the file itself. Raises UserError for a folder that holds none."""
    if not source.is_dir():
        return source
    if not (source / POLICY).is_file():
        raise UserError(f"{source} holds no {POLICY}; give the folder of a finished run, or a policy file")
    return source / POLICY


def keep_source(run: RunFolder, config: SearchConfig, trace: Trace, example: Tensor) -> None:
    """Keep what later commands need: the layers of a network, the input of its trace, and the origin of its code."""
    save_layers(run, trace, example)
    record_callables(run.path, (config.model, config.data))


def _run_settings(folder: Path) -> tuple[RunFolder | None, SearchConfig | None]:
    run = RunFolder(folder)
    document = run.read_json(CONFIG)
    if document is None and (folder / CONFIG).exists():
        raise UserError(f"{folder / CONFIG} is damaged; restore it, or take the policy file out of this folder")
    if document is None:
        return None, None
    settings = {name: value for name, value in document.items() if name in SearchConfig.model_fields}
    try:
        return run, search_config(**settings)
    except UserError as error:
        raise UserError(f"{folder / CONFIG} is damaged: {error}") from error


def is_reconstructed(run: RunFolder) -> bool:
    """Whether a folder is that of a reconstruction."""
    return RECONSTRUCT in (run.read_json(CONFIG) or {})
