"""Quantizers of weights and activations, their calibration, and the errors that they cause."""

from haq.quantization.adaptive import AdaptiveQuantizer
from haq.quantization.affine import AffineFit, affine_fits
from haq.quantization.calibration import CALIBRATION_METHODS, clips, distortion
from haq.quantization.gptq import Feedback, gptq_codes
from haq.quantization.histogram import Histogram, HistogramBuilder, build_histogram
from haq.quantization.kmeans import Codebook, codebook_bytes, kmeans_codebook, kmeans_codebooks
from haq.quantization.linear import (
    QuantizedWeight,
    QuantizerParameters,
    activation_quantizer,
    activation_quantizers,
    quantize_to_clips,
    quantize_weight,
    weight_clips,
)
from haq.quantization.range import IntegerRange, dequantize, fake_quantize, quantize, round_half_even

__all__ = [
    "CALIBRATION_METHODS",
    "AdaptiveQuantizer",
    "AffineFit",
    "Codebook",
    "Feedback",
    "Histogram",
    "HistogramBuilder",
    "IntegerRange",
    "QuantizedWeight",
    "QuantizerParameters",
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
