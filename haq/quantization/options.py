"""Settings of the quantizers of a network."""

from dataclasses import dataclass

from haq.quantization.calibration import MethodChoice
from haq.quantization.weight_scales import ANY_SCALES, ScaleRule
from haq.settings import QuantizerName, Rounding, ZeroPoints


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizerOptions:
    """Settings of the quantizers of a network.

    Attributes:
        method: Calibration method of the clips, see `haq.quantization.calibration`; or one for each bit width.
        weights: Quantizer of weights.
        zero_points: Zero points of activations.
        rounding: Rounding of linear weights. Layers without a Hessian (`input_hessians.has_hessian`), such as
            embeddings, transposed convolutions and layers with shared weights, are rounded to nearest in any case.
        weight_scales: Rule for the scales of weights.
        power_of_two_inputs: Whether scales of activations are powers of two.
    """

    method: MethodChoice = "mse"
    weights: QuantizerName = "linear"
    zero_points: ZeroPoints = "auto"
    rounding: Rounding = "nearest"
    weight_scales: ScaleRule = ANY_SCALES
    power_of_two_inputs: bool = False

    @property
    def rules(self) -> tuple[ZeroPoints, ScaleRule, bool]:
        """Options that a deployment target restricts."""
        return self.zero_points, self.weight_scales, self.power_of_two_inputs
