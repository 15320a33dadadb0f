"""Artifact of a search, a fine-tuning or a reconstruction: a policy with everything needed to run and explain it.

An artifact is stored in the folder of its run:

- `policy.json`: bits of all layers, cost and accuracy.
- `quantizers.safetensors`: scales, zero points, codes and corrections.
- `network.safetensors`: weights of the network, if the run changed them.
- `layers.json`, `example.safetensors`: traced layers, and the input that they were traced with.
- `config.json`, `summary.json`: settings, with the names of model and data, and results.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from haq.config import SearchConfig
from haq.costs.deployment import deployment_target, require_deployable
from haq.costs.pricing import PricedLayers
from haq.errors import UserError
from haq.execution.structures import Structure
from haq.experiment.inputs import Inputs
from haq.experiment.loading import load_priced, load_traced
from haq.experiment.network_state import NETWORK, load_state
from haq.experiment.policy_source import RECONSTRUCT, PolicySource, RunSettings, policy_source
from haq.experiment.quantized_policy import QuantizedPolicy, TrainedState
from haq.experiment.quantizer_settings import quantizer_options
from haq.experiment.restoration import restored_network
from haq.experiment.target_quantizers import require_legal_quantizers
from haq.network.layers import Trace
from haq.policy import Policy
from haq.quantization.corrections import Corrections
from haq.runs.run_folder import QUANTIZERS, SUMMARY, RunFolder
from haq.runs.tensor_files import load_tensors
from haq.settings import DECIDE_QUANTIZERS, QUANTIZER_SETTINGS


@dataclass(frozen=True, eq=False)
class Artifact:
    """Policy of a run with its quantizers, corrections and trained weights, its layers and its settings.

    Loading one needs neither network nor data; `model` needs the network, and the data only if the folder holds no
    quantizers or no example input.

    Attributes:
        quantized: The policy with its quantizers, corrections and trained weights, if the run stored them.
        source: Folder of the run, and the settings: those of the run, overridden by those given to `haq.load`.
        example: Input [1, ...] of the trace; None as for `trace`.
        inputs: Objects that replace the model and the data that the settings name.
        is_temporary: Whether the folder of the run is removed after the run.
    """

    quantized: QuantizedPolicy
    source: PolicySource
    example: Structure | None = None
    inputs: Inputs = field(default_factory=Inputs)
    is_temporary: bool = False

    @property
    def policy(self) -> Policy:
        """Bits of all layers."""
        return self.quantized.policy

    @property
    def config(self) -> SearchConfig:
        """Settings, with the names of model, data and device."""
        return self.source.config

    @property
    def path(self) -> Path | None:
        """Folder of the run; None for a policy outside a run, and for a run that was not kept."""
        return None if self.source.folder is None or self.is_temporary else self.source.folder.path

    @cached_property
    def trace(self) -> Trace | None:
        """Traced layers; None if the folder has none, or another network or input was given.

        Raises:
            UserError: The file is damaged.
        """
        return self.source.layers()

    @cached_property
    def summary(self) -> Mapping[str, Any] | None:
        """Contents of `summary.json`; None for a run that is not finished, and a policy outside a run.

        Raises:
            UserError: The file is damaged.
        """
        folder = self.source.folder
        return _summary(folder) if folder and self.source.is_runs_own else None

    @property
    def quantizers(self) -> Mapping[str, Tensor]:
        """Parameters of quantizers and corrections by name, such as `LAYER.weight.scale`; empty if none are stored."""
        return self.quantized.tensors or {}

    @property
    def corrections(self) -> Corrections:
        """Corrections of biases and batch norm statistics; empty if none are stored."""
        return self.quantized.corrections

    @property
    def network_state(self) -> Mapping[str, Any] | None:
        """State dict of the network if the run trained it; None if its weights are those of the float network."""
        return None if self.quantized.trained is None else self.quantized.trained.values

    @cached_property
    def priced(self) -> PricedLayers:
        """Layers with their costs on the device of the settings; loads the network only if there is no `trace`.

        Raises:
            UserError: The policy does not fit the layers or the deployment target, or the network cannot be loaded.
        """
        layers = self.trace
        if layers is None:
            self.allow_code()
            task = self.inputs.task
            example = task.example() if self.example is None and task is not None else self.example
            layers = load_traced(self.config, model=self.inputs.model, example=example)
        priced = load_priced(self.config, layers=layers)
        self.policy.check_fits(priced.layers, model=priced.name)
        require_deployable(deployment_target(self.config), self.policy.layers, layers=priced.layers, heads=priced.heads)
        return priced

    @cached_property
    def model(self) -> nn.Module:
        """Quantized network in evaluation mode, with corrections, on the device of the settings.

        A `TrainableNetwork` if the run trained the network, else a `QuantizedModel`. It computes what the torch engine
        does: its accuracy on the report split is that of the summary if that engine evaluated the run. If onnxruntime
        did, in integers, outputs differ by rounding, and the accuracy by a few images.

        Raises:
            UserError: The network cannot be loaded or differs, or haq has no record that this user ran its code.
        """
        self.allow_code()
        return restored_network(self.config, self.quantized, example=self.example, inputs=self.inputs)

    def allow_code(self) -> None:
        """Check that the code that the files name may be called.

        Raises:
            UserError: haq has no record that this user called this code for this run.
        """
        objects = {"model": self.inputs.model, "data": self.inputs.task}
        self.source.allow_code(replaced=[name for name, value in objects.items() if value is not None])


def load_artifact(
    policy: Path | Policy,
    config: SearchConfig | None = None,
    *,
    inputs: Inputs | None = None,
    notify: Callable[[str], None] = lambda _: None,
) -> Artifact:
    """Read an artifact. No code is run, and neither the network nor the data are loaded.

    Args:
        policy: Folder of a run, a policy file, or a policy.
        config: Settings that override those of the run, in `model_fields_set`.
        inputs: Objects that replace model and data.
        notify: Receives a line for every callable that is about to be called because the files name it.

    Returns:
        The artifact. It contains the quantizers of the run if the policy is that of the run and no setting was given
        that they depend on; else they are computed from the calibration data when they are needed.

    Raises:
        UserError: The folder holds no policy, or a file is damaged.
    """
    source = policy_source(policy, config or SearchConfig(), notify=notify)
    return Artifact(_quantized(source), source, example=source.example(), inputs=inputs or Inputs())


def load_temporary(path: Path, inputs: Inputs) -> Artifact:
    """Read an artifact as a whole, so that it does not need its folder any more.

    Args:
        path: Folder of the run.
        inputs: Objects that replace model and data.

    Returns:
        The artifact, whose `path` is None.

    Raises:
        UserError: A file is damaged.
    """
    artifact = replace(load_artifact(path, inputs=inputs), is_temporary=True)
    _ = artifact.trace, artifact.summary  # read now and kept
    return artifact


def _summary(folder: RunFolder) -> dict[str, Any] | None:
    """Return the summary; None for a run that is not finished. Raises UserError if the file is damaged."""
    document = folder.read_json(SUMMARY)
    if document is None and (folder.path / SUMMARY).exists():
        raise UserError(f"{folder.path / SUMMARY} is damaged: it holds no JSON object; go on with the run by --resume")
    return document


def _quantized(source: PolicySource) -> QuantizedPolicy:
    """Return the policy, with the contents of the run's files if it is the policy of the run."""
    run, folder = source.run, source.folder
    if run is None or folder is None or not source.is_runs_own:
        return QuantizedPolicy(source.policy)
    path = folder.path / QUANTIZERS
    tensors = load_tensors(path)
    if run.trains or run.workflow == RECONSTRUCT:
        require_legal_quantizers(deployment_target(source.config), tensors or {})
    changed = _changed_quantizers(source.config, run.config)
    if run.trains:
        # Trained weights and quantizers take other data, but no other quantizers.
        _require_learned(folder, [name for name in changed if name in QUANTIZER_SETTINGS])
        return QuantizedPolicy(source.policy, tensors, _trained(folder, run, tensors), path)
    if run.workflow == RECONSTRUCT:
        _require_learned(folder, [name for name in changed if name != "deploy"])  # the target takes what was learned
        if tensors is None:
            raise UserError(f"{path} is missing, which holds what was learned; reconstruct the policy again")
        return QuantizedPolicy(source.policy, tensors, path=path)
    return QuantizedPolicy(source.policy, None if changed else tensors, path=path)


def _require_learned(folder: RunFolder, changed: Sequence[str]) -> None:
    """Raise UserError for settings that differ from those that the quantizers of a run were learned with."""
    if changed:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise UserError(f"the quantizers of {folder.path} learned with other settings; leave out {flags}")


def _trained(folder: RunFolder, run: RunSettings, tensors: Mapping[str, Tensor] | None) -> TrainedState:
    """Return the weights of a run that trains. Raises UserError if the run is not finished, or a file is damaged."""
    values = load_state(folder)
    if values is not None and tensors is not None:
        return TrainedState(values, run.shift)
    missing = NETWORK if values is None else QUANTIZERS
    again = "make the run again in another --out" if folder.is_finished else f"go on with haq {run.workflow} --resume"
    raise UserError(f"{folder.path} holds no trained network: {missing} is missing or damaged; {again}")


def _changed_quantizers(ours: SearchConfig, theirs: SearchConfig) -> list[str]:
    """Return the settings that quantizers and corrections depend on and that differ from those of the run."""
    changed = [name for name in DECIDE_QUANTIZERS if getattr(ours, name) != getattr(theirs, name)]
    now, before = quantizer_options(ours), quantizer_options(theirs)
    equal = {"rounding"} if now.rounding == before.rounding else set()
    if now.rules == before.rules:
        equal |= {"deploy", "zero_points"}
    return [name for name in changed if name not in equal]
