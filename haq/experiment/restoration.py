"""Construction of the runnable quantized network of a policy."""

from collections.abc import Iterable
from copy import deepcopy

from torch import nn

from haq.config import SearchConfig
from haq.costs.deployment import deployment_target, require_deployable
from haq.errors import UserError
from haq.evaluation.engines.finetuned import EpisodeEngine
from haq.evaluation.engines.torch import TorchEngine
from haq.execution.networks import switch_to_eval
from haq.execution.structures import Structure
from haq.execution.user_code import caller_kept
from haq.experiment.inputs import Inputs
from haq.experiment.loading import load_configured
from haq.experiment.preparation import prepare_network, require_device
from haq.experiment.quantized_policy import QuantizedPolicy
from haq.network.layers import trace
from haq.network.tracing.unwrapping import unwrapped
from haq.quantization.options import QuantizerOptions
from haq.quantization.quantized_model import QuantizedModel
from haq.quantization.quantizers import Quantizers


def restored_network(
    config: SearchConfig, quantized: QuantizedPolicy, *, example: Structure | None, inputs: Inputs
) -> nn.Module:
    """Build the quantized network of a policy.

    Args:
        config: Settings with the names of model, data and device, and those of quantizers that are computed.
        quantized: The policy, with its quantizers, corrections and trained weights if they are stored.
        example: Input [1, ...] to trace the network with; None for the first calibration input.
        inputs: Objects that replace model and data; the network is copied.

    Returns:
        The network in evaluation mode. The data are loaded only if quantizers or `example` are missing.

    Raises:
        UserError: The network cannot be loaded, or the policy does not fit it.
    """
    with caller_kept(inputs.model):
        if quantized.tensors is None or example is None:
            return _from_data(config, quantized, example=example, inputs=inputs)
        require_device(config.device)
        found = load_configured(config) if inputs.model is None else unwrapped(inputs.model)
        model = deepcopy(found).to("cpu")
        switch_to_eval(model)
        layers = trace(model, example)
        quantized.policy.check_fits(layers.layers, model=config.model)
        target = deployment_target(config)
        require_deployable(target, quantized.policy.layers, layers=layers.layers, heads=layers.heads)
        model = model.to(config.device)
        if quantized.trained is not None:
            return quantized.trained_network(model, layers)
        quantizers = Quantizers(model, layers, _no_calibration, QuantizerOptions(weights=config.quantizer))
        restored = QuantizedModel(model, layers, quantizers)
        restored.set_corrections(quantized.restore(quantizers, layers, model=model, device=config.device))
        restored.set_bits(*quantized.bits)
        return restored.eval()


def _from_data(
    config: SearchConfig, quantized: QuantizedPolicy, *, example: Structure | None, inputs: Inputs
) -> nn.Module:
    """Return the network as it is prepared for an evaluation in torch."""
    in_torch = config.model_copy(update={"engine": "torch"})
    model = None if inputs.model is None else deepcopy(inputs.model)
    network = prepare_network(in_torch, model=model, task=inputs.task, example=example, quantized=quantized)
    engine, bits = network.engine, quantized.bits
    if quantized.trained is not None:
        return quantized.trained_network(network.priced.model, network.priced.trace)
    if isinstance(engine, EpisodeEngine):
        return engine.network(bits).eval()
    assert isinstance(engine, TorchEngine)
    engine.quantized.set_corrections(engine.corrections(bits))
    engine.quantized.set_bits(*bits)
    return engine.quantized.eval()


def _no_calibration() -> Iterable[Structure]:
    raise UserError("the quantizers of the run lack one that its policy needs; delete them to compute them again")
