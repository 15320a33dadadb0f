"""How far onnxruntime's integers and torch's fake quantization agree, layer by layer and end to end.

Rounding is not continuous: a value halfway between two codes may take either, since float32 sums of the same products
in another order differ. One code that differs changes others in every later layer, so that at the end the quantization
noise is a different sample. The outputs alone do not show whether that is rounding or an error. So layers are compared
from equal inputs, where nothing builds up, and outputs beside those of torch when it is given as many other codes.
"""

from collections.abc import Mapping, Sequence
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
from haq.quantization.corrections import Corrections
from haq.tasks.predictions import Runner
from hardware_sim.cost import Bits

TIE = 0.01
"""A code may differ where its value lies within this part of a step of the border between the two codes: a tie.
Float32 sums in another order move values by 0.0002 of a step at most on the networks of results/engine_agreement.md;
the rest is room for longer sums. Kernels that saturate, or round by another rule, are off by half a step or more."""
OUTPUT_ROUNDING = 1e-4
"""What outputs of the same codes may differ by, in parts of the largest output: float32 sums in another order."""
SPREAD = 3.0
"""Outputs may differ by this many times what moving as many codes does. Two draws of the same noise lie between 0.7
and 1.4 of each other; few codes that differ, some in places that matter more, spread wider."""
LAYER_VALUES = 2**19
"""Input values that layers are compared on: 3 images of 224x224, all that are tried of small ones."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a comparison of the engines with a few policies counted."""

    codes: int = 0
    """Input codes of all layers, from equal inputs."""
    differing: int = 0
    farthest: float = 0.0
    """From a border, in steps, of the values whose codes differ; the largest."""
    beyond: Mapping[str, int] = field(default_factory=dict)
    """Those that differ by more than a tie, by the layer whose input they are; `outputs` for those of the network."""
    predictions: int = 0
    """End to end, with the corrections that each engine found."""
    other_predictions: int = 0
    moved_predictions: int = 0
    """Predictions of torch that become others when as many codes are moved by a step."""
    spread: float = 0.0
    """The difference of the outputs in units of what moving as many codes makes; of the policy where it is largest."""

    @property
    def is_close(self) -> bool:
        """Whether both compute the same but for ties."""
        return not self.beyond and self.spread <= SPREAD

    def __add__(self, other: "Agreement") -> "Agreement":
        """Both comparisons as one."""
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
        """One line for people."""
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
    """onnxruntime and torch, the reference, on the same traced network."""

    onnxruntime: OnnxEngine
    reference: TorchEngine
    trace: Trace

    @torch.no_grad()
    def compare(self, inputs: Structure, policies: Sequence[PolicyBits]) -> Agreement:
        """Compare on inputs [n, ...] with each of the policies.

        Raises NotExportableError where onnxruntime does not run them.
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
    ) -> tuple[Agreement, dict[int, float]]:
        """Compare input codes and outputs from equal inputs; also answers the share of codes that differ, by layer.

        Torch computes with the biases that the integer graph has, so that only ties are left. A share counts one code
        more than differed: where none of a million does, one of the next million may.
        """
        segments = self.onnxruntime.segments(bits, corrections)
        return self.compare_segments(segments, bits, segments.corrections, inputs)

    @torch.no_grad()
    def compare_segments(
        self, segments: Segments, bits: PolicyBits, corrections: Corrections, inputs: Structure
    ) -> tuple[Agreement, dict[int, float]]:
        """Compare a cut graph with torch, computed with any corrections."""
        given, expected = self._layer_inputs(bits, corrections, inputs)
        outputs, codes = segments.run(inputs, given)
        counts = {layer: self._count(layer, bits[1][layer], given[layer], codes[layer]) for layer in codes}
        beyond = {self.trace.layers[layer].name: count.beyond for layer, count in counts.items() if count.beyond}
        rounding = OUTPUT_ROUNDING * expected.abs().max()
        wrong = int((~((outputs - expected).abs() <= rounding)).sum())  # NaN is wrong
        found = Agreement(
            sum(count.codes for count in counts.values()),
            sum(count.differing for count in counts.values()),
            max(count.farthest for count in counts.values()) if counts else 0.0,
            beyond | ({"outputs": wrong} if wrong else {}),
        )
        return found, {layer: (count.differing + 1) / max(count.codes, 1) for layer, count in counts.items()}

    def compare_outputs(
        self, bits: PolicyBits, corrections: Corrections, inputs: Structure, *, shares: Mapping[int, float]
    ) -> Agreement:
        """Compare what comes out at the end, each engine with the corrections that it finds itself.

        `shares` are those of the codes that are moved in torch, by layer, for a measure of the difference.
        """
        expected = rows(self.reference.corrected(bits, corrections)(inputs)).cpu()
        found = rows(self.onnxruntime.runner(bits)(inputs))
        moved = rows(self.moved(bits, shares)(inputs)).cpu()
        unit = torch.maximum((moved - expected).norm(), OUTPUT_ROUNDING * expected.norm())
        spread = float((found - expected).norm() / unit) if (found != expected).any() else 0.0
        changed = [int((each.argmax(dim=1) != expected.argmax(dim=1)).sum()) for each in (found, moved)]
        return Agreement(
            predictions=item_count(inputs),
            other_predictions=changed[0],
            moved_predictions=changed[1],
            spread=inf if isnan(spread) else spread,
        )

    def moved(self, bits: PolicyBits, shares: Mapping[int, float]) -> Runner:
        """Torch with biases as the integer graph has them and some codes moved, when corrections are found too."""
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
    ) -> tuple[dict[int, Tensor], Tensor]:
        """What torch hands to every layer, before it is quantized, and the network's outputs."""
        model, seen = self.reference.quantized, {}

        def answer(layer: int, call: Call) -> Tensor:
            seen[layer] = call.input.cpu().clone()  # the network may change it in place afterwards
            return corrections.shift(layer, call, model.quantized(layer, call))

        model.set_bits(*bits)
        calls = LayerCalls(model.index, answer, corrections.normalize)
        outputs = run_network(model.model, to_device(inputs, self.reference.device), calls)
        return seen, rows(outputs).cpu()

    def _count(self, layer: int, bits: Bits, given: Tensor, found: Tensor) -> "_Count":
        quantizer = None if bits is None else self.reference.quantized.quantizers.activation(layer, bits)
        assert quantizer is not None, "only inputs that are quantized have codes"
        low, high = quantizer.q_min - quantizer.zero_point, quantizer.q_max - quantizer.zero_point
        steps = (given / quantizer.scale).clamp_(low, high)
        distance = (found - quantizer.zero_point - steps).abs_()
        differing = int((found - quantizer.zero_point != steps.round()).sum())
        farthest = max(float(distance.max()) - 0.5, 0.0)
        return _Count(found.numel(), differing, farthest, int((distance > 0.5 + TIE).sum()))


@dataclass(frozen=True, slots=True)
class _Count:
    """Of the input codes of one layer."""

    codes: int
    differing: int
    farthest: float
    beyond: int
