"""The folder of a fine-tuning run: what it is known by, what is kept, and the network that comes out of it again."""

import json
from collections.abc import Mapping
from typing import Any

from torch import nn

from haq.errors import UserError
from haq.finetuning.config import finetune_config
from haq.finetuning.network import Saved, TrainableNetwork, load_network
from haq.layers import Trace
from haq.policy import Policy
from haq.run_dir import CONFIG, QUANTIZERS, RunDir

JOURNAL, NETWORK, CURVE = "epochs.jsonl", "network.safetensors", "learning_curve.png"
SETTINGS = "finetune"
"""The key of `config.json` by which a folder is known as a fine-tuning run."""

Json = Mapping[str, Any]


def is_finetuned(run: RunDir) -> bool:
    """Whether a folder is that of a fine-tuning run, finished or not."""
    return SETTINGS in (run.read_json(CONFIG) or {})


def save_network(run: RunDir, network: TrainableNetwork) -> None:
    """Write weights, buffers and quantizers."""
    run.save_tensors(NETWORK, network.model.state_dict())
    run.save_tensors(QUANTIZERS, network.quantizer_tensors())


def load_finetuned(run: RunDir, model: nn.Module, trace: Trace, policy: Policy) -> TrainableNetwork:
    """The fine-tuned network of a run, in eval mode; `model` gives the structure and is not changed.

    Raises UserError where the run is not finished, or its files do not fit the network.
    """
    settings = (run.read_json(CONFIG) or {}).get(SETTINGS)
    weights, quantizers = run.load_tensors(NETWORK), run.load_tensors(QUANTIZERS)
    if settings is None or weights is None or quantizers is None:
        raise UserError(f"{run.path} holds no finished fine-tuning; go on with haq finetune --resume")
    shift = finetune_config(**settings).shift
    return load_network(model, trace, (policy.w_bits, policy.a_bits), Saved(weights, quantizers, shift))


def append_epoch(run: RunDir, line: Json) -> None:
    """Add one line to the journal."""
    with (run.path / JOURNAL).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, allow_nan=False) + "\n")


def epochs(run: RunDir) -> list[dict[str, Any]]:
    """The journal up to the last whole line."""
    path, found = run.path / JOURNAL, list[dict[str, Any]]()
    for text in path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []:
        try:
            found.append(json.loads(text))
        except ValueError:
            break
    return found


def keep_epochs(run: RunDir, count: int) -> None:
    """Cut the journal after so many lines."""
    run.write(JOURNAL, "".join(json.dumps(line) + "\n" for line in epochs(run)[:count]).encode())
