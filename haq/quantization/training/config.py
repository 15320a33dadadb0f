"""Settings of fine-tuning."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from haq.errors import UserError, validation_message
from haq.quantization.training.initialization import LearnedShift

OptimizerName = Literal["sgd", "adamw"]
"""Optimizer of the weights."""
Oscillation = Literal["none", "dampen", "freeze"]
"""Treatment of weights that oscillate between two codes."""
Augmentation = Literal["auto", "none", "crop", "flip-crop"]
"""Random changes of training images; `auto` is `flip-crop` for colour images, else `none`."""
Precision = Literal["float32", "bfloat16"]
"""Precision of products in training."""
Learning = Literal["all", "quantizers"]
"""Parameters to train: all, or scales and shifts of quantizers only."""
Count = Annotated[int, Field(strict=True, ge=1, le=10**9)]
Rate = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
Dropout = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


class FinetuneConfig(BaseModel):
    """Immutable, validated settings of fine-tuning; the fields are flags of `haq finetune`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    workflow: ClassVar[str] = "finetune"

    epochs: Count = Field(5, description="Passes over the train split.")
    batch_size: Count = Field(128, description="Images in one step.")
    optimizer: OptimizerName = Field(
        "sgd", description="Optimizer of the weights: SGD with momentum 0.9, or AdamW; both with a cosine schedule."
    )
    lr: Rate | None = Field(
        None, description="Learning rate of the weights; by default chosen by optimizer and mean weight bits."
    )
    scale_lr: Rate = Field(
        0.005,
        description="Adam's learning rate of scales, relative to their start, and shifts, relative to half the range.",
    )
    weight_decay: Weight = Field(
        1e-4, description="Weight decay of the weights; halved for each mean weight bit below 4."
    )
    max_gradient_norm: Weight = Field(0.0, description="Norm to which gradients are clipped; 0 for no clipping.")
    dropout: Dropout | None = Field(
        None, description="Probability of all dropout in the network; the network's own by default."
    )
    shift: LearnedShift = Field(
        "learned",
        description="Zero points of skewed inputs: learned, fixed where calibration puts them, none, or float.",
    )
    learn: Learning = Field("all", description="Parameters to train: all, or scales and shifts only.")
    teacher: bool = Field(default=True, description="Distillation from the outputs of the float network.")
    teacher_weight: Share = Field(0.5, description="Share of the distillation loss.")
    oscillation: Oscillation = Field(
        "none", description="Treatment of weights that oscillate between two codes: none, dampened or frozen."
    )
    dampening: Weight = Field(0.05, description="Weight of the dampening term at the end of training.")
    ema: Annotated[Share, Field(lt=1)] = Field(
        0.0, description="Decay of a moving average of all parameters; 0 for none."
    )
    augment: Augmentation = Field(
        "auto", description="Random crops and flips of train images; auto is both for colour images, else none."
    )
    norm_images: Annotated[int, Field(strict=True, ge=0, le=10**9)] = Field(
        2048, description="Train images for re-estimating batch norms at the end; 0 for no re-estimation."
    )
    precision: Precision = Field("float32", description="Precision of products in training; evaluation is in float32.")


def finetune_config(**settings: Any) -> FinetuneConfig:
    """Validate settings of fine-tuning.

    Args:
        settings: Fields of `FinetuneConfig`.

    Returns:
        The settings.

    Raises:
        UserError: A value is not valid; the message names the setting, the value and what would be right.

    >>> finetune_config(epochs=2).optimizer
    'sgd'
    """
    try:
        return FinetuneConfig(**settings)
    except ValidationError as error:
        raise UserError(validation_message(error, as_flag=True)) from error
