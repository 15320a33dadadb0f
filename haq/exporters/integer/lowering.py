"""Lowering of a network with its policy to an integer network."""

from collections.abc import Iterable
from weakref import WeakKeyDictionary

from haq.errors import UserError
from haq.evaluation.engines.onnxruntime.errors import NotExportableError
from haq.evaluation.engines.onnxruntime.template import Template
from haq.execution.structures import Structure
from haq.exporters.deployable import Deployable
from haq.exporters.integer.calibration import calibrate_tensors
from haq.exporters.integer.grids import Grid, stored_grid
from haq.exporters.integer.network import IntegerNetwork
from haq.exporters.integer.reading import read_steps
from haq.exporters.integer.reading.state import ELSEWHERE
from haq.exporters.integer.storage import plan_storage
from haq.exporters.integer.writing import Writer
from haq.policy import PolicyBits
from haq.quantization.calibration import MethodChoice
from haq.quantization.corrections import Corrections
from haq.quantization.linear import QuantizedWeight
from haq.quantization.quantizers import Quantizers

_LOWERED: WeakKeyDictionary[Deployable, dict[PolicyBits, IntegerNetwork]] = WeakKeyDictionary()
"""Integer networks by network and bits: several runtimes compare themselves with the same one."""


def integer_network(network: Deployable, bits: PolicyBits | None = None) -> IntegerNetwork:
    """Lower a network with its policy to operations on int8 codes.

    Args:
        network: Network with its policy.
        bits: (w_bits, a_bits) of every layer; those of the policy if None.

    Returns:
        The integer network; the same object for the same arguments.

    Raises:
        UserError: A layer or an operator has no integer form; the message names it.
    """
    bits = bits or network.bits
    lowered = _LOWERED.setdefault(network, {})
    if bits not in lowered:
        data, config = network.network.task, network.artifact.config
        lowered[bits] = lower_to_integers(
            _template(network),
            network.quantizers,
            bits,
            corrections=network.corrections_of(bits),
            batches=(inputs for inputs, _ in data.batches("calibration", batch_size=config.eval_batch)),
        )
    return lowered[bits]


def _template(network: Deployable) -> Template:
    """Return the ONNX graph of a network; raise UserError if it has none, or a product that has no integer form."""
    product = next((layer.name for layer in network.trace.layers if not layer.has_weights), None)
    if product is not None:
        raise UserError(f"layer {product} multiplies two activations, which has no form in integers alone; {ELSEWHERE}")
    try:
        return network.template
    except NotExportableError as error:
        raise UserError(f"{error.reason}; use --format packed, which holds the weights alone") from error


def lower_to_integers(
    template: Template,
    quantizers: Quantizers,
    bits: PolicyBits,
    *,
    corrections: Corrections,
    batches: Iterable[Structure],
    method: MethodChoice = "mse",
) -> IntegerNetwork:
    """Lower the graph of a network to operations on int8 codes.

    Args:
        template: Graph without the quantizers, weights and biases of its layers.
        quantizers: Quantizers of weights and activations.
        bits: (w_bits, a_bits) of every layer.
        corrections: Corrections of the policy.
        batches: Calibration inputs, for the tensors that no layer quantizes.
        method: Calibration method of these tensors.

    Returns:
        The integer network.

    Raises:
        UserError: A layer or an operator has no integer form; the message names it.
    """
    steps = read_steps(template, corrections)
    weights, grids = _layers(template, quantizers, bits)
    plan = plan_storage(steps, grids)
    calibrated = calibrate_tensors(template, quantizers, plan.calibrated, batches, method=method)
    return Writer(steps, plan, weights=weights, calibrated=calibrated).network()


def _layers(template: Template, quantizers: Quantizers, bits: PolicyBits) -> tuple[list[QuantizedWeight], list[Grid]]:
    """Return the weights of all layers and the grids of their inputs."""
    weights, grids = [], []
    for layer, (product, w_bits, a_bits) in enumerate(zip(template.products, *bits, strict=True)):
        if w_bits is None or a_bits is None:
            raise UserError(
                f"layer {product.name} is left in float, and a network in integers alone needs 1 to 8 bits for weights "
                f"and inputs of every layer; {ELSEWHERE}"
            )
        quantizer = quantizers.activation(layer, a_bits)
        if quantizer is None:
            raise UserError(f"layer {product.name} reads indices, and has no form in integers alone; {ELSEWHERE}")
        weights.append(quantizers.codes(layer, w_bits))
        grids.append(stored_grid(quantizer))
    return weights, grids
