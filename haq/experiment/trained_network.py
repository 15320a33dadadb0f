"""The folder of a fine-tuning run: what it is known by, what is kept, and the network that comes out of it again."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, ValidationError
from torch import Tensor, nn

from haq.errors import UserError
from haq.execution.user_code import one_line
from haq.files import append_line
from haq.network.layers import Trace
from haq.policy import Policy
from haq.quantization.training.config import finetune_config
from haq.quantization.training.network import Saved, TrainableNetwork, load_network
from haq.runs.records import Amount, Count, Finite, Metric, Record
from haq.runs.run_folder import CONFIG, QUANTIZERS, RunFolder

JOURNAL, NETWORK, CURVE = "epochs.jsonl", "network.safetensors", "learning_curve.png"
SETTINGS = "finetune"
"""The key of `config.json` by which a folder is known as a fine-tuning run."""
_REST = "state"
"""The key of a file's metadata for what of the network's state dict is no tensor."""

Json = Mapping[str, Any]


class Epoch(Record):
    """A line of the journal; what else it says is kept."""

    model_config = ConfigDict(extra="allow")

    epoch: Count
    loss: Finite
    train_accuracy: Finite
    search_accuracy: Finite


class TrainerState(Record):
    """Where a training stands, and all that its next step depends on."""

    epoch: Count
    learner: dict[str, Any]


class Checkpoint(Record):
    """Everything that the next epoch depends on."""

    seconds: Amount
    trainer: TrainerState


class Summary(Record):
    """What readers need of a finished fine-tuning."""

    metric: Metric
    accuracy_fp32: Finite
    accuracy: Finite
    search_accuracy_fp32: Finite
    search_accuracy_start: Finite
    search_accuracy: Finite
    search_images: Count
    report_images: Count
    epochs: Count
    steps: Count
    mean_weight_bits: Amount
    seconds: Amount
    warnings: tuple[str, ...]


def has_trained_network(run: RunFolder) -> bool:
    """Whether a folder is that of a run whose policy belongs to a network that it trained, finished or not."""
    config = run.read_json(CONFIG) or {}
    return SETTINGS in config or bool(config.get("episode_finetune_steps"))


def save_network(run: RunFolder, network: TrainableNetwork) -> None:
    """Write weights, buffers, extra state and quantizers. Raises UserError as `storable_state` does."""
    tensors, rest = storable_state(network.model)
    run.save_tensors(NETWORK, tensors, metadata={_REST: json.dumps(rest)} if rest else None)
    run.save_tensors(QUANTIZERS, network.quantizer_tensors())


def storable_state(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a network's state dict, and the rest, such as the extra state of modules, as plain JSON values.

    Raises UserError, naming it, for what is neither.
    """
    try:
        state = model.state_dict()
    except Exception as error:  # a user's get_extra_state may raise anything
        raise UserError(f"the network gives no state_dict: {one_line(error)}") from error
    rest = {name: value for name, value in state.items() if not isinstance(value, Tensor)}
    unfit = [f"{name} ({type(value).__name__})" for name, value in rest.items() if not _is_json(value)]
    unfit += [f"{name} ({value.layout})" for name, value in state.items() if getattr(value, "is_sparse", False)]
    if unfit:
        raise UserError(
            f"the network cannot be saved: {', '.join(unfit)} in its state_dict; tensors and plain JSON values can"
        )
    return {name: value for name, value in state.items() if name not in rest}, rest


def _is_json(value: Any) -> bool:
    """Whether a value is the same after it was written as JSON."""
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError, RecursionError):
        return False


def load_finetuned(run: RunFolder, model: nn.Module, trace: Trace, policy: Policy) -> TrainableNetwork:
    """The fine-tuned network of a run, in eval mode; `model` gives the structure and is not changed.

    Raises UserError where the run is not finished, or its files do not fit the network.
    """
    # A search that fine-tunes every policy leaves the settings of fine-tuning at their defaults.
    settings = (run.read_json(CONFIG) or {}).get(SETTINGS, {})
    weights, quantizers = run.load_tensors(NETWORK), run.load_tensors(QUANTIZERS)
    if not isinstance(settings, dict):
        raise _unfinished(run, CONFIG)
    if weights is None or quantizers is None:
        raise _unfinished(run, NETWORK if weights is None else QUANTIZERS)
    shift = finetune_config(**settings).shift
    state = {**weights, **_load_rest(run)}
    return load_network(model, trace, (policy.w_bits, policy.a_bits), Saved(state, quantizers, shift))


def _load_rest(run: RunFolder) -> dict[str, Any]:
    """What the state_dict of a network holds beside tensors. Raises UserError for a file that is damaged."""
    try:
        rest = json.loads(run.load_metadata(NETWORK).get(_REST, "{}"))
    except (ValueError, RecursionError):
        rest = None
    if not isinstance(rest, dict):
        raise UserError(f"{run.path / NETWORK} is damaged: its extra state is no JSON object")
    return rest


def _unfinished(run: RunFolder, missing: str) -> UserError:
    """What is to be done without a file: nothing goes on with a run that has its summary."""
    command = "finetune" if SETTINGS in (run.read_json(CONFIG) or {}) else "search"
    remedy = "make the run again in another --out" if run.is_finished else f"go on with haq {command} --resume"
    return UserError(f"{run.path} holds no trained network: {missing} is missing or damaged; {remedy}")


def append_epoch(run: RunFolder, line: Json) -> None:
    """Add one line to the journal."""
    append_line(run.path / JOURNAL, json.dumps(line, allow_nan=False))


def epochs(run: RunFolder) -> list[dict[str, Any]]:
    """The journal up to the first line that no epoch of a run wrote."""
    path, found = run.path / JOURNAL, list[dict[str, Any]]()
    for text in path.read_bytes().split(b"\n")[:-1] if path.is_file() else []:
        try:
            line = Epoch.model_validate_json(text)
        except ValidationError:
            break
        if line.epoch != len(found) + 1:
            break
        found.append(line.model_dump())
    return found


def keep_epochs(run: RunFolder, count: int) -> None:
    """Cut the journal after so many lines."""
    run.write(JOURNAL, "".join(json.dumps(line) + "\n" for line in epochs(run)[:count]).encode())
