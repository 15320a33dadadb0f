"""How a policy is reconstructed: one frozen value, checked at the door."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from haq.errors import UserError, validation_message

Count = Annotated[int, Field(strict=True, ge=1, le=10**9)]
Rate = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class ReconstructionConfig(BaseModel):
    """Everything that decides how quantizers learn; the fields are flags of `haq reconstruct`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: Count = Field(128, description="Steps of learning.")
    batch_size: Count = Field(8, description="Calibration images of one step.")
    code_lr: Rate = Field(0.003, description="Learning rate of weights, in steps of their grid.")
    scale_lr: Rate = Field(0.003, description="Learning rate of scales, relative to them.")
    bias_lr: Rate = Field(0.01, description="Learning rate of biases, in standard deviations of the output.")


def reconstruction_config(**settings: Any) -> ReconstructionConfig:
    """A checked configuration. Raises UserError, naming the setting, the value it had and what would be right.

    >>> reconstruction_config(steps=20).batch_size
    8
    """
    try:
        return ReconstructionConfig(**settings)
    except ValidationError as error:
        raise UserError(validation_message(error, as_flag=True)) from error
