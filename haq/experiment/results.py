"""Results of runs, collected and written so that `haq.experiment.artifact` can read them."""

from collections.abc import Mapping
from typing import Any

from haq.config import SearchConfig
from haq.evaluation.engines.finetuned import EpisodeEngine
from haq.evaluation.protocols import CorrectingEngine
from haq.execution.structures import Structure
from haq.experiment.network_state import save_state, storable_state
from haq.experiment.policy_source import user_callables
from haq.experiment.problem import Network
from haq.experiment.quantized_policy import QuantizedPolicy, TrainedState, describe_quantizers
from haq.experiment.stored_example import save_example
from haq.experiment.stored_layers import save_layers
from haq.network.layers import Trace
from haq.policy import Policy
from haq.quantization.training.initialization import LearnedShift
from haq.quantization.training.network import TrainableNetwork
from haq.runs.code_origins import record_callables
from haq.runs.run_folder import POLICY, QUANTIZERS, SUMMARY, RunFolder
from haq.runs.tensor_files import save_tensors


def save_source(run: RunFolder, config: SearchConfig, trace: Trace, example: Structure) -> None:
    """Write the files of a run that precede its result: layers, input of the trace, and a record of the code it calls.

    Args:
        run: Folder of the run.
        config: Settings with the names of model and data.
        trace: Layers of the network.
        example: Input [1, ...] that they were traced with.
    """
    save_layers(run, trace)
    save_example(run, example)
    record_callables(run.path, user_callables(config).values())


def save_result(run: RunFolder, quantized: QuantizedPolicy, summary: Mapping[str, Any]) -> None:
    """Write the result of a run, which completes its artifact after `save_source`.

    Args:
        run: Folder of the run.
        quantized: The policy with its quantizers, corrections and trained weights.
        summary: Results; written last, which marks the run as finished.
    """
    if quantized.trained is not None:
        save_state(run, quantized.trained.values)
    save_tensors(run.path / QUANTIZERS, quantized.tensors or {})
    run.write(POLICY, quantized.policy.to_json().encode())
    run.write_json(SUMMARY, summary)


def quantized_policy(network: Network, policy: Policy) -> QuantizedPolicy:
    """Collect the quantizers, corrections and weights that an engine computed for a policy.

    Args:
        network: Network whose engine ran the policy.
        policy: Bits of all layers.

    Returns:
        The policy, in version 2, with its quantizers, corrections and, if the engine trains, weights.
    """
    engine, bits, trained = network.engine, (policy.w_bits, policy.a_bits), None
    if isinstance(engine, EpisodeEngine):
        tuned = engine.network(bits)
        tensors, trained = tuned.quantizer_tensors(), trained_state(tuned, engine.shift)
    else:
        names = tuple(layer.name for layer in policy.layers)
        tensors = network.quantizers.tensors(*bits)
        if isinstance(engine, CorrectingEngine):
            tensors |= engine.corrections(bits).tensors(names)
    described = describe_quantizers(policy, tensors, network.priced.layers).in_version_2(weights=network.priced.weights)
    return QuantizedPolicy(described, tensors, trained)


def trained_state(network: TrainableNetwork, shift: LearnedShift) -> TrainedState:
    """Return the weights of a trained network in the form in which they are saved.

    Args:
        network: The trained network.
        shift: How zero points of inputs were learned.

    Returns:
        The state.

    Raises:
        UserError: The state dict holds values that cannot be saved; see `storable_state`.
    """
    values, rest = storable_state(network.model)
    return TrainedState({**values, **rest}, shift)
