"""Comparison of integer inference in onnxruntime with fake quantization in torch, layer by layer and end to end.

Rounding is not continuous: a value halfway between two codes may get either, since float32 sums of the same products in
another order differ. One different code changes others in all later layers, so that the quantization errors of the
outputs are different samples, and outputs alone do not show whether the cause is rounding or a defect. So layers are
compared on equal inputs, where differences do not accumulate; and the difference of outputs is compared with that
between torch and torch with as many codes moved by one step.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isnan

import torch
from torch import Tensor

from haq.evaluation.chunks import chunk_size
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
from haq.quantization.activations import OperandKey
from haq.quantization.corrections import Corrections
from haq.tasks.predictions import Runner

TIE = 0.01
"""Largest distance, in steps, from the border between two codes of a value whose code may differ: a tie.

Float32 sums in another order change values by at most 0.0002 steps on the networks of results/engine_agreement.md; the
tolerance is larger to allow for longer sums. Kernels that saturate, or round by another rule, differ by half a step or
more.
"""
OUTPUT_ROUNDING = 1e-4
"""Tolerance of outputs computed from equal codes, relative to the largest output: float32 sums in another order."""
SPREAD = 3.0
"""Largest difference of outputs, relative to that caused by moving as many codes, at which engines agree.

Two samples of the same error have differences within 0.7 and 1.4 of each other; the ratio varies more if few codes
differ, since some have more influence.
"""
LAYER_VALUES = 2**19
"""Number of input values on which layers are compared: 3 images of 224x224, or all images if they are small."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Counts of a comparison of the engines with one or more policies.

    Attributes:
        codes: Number of input codes of all layers, computed from equal inputs.
        differing: Number of these that differ.
        farthest: Largest distance from the border between two codes, in steps, of a value whose code differs.
        beyond: Number of codes that differ by more than a tie, by the name of the layer; `outputs` counts outputs of
            the network that differ by more than `OUTPUT_ROUNDING`.
        predictions: Number of predictions end to end, each engine with its corrections.
        other_predictions: Number of predictions of onnxruntime that differ from torch.
        moved_predictions: Number of predictions of torch that differ when as many codes are moved by one step.
        spread: Norm of the difference of outputs, relative to the one that moved codes cause; the largest of all
            policies.
    """

    codes: int = 0
    differing: int = 0
    farthest: float = 0.0
    beyond: Mapping[str, int] = field(default_factory=dict)
    predictions: int = 0
    other_predictions: int = 0
    moved_predictions: int = 0
    spread: float = 0.0

    @property
    def is_close(self) -> bool:
        """Whether the engines differ only by ties, and outputs by at most `SPREAD`."""
        return not self.beyond and self.spread <= SPREAD

    def __add__(self, other: "Agreement") -> "Agreement":
        """Combine two comparisons."""
        names = (*self.beyond, *other.beyond)
        return Agreement(
            self.codes + other.codes,
            self.differing + other.differing,
            max(self.farthest, other.farthest),
            {name: self.beyond.get(name, 0) + other.beyond.get(name, 0) for name in names},
            self.predictions + other.predictions,
            self.other_predictions + other.other_predictions,
            self.moved_predictions + other.moved_predictions,
            max(self.spread, other.spread),
        )

    def __str__(self) -> str:
        """Return a summary in one line."""
        if self.beyond:
            worst = max(self.beyond, key=lambda name: self.beyond[name])
            return (
                f"{sum(self.beyond.values()):,} of {self.codes:,} codes differ from torch by more than ties from equal "
                f"inputs, {self.beyond[worst]:,} of them in {worst}"
            )
        ends = (
            f"end to end {self.other_predictions} of {self.predictions} predictions differ from torch, "
            f"{self.moved_predictions} where as many codes are moved by a step"
        )
        if self.spread > SPREAD:
            return f"{ends}, and outputs {self.spread:.2g} times as far"
        return (
            f"codes from equal inputs and biases are those of torch in every layer but for {self.differing:,} ties of "
            f"{self.codes:,}; {ends}"
        )


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
            return corrections.shift(layer, call, model.quantized(layer, call))

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
