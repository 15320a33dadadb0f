"""Comparison of integer inference in onnxruntime with fake quantization in torch, layer by layer and end to end.

Layers are compared on equal inputs, where differences do not accumulate; see `haq.evaluation.engines.agreement`.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isnan

import torch
from torch import Tensor

from haq.evaluation.chunks import chunk_size
from haq.evaluation.engines.agreement import OUTPUT_ROUNDING, TIE, Agreement
from haq.evaluation.engines.moved_codes import MovedCodes
from haq.evaluation.engines.onnxruntime import OnnxEngine
from haq.evaluation.engines.onnxruntime.segments import Segments
from haq.evaluation.engines.torch import TorchEngine
from haq.execution.networks import run_network
from haq.execution.structures import Structure, item_count, rows, take, to_device
from haq.network.layer_calls import LayerCalls
from haq.network.layers import Trace
from haq.network.tracing.weighted_calls import Call
from haq.policy import PolicyBits
from haq.quantization.corrections import Corrections
from haq.quantization.operands import OperandKey
from haq.tasks.predictions import Runner

LAYER_VALUES = 2**19
"""Number of input values on which layers are compared: 3 images of 224x224, or all images if they are small."""


@dataclass(frozen=True, slots=True)
class EnginePair:
    """onnxruntime and torch, the reference, on the same network.

    Attributes:
        onnxruntime: Engine that is compared.
        reference: Engine in torch.
        trace: Trace of the network.
        same_predictions: Function from the outputs of two runs to whether their predictions are the same for each item,
            bool [n]; by default whether the largest outputs are at the same place.
    """

    onnxruntime: OnnxEngine
    reference: TorchEngine
    trace: Trace
    same_predictions: Callable[[Structure, Structure], Tensor] = lambda found, expected: (
        rows(found).argmax(dim=1) == rows(expected).argmax(dim=1)
    )

    @torch.no_grad()
    def compare(self, inputs: Structure, policies: Sequence[PolicyBits]) -> Agreement:
        """Compare the engines with each of some policies: layer by layer on the first inputs, end to end on all.

        Args:
            inputs: Inputs [n, ...].
            policies: (w_bits, a_bits) of every layer, for each policy.

        Returns:
            The counts of all policies together.

        Raises:
            NotExportableError: onnxruntime cannot run a policy.
        """
        found = Agreement()
        few = take(inputs, slice(chunk_size(inputs, LAYER_VALUES)))
        for bits in policies:
            corrections = self.reference.corrections(bits)
            layers, shares = self.compare_layers(bits, corrections, few)
            found += layers + self.compare_outputs(bits, corrections, inputs, shares=shares)
        return found

    def compare_layers(
        self, bits: PolicyBits, corrections: Corrections, inputs: Structure
    ) -> tuple[Agreement, dict[OperandKey, float]]:
        """Compare input codes and outputs of layers that are computed from equal inputs.

        Torch computes with the biases as the integer graph rounds them, so that only ties remain.

        Args:
            bits: (w_bits, a_bits) of every layer.
            corrections: Corrections of both engines.
            inputs: Inputs [n, ...].

        Returns:
            The counts, and the share of codes that differ by operand. The share counts one more code than
            differs, since none among a million does not mean that the probability is 0.

        Raises:
            NotExportableError: onnxruntime cannot run the policy.
        """
        segments = self.onnxruntime.segments(bits, corrections)
        return self.compare_segments(segments, bits, segments.corrections, inputs)

    @torch.no_grad()
    def compare_segments(
        self, segments: Segments, bits: PolicyBits, corrections: Corrections, inputs: Structure
    ) -> tuple[Agreement, dict[OperandKey, float]]:
        """Compare the segments of a graph with torch.

        Args:
            segments: Segments of the graph of a policy.
            bits: (w_bits, a_bits) of every layer.
            corrections: Corrections that torch computes with.
            inputs: Inputs [n, ...].

        Returns:
            The counts, and the share of codes that differ by operand; see `compare_layers`.
        """
        given, expected = self._layer_inputs(bits, corrections, inputs)
        given = {operand: segments.read(operand, tensor) for operand, tensor in given.items()}
        outputs, codes = segments.run(inputs, given)
        counts = {operand: self._count(operand, bits, given[operand], codes[operand]) for operand in codes}
        beyond = Counter[str]()
        for (layer, _), count in counts.items():
            beyond[self.trace.layers[layer].name] += count.beyond
        rounding = OUTPUT_ROUNDING * expected.abs().max()
        wrong = int((~((outputs - expected).abs() <= rounding)).sum())  # NaN is wrong
        found = Agreement(
            sum(count.codes for count in counts.values()),
            sum(count.differing for count in counts.values()),
            max(count.farthest for count in counts.values()) if counts else 0.0,
            +beyond | ({"outputs": wrong} if wrong else {}),
        )
        return found, {operand: (count.differing + 1) / max(count.codes, 1) for operand, count in counts.items()}

    def compare_outputs(
        self, bits: PolicyBits, corrections: Corrections, inputs: Structure, *, shares: Mapping[OperandKey, float]
    ) -> Agreement:
        """Compare the outputs of the network, each engine with the corrections that it computes.

        Args:
            bits: (w_bits, a_bits) of every layer.
            corrections: Corrections of torch.
            inputs: Inputs [n, ...].
            shares: Share of codes to move in torch by operand; the difference that they cause is the unit
                of `Agreement.spread`.

        Returns:
            The counts of predictions, and the spread.

        Raises:
            NotExportableError: onnxruntime cannot run the policy.
        """
        runs = self.reference.corrected(bits, corrections), self.onnxruntime.runner(bits), self.moved(bits, shares)
        outputs = [to_device(run(inputs), "cpu") for run in runs]
        expected, found, moved = map(rows, outputs)
        unit = torch.maximum((moved - expected).norm(), OUTPUT_ROUNDING * expected.norm())
        spread = float((found - expected).norm() / unit) if (found != expected).any() else 0.0
        changed = [int((~self.same_predictions(each, outputs[0])).sum()) for each in outputs[1:]]
        return Agreement(
            predictions=item_count(inputs),
            other_predictions=changed[0],
            moved_predictions=changed[1],
            spread=inf if isnan(spread) else spread,
        )

    def moved(self, bits: PolicyBits, shares: Mapping[OperandKey, float]) -> Runner:
        """Return the network in torch with some codes moved by one step, and biases as the integer graph rounds them.

        Unless corrections are stored, they are computed with moved codes as well.

        Args:
            bits: (w_bits, a_bits) of every layer.
            shares: Share of codes to move by operand.

        Returns:
            The network as a function from inputs [n, ...] to outputs.
        """
        model = MovedCodes(self.reference.quantized, self.trace, shares=shares, seed=0)
        model.set_bits(*bits)
        corrector = self.reference.corrector
        if bits in self.reference.stored or corrector is None:
            corrections = self.reference.corrections(bits)
        else:
            corrections = corrector.with_layers(model.quantized).find()
        return TorchEngine(model, device=self.reference.device).corrected(
            bits, self.onnxruntime.rounded(bits, corrections)
        )

    def _layer_inputs(
        self, bits: PolicyBits, corrections: Corrections, inputs: Structure
    ) -> tuple[dict[OperandKey, Tensor], Tensor]:
        """Return the unquantized operands of all layers in torch, and the outputs of the network."""
        model, seen = self.reference.quantized, dict[OperandKey, Tensor]()

        def answer(layer: int, call: Call) -> Tensor:
            seen[layer, "input"] = call.input.cpu().clone()  # the network may change it in place afterwards
            if not call.has_weights:
                seen[layer, "second_input"] = call.factor.cpu().clone()
            return corrections.correct(layer, call, model.quantized(layer, call))

        model.set_bits(*bits)
        calls = LayerCalls(model.index, answer, corrections.normalize)
        outputs = run_network(model.model, to_device(inputs, self.reference.device), calls)
        return seen, rows(outputs).cpu()

    def _count(self, operand: OperandKey, bits: PolicyBits, given: Tensor, found: Tensor) -> "_Count":
        layer = operand[0]
        quantizer = self.reference.quantized.quantizers.of_operand(operand, (bits[0][layer], bits[1][layer]))
        assert quantizer is not None, "only inputs that are quantized have codes"
        low, high = quantizer.q_min - quantizer.zero_point, quantizer.q_max - quantizer.zero_point
        steps = (given / quantizer.scale).clamp_(low, high)
        distance = (found - quantizer.zero_point - steps).abs_()
        differing = int((found - quantizer.zero_point != steps.round()).sum())
        farthest = max(float(distance.max()) - 0.5, 0.0)
        return _Count(found.numel(), differing, farthest, int((distance > 0.5 + TIE).sum()))


@dataclass(frozen=True, slots=True)
class _Count:
    """Counts of the codes of one operand; the fields are those of `Agreement`."""

    codes: int
    differing: int
    farthest: float
    beyond: int
