"""Settings of the training of float networks."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from haq.errors import UserError, validation_message
from haq.quantization.training.config import Count, Dropout, Rate, Weight

DEFAULT_RATES = {"adam": 0.002, "sgd": 20.0}
"""Default learning rate of each optimizer; that of SGD is for recurrent language models with clipped gradients."""


class TrainingConfig(BaseModel):
    """Immutable, validated settings of the training of a float network; the fields are flags of `haq train`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: Count = Field(20, description="Passes over the train split.")
    batch_size: Count = Field(32, description="Items in one step; of text, streams that are read side by side.")
    optimizer: Literal["adam", "sgd"] = Field("adam", description="Optimizer: Adam, or SGD without momentum.")
    lr: Rate | None = Field(None, description="Learning rate at the start; 0.002 for Adam, 20 for SGD by default.")
    max_gradient_norm: Weight = Field(0.25, description="Norm to which gradients are clipped; 0 for no clipping.")
    plateau_factor: Annotated[float, Field(gt=1, le=1000, allow_inf_nan=False)] = Field(
        4.0, description="Divisor of the learning rate after an epoch that does not improve the score."
    )
    dropout: Dropout | None = Field(
        None, description="Probability of all dropout in the network; the network's own by default."
    )

    @property
    def first_rate(self) -> float:
        """Learning rate at the start."""
        return DEFAULT_RATES[self.optimizer] if self.lr is None else self.lr


def training_config(**settings: Any) -> TrainingConfig:
    """Validate settings of training.

    Args:
        settings: Fields of `TrainingConfig`.

    Returns:
        The settings.

    Raises:
        UserError: A value is not valid; the message names the setting, the value and what would be right.

    Examples:
        >>> training_config(epochs=2).first_rate
        0.002
    """
    try:
        return TrainingConfig(**settings)
    except ValidationError as error:
        raise UserError(validation_message(error, as_flag=True)) from error
