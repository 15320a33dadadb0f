"""Settings of quantizers from a configuration and its deployment target."""

from dataclasses import replace

from haq.config import SearchConfig
from haq.costs.deployment import deployment_target
from haq.errors import UserError
from haq.quantization.calibration import MethodChoice
from haq.quantization.options import QuantizerOptions
from haq.quantization.weight_scales import ScaleRule
from haq.settings import Rounding

AUTO_METHOD: MethodChoice = "mse"
"""Method of `--calibration auto`, chosen by `scripts/experiments/compare_calibrations.py` on the digits network."""


def quantizer_options(config: SearchConfig) -> QuantizerOptions:
    """Resolve the settings of quantizers, which a deployment target may restrict.

    Args:
        config: Settings of quantizers, episodes and target.

    Returns:
        The options of the quantizers.

    Raises:
        UserError: Settings contradict each other or the target.
        DescriptionError: The target is unknown, or its file invalid.
    """
    rounding, target = rounding_of(config), deployment_target(config)
    method = AUTO_METHOD if config.calibration == "auto" else config.calibration
    options = QuantizerOptions(
        method=method, weights=config.quantizer, zero_points=config.zero_points, rounding=rounding
    )
    if target is None:
        return options
    if config.quantizer == "kmeans":
        raise UserError(f"--deploy {target.name} takes integers, not codebooks; use --quantizer linear")
    if config.episode_finetune_steps > 0 and (target.restricts_scales or not target.zero_points):
        raise UserError(
            f"--episode-finetune-steps learns scales and zero points, which --deploy {target.name} restricts; "
            "leave it out"
        )
    return replace(
        options,
        zero_points=options.zero_points if target.zero_points else "none",
        weight_scales=ScaleRule(
            per_tensor=target.weight_granularity == "per_tensor",
            power_of_two="weights" in target.power_of_two_scales,
        ),
        power_of_two_inputs="activations" in target.power_of_two_scales,
    )


def rounding_of(config: SearchConfig) -> Rounding:
    """Resolve the rounding of weights; `auto` is GPTQ for integers that are not trained.

    See results/rounding_in_search.md.

    Args:
        config: Settings of quantizers and episodes.

    Returns:
        The rounding.

    Raises:
        UserError: The settings require GPTQ for codebooks or for weights that are trained.
    """
    learns = config.episode_finetune_steps > 0
    if config.rounding == "gptq" and config.quantizer == "kmeans":
        raise UserError("--rounding gptq rounds integers, not codebooks; use --quantizer linear")
    if config.rounding == "gptq" and learns:
        raise UserError("--rounding gptq has no part in --episode-finetune-steps, which learns; leave one of them out")
    if config.rounding != "auto":
        return config.rounding
    return "nearest" if config.quantizer == "kmeans" or learns else "gptq"
