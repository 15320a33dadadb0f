"""Settings for a policy: one rule for every command that takes a run or a policy file.

What the user gives explicitly overrides the settings of the policy's run, these override the policy file, and this
overrides the defaults.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from haq.config import SearchConfig, search_config
from haq.costs.deployment import deployment_target, require_deployable
from haq.costs.pricing import PricedLayers
from haq.errors import UserError
from haq.execution.structures import Structure
from haq.experiment.loading import load_priced
from haq.experiment.stored_example import load_example
from haq.experiment.stored_layers import load_layers
from haq.network.layers import Trace
from haq.network.zoo import is_model_name, is_user_model
from haq.policy import Policy, load_policy
from haq.quantization.training.config import finetune_config
from haq.quantization.training.initialization import LearnedShift
from haq.runs.code_origins import require_recorded
from haq.runs.run_folder import CONFIG, POLICY, RunFolder
from haq.tasks import is_user_data

_NETWORK = ("model", "weights", "data", "input", "resize", "crop")
"""Settings that determine the traced layers."""
Workflow = Literal["search", "finetune", "reconstruct"]
FINETUNE: Final = "finetune"
"""Key of `config.json` that holds the settings of a fine-tuning."""
RECONSTRUCT: Final = "reconstruct"
"""Key of `config.json` that holds the settings of a reconstruction; a search has neither key."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Settings of a run, from its `config.json`.

    Attributes:
        config: Settings of network, data, device, quantizers and search.
        workflow: Kind of the run.
        shift: How zero points of inputs are learned where the run trains.
    """

    config: SearchConfig
    workflow: Workflow
    shift: LearnedShift

    @property
    def trains(self) -> bool:
        """Whether the run changes the weights of the network."""
        return self.workflow == FINETUNE or self.config.episode_finetune_steps > 0


@dataclass(frozen=True, slots=True)
class PolicySource:
    """Policy, its run, and the settings for it.

    `config` may name code that has not been checked: call `allow_code` before the model or the data are loaded.

    Attributes:
        path: File of the policy; None for one given as a value.
        policy: The policy.
        run: Settings of the run; None if the policy is in no run folder.
        config: Settings.
        given: Names of the settings that the user gave.
        notify: Receives a line for every callable that is about to be called because the files name it.
    """

    path: Path | None
    policy: Policy
    run: RunSettings | None
    config: SearchConfig
    given: frozenset[str]
    notify: Callable[[str], None]

    @property
    def folder(self) -> RunFolder | None:
        """Folder of the run; None if the policy is in no run folder."""
        return None if self.run is None or self.path is None else RunFolder(self.path.parent)

    @property
    def is_runs_own(self) -> bool:
        """Whether the policy is the result of the run."""
        if self.folder is None:
            return False
        result = self.folder.path / POLICY
        return result == self.path or (result.is_file() and _bits(load_policy(result)) == _bits(self.policy))

    def allow_code(self, *, replaced: Collection[str] = ()) -> None:
        """Check that the code that the files name may be called.

        Args:
            replaced: Settings, `model` or `data`, that an object replaces, so that they are not called.

        Raises:
            UserError: haq has no record that this user called this code for this run, or the model was an object.
        """
        skipped = {*self.given, *replaced}
        if "model" not in skipped:
            self._require_model_name(self.config.model)
        named = {name: spec for name, spec in user_callables(self.config).items() if name not in skipped}
        for line in require_recorded(None if self.path is None else self.path.parent, named):
            self.notify(line)

    def _require_model_name(self, model: str) -> None:
        """Raise UserError for a model that is no name of one, but the class of an object that the run was made with."""
        if not is_model_name(model):
            source = "the policy" if self.folder is None else f"the run in {self.folder.path}"
            raise UserError(
                f"{source} was made with an object as model ({model}): "
                "give it again as model= in Python, or its name by --model"
            )

    def layers(self) -> Trace | None:
        """Return the stored layers of the run; None if there are none, or another network, data or input was given."""
        return None if self.folder is None or self.given & set(_NETWORK) else load_layers(self.folder)

    def example(self) -> Structure | None:
        """Return the stored input that the network was traced with; None as for `layers`."""
        return None if self.folder is None or self.given & set(_NETWORK) else load_example(self.folder)

    def priced(self) -> PricedLayers:
        """Price the layers on the device of the settings.

        The network is loaded only if the run stored no layers.

        Returns:
            The layers with their costs.

        Raises:
            UserError: The policy does not fit the layers or the deployment target, or haq has no record that this user
                ran the network's code.
        """
        layers = self.layers()
        if layers is None:
            self.allow_code()
        priced = load_priced(self.config, layers=layers)
        self.policy.check_fits(priced.layers, model=priced.name)
        require_deployable(deployment_target(self.config), self.policy.layers, layers=priced.layers, heads=priced.heads)
        return priced


def user_callables(config: SearchConfig) -> dict[str, str]:
    """Return the callables of the user that settings name.

    Args:
        config: Settings.

    Returns:
        Names by setting, `model` or `data`.
    """
    named = {"model": config.model} if is_user_model(config.model) else {}
    return named | ({"data": config.data} if is_user_data(config.data) else {})


def policy_source(
    policy: Path | Policy,
    config: SearchConfig,
    *,
    inherited: Collection[str] | None = None,
    notify: Callable[[str], None] = lambda _: None,
) -> PolicySource:
    """Read a policy and resolve the settings for it.

    Args:
        policy: File of the policy, the folder of its run, or the policy itself.
        config: Settings that the user gave, in `model_fields_set`.
        inherited: Names of the settings that are taken from the run; None for all.
        notify: See `PolicySource`.

    Returns:
        The policy with the settings for it.

    Raises:
        UserError: The folder holds no policy, or a file is damaged.
    """
    path, run = None, None
    if isinstance(policy, Path):
        path = policy_path(policy)
        policy, run = load_policy(path), read_run_settings(path.parent)
    settings = {} if run is None else {name: getattr(run.config, name) for name in run.config.model_fields_set}
    named = {"model": policy.model} | ({"hardware": policy.hardware} if policy.hardware else {})
    given = {name: getattr(config, name) for name in config.model_fields_set}
    chosen = settings if inherited is None else {name: settings[name] for name in settings.keys() & set(inherited)}
    merged = search_config(**{**named, **chosen, **given})
    return PolicySource(path, policy, run, merged, frozenset(given), notify)


def policy_path(source: Path) -> Path:
    """Find the policy file of a run.

    Args:
        source: Folder of a run, or a policy file.

    Returns:
        The policy file.

    Raises:
        UserError: The folder contains no policy file.
    """
    if not source.is_dir():
        return source
    if not (source / POLICY).is_file():
        raise UserError(f"{source} holds no {POLICY}; give the folder of a finished run, or a policy file")
    return source / POLICY


def read_run_settings(folder: Path) -> RunSettings | None:
    """Read the settings of a run.

    Args:
        folder: Folder of the run.

    Returns:
        The settings; None if the folder has no `config.json`.

    Raises:
        UserError: The file is damaged.
    """
    document = RunFolder(folder).read_json(CONFIG)
    if document is None and (folder / CONFIG).exists():
        raise UserError(f"{folder / CONFIG} is damaged; restore it, or take the policy file out of this folder")
    if document is None:
        return None
    settings = {name: value for name, value in document.items() if name in SearchConfig.model_fields}
    workflow: Workflow = FINETUNE if FINETUNE in document else RECONSTRUCT if RECONSTRUCT in document else "search"
    try:
        return RunSettings(search_config(**settings), workflow, _shift(document.get(FINETUNE, {})))
    except UserError as error:
        raise UserError(f"{folder / CONFIG} is damaged: {error}") from error


def _shift(learning: object) -> LearnedShift:
    """Return how zero points are learned, from the settings of a fine-tuning; a search uses the default."""
    if not isinstance(learning, dict):
        raise UserError(f"{FINETUNE}: no group of settings")
    return finetune_config(**{name: value for name, value in learning.items() if name == "shift"}).shift


def _bits(policy: Policy) -> list[tuple[object, ...]]:
    return [(layer.name, layer.kind, layer.w_bits, layer.a_bits) for layer in policy.layers]
