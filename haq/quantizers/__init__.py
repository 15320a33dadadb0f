"""How numbers become few-bit integers, where they are clipped, and what that costs in precision."""

from haq.quantizers.adaptive import AdaptiveQuantizer
from haq.quantizers.affine import AffineFit, affine_fits
from haq.quantizers.calibration import CALIBRATION_METHODS, CalibrationMethod, clips, distortion
from haq.quantizers.gptq import Feedback, gptq_codes
from haq.quantizers.histogram import Histogram, HistogramBuilder, build_histogram
from haq.quantizers.kmeans import Codebook, codebook_bytes, kmeans_codebook, kmeans_codebooks
from haq.quantizers.linear import (
    QuantizedWeight,
    QuantizerParameters,
    ZeroPoints,
    activation_quantizer,
    activation_quantizers,
    quantize_to_clips,
    quantize_weight,
    weight_clips,
)
from haq.quantizers.range import IntegerRange, dequantize, fake_quantize, quantize, round_half_even

__all__ = [
    "CALIBRATION_METHODS",
    "AdaptiveQuantizer",
    "AffineFit",
    "CalibrationMethod",
    "Codebook",
    "Feedback",
    "Histogram",
    "HistogramBuilder",
    "IntegerRange",
    "QuantizedWeight",
    "QuantizerParameters",
    "ZeroPoints",
    "activation_quantizer",
    "activation_quantizers",
    "affine_fits",
    "build_histogram",
    "clips",
    "codebook_bytes",
    "dequantize",
    "distortion",
    "fake_quantize",
    "gptq_codes",
    "kmeans_codebook",
    "kmeans_codebooks",
    "quantize",
    "quantize_to_clips",
    "quantize_weight",
    "round_half_even",
    "weight_clips",
]
