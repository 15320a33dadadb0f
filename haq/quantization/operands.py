"""Names of the activations that are quantized."""

from typing import Literal

Operand = Literal["input", "second_input"]
"""Input of a layer, or the second operand of one that multiplies two activations."""
OperandKey = tuple[int, Operand]
"""Position of a layer, and one of its operands."""
