"""Settings of a reconstruction."""

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from haq.errors import UserError, validation_message

Count = Annotated[int, Field(strict=True, ge=1, le=10**9)]
Rate = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class ReconstructionConfig(BaseModel):
    """Immutable, validated settings of a reconstruction; the fields are flags of `haq reconstruct`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    workflow: ClassVar[str] = "reconstruct"

    steps: Count = Field(128, description="Training steps.")
    batch_size: Count = Field(8, description="Calibration images in one step.")
    code_lr: Rate = Field(0.003, description="Learning rate of weights, in steps of their grid.")
    scale_lr: Rate = Field(0.003, description="Learning rate of scales, relative to them.")
    bias_lr: Rate = Field(0.01, description="Learning rate of biases, in standard deviations of the output.")


def reconstruction_config(**settings: Any) -> ReconstructionConfig:
    """Validate settings of a reconstruction.

    Args:
        settings: Fields of `ReconstructionConfig`.

    Returns:
        The settings.

    Raises:
        UserError: A value is not valid; the message names the setting, the value and valid values.

    Examples:
        >>> reconstruction_config(steps=20).batch_size
        8
    """
    try:
        return ReconstructionConfig(**settings)
    except ValidationError as error:
        raise UserError(validation_message(error, as_flag=True)) from error
