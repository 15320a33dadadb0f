"""Quantizers of activations: the inputs of layers, and the second operands of products of two activations."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from haq.execution.structures import device_of
from haq.network.layers import Trace
from haq.quantization.calibration_pass import Calibration
from haq.quantization.histogram import Histogram
from haq.quantization.linear import QuantizerParameters
from haq.quantization.operands import OperandKey
from haq.quantization.range import fake_quantize

_PARTS = ("scale", "zero_point", "range")
"""Stored tensors of an activation quantizer; `range` is (q_min, q_max)."""


class ActivationQuantizers:
    """Quantizers of all activations of a network, one for each tensor and bit width, computed on first use and kept.

    Args:
        model: Float network.
        trace: Its trace.
        calibration: Function that returns the observations of the calibration inputs. It is called when a quantizer is
            first needed.
        fit: Function that chooses a quantizer from a histogram and a bit width.
    """

    def __init__(
        self,
        model: nn.Module,
        trace: Trace,
        calibration: Callable[[], Calibration],
        fit: Callable[[Histogram, int], QuantizerParameters],
    ) -> None:
        self._model, self._trace, self._calibration, self._fit = model, trace, calibration, fit
        self._found: dict[tuple[OperandKey, int], tuple[QuantizerParameters, Tensor]] = {}
        self._warnings: tuple[str | None, ...] = ()

    @property
    def warning(self) -> str | None:
        """Warning about calls that the trace does not have, or None.

        The calibration inputs are run if they were not run yet, unless the warning is known.
        """
        return self._warnings[0] if self._warnings else self._calibration().warning

    def know_warning(self, warning: str | None) -> None:
        """Set the warning of an earlier calibration on the same inputs, of which quantizers are loaded.

        Args:
            warning: The warning, or None.
        """
        self._warnings = (warning,)

    def quantizer(self, operand: OperandKey, bits: int) -> QuantizerParameters | None:
        """Return the quantizer of an activation.

        Args:
            operand: Layer and operand.
            bits: Bit width, 1 to 8.

        Returns:
            The quantizer; None if the operand is not a float tensor.
        """
        found = self._quantizer(operand, bits)
        return found[0] if found else None

    def quantize(self, x: Tensor, operand: OperandKey, bits: int) -> Tensor:
        """Fake-quantize an activation; the values are without the offset of the quantizer.

        Args:
            x: Values of any shape.
            operand: Layer and operand.
            bits: Bit width, 1 to 8.

        Returns:
            Values on the grid, in the shape of x; x itself if it is not a float tensor.
        """
        found = self._quantizer(operand, bits) if x.is_floating_point() else None
        if found is None:
            return x
        quantizer, scale = found
        x = x - quantizer.offset if quantizer.offset else x
        return fake_quantize(x, scale, quantizer.zero_point, quantizer.q_min, quantizer.q_max)

    def tensors(self, operand: OperandKey, bits: int) -> dict[str, Tensor]:
        """Return the parameters of a quantizer as they are stored.

        Args:
            operand: Layer and operand.
            bits: Bit width, 1 to 8.

        Returns:
            `LAYER.OPERAND.scale`, `.zero_point` and `.range`, and `.offset` if it has one; none if the operand is not a
            float tensor.
        """
        found = self._quantizer(operand, bits)
        if found is None:
            return {}
        quantizer, scale = found
        integers = (quantizer.zero_point, (quantizer.q_min, quantizer.q_max))
        values = (scale, *(torch.tensor(each, dtype=torch.int32) for each in integers))
        parts = dict(zip(_PARTS, values, strict=True))
        if quantizer.offset:
            parts["offset"] = torch.tensor(quantizer.offset, dtype=torch.float32)
        return {f"{self._name(operand)}.{part}": value for part, value in parts.items()}

    def load(self, tensors: Mapping[str, Tensor], operand: OperandKey, bits: int) -> None:
        """Restore a quantizer, so that it is not calibrated again; a quantizer that is not stored is left out.

        Args:
            tensors: Stored tensors by name.
            operand: Layer and operand.
            bits: Bit width.

        Raises:
            ValueError: The stored quantizer has more bits.
        """
        name = self._name(operand)
        if f"{name}.scale" not in tensors:
            return
        scale, zero_point, bounds = (tensors[f"{name}.{part}"] for part in _PARTS)
        q_min, q_max = bounds.tolist()
        if q_max - q_min >= 2**bits:
            raise ValueError(f"codes of {name} exceed {bits} bits: {q_min}..{q_max}")
        quantizer = QuantizerParameters(
            bits=bits,
            signed=q_min < 0,
            scale=scale.item(),
            zero_point=int(zero_point),
            q_min=q_min,
            q_max=q_max,
            offset=tensors[f"{name}.offset"].item() if f"{name}.offset" in tensors else 0.0,
        )
        self._found[operand, bits] = (quantizer, scale)

    def _quantizer(self, operand: OperandKey, bits: int) -> tuple[QuantizerParameters, Tensor] | None:
        """Return a quantizer and its scale [] on the device of the network; None if the operand is not float."""
        if (operand, bits) not in self._found:
            histogram = self._calibration().histograms.get(operand)
            if histogram is None:
                return None
            quantizer = self._fit(histogram, bits)
            device = device_of(tuple(self._model.parameters()))
            self._found[operand, bits] = (quantizer, torch.tensor(quantizer.scale, dtype=torch.float32, device=device))
        return self._found[operand, bits]

    def _name(self, operand: OperandKey) -> str:
        layer, which = operand
        return f"{self._trace.layers[layer].name}.{which}"
