"""Runtimes of TFLite files: execution, and comparison with the integer reference operation by operation."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from haq.execution.structures import Structure, tensors
from haq.exporters.deployable import Deployable
from haq.exporters.formats import Export, FormatName
from haq.exporters.integer.comparison import compare_operations
from haq.exporters.integer.lowering import integer_network
from haq.exporters.integer.network import Codes, IntegerNetwork
from haq.exporters.protocols import LayerCodes
from haq.exporters.tflite.interpreters import LiteRt, Quantization, TfliteMicro, missing_library
from haq.exporters.tflite.storage import DECODE_NAME
from haq.exporters.tflite.writing import TfliteModel, write_model
from haq.tasks.predictions import Runner

MAX_IMAGES = 512
"""Number of images for `haq verify`: reference kernels compute about 300 million products a second."""
BATCH = 16
"""Number of images that are executed together."""


class TfliteRuntime:
    """Runtime of TFLite files.

    Args:
        name: Name of the runtime.
        library: Name under which its library is imported.
        interpreter: Class of its interpreter.
        decodes_tables: Whether it decodes lookup tables. For one that does not, the same network is written without.
    """

    format: FormatName = "tflite"
    max_images: int | None = MAX_IMAGES

    def __init__(
        self, name: str, library: str, interpreter: type[LiteRt | TfliteMicro], *, decodes_tables: bool
    ) -> None:
        self.name, self._library = name, library
        self._interpreter, self._decodes_tables = interpreter, decodes_tables

    def missing(self) -> str | None:
        return missing_library(self._library)

    def runner(self, export: Export, network: Deployable) -> Runner:
        content = export.main
        if not self._decodes_tables and DECODE_NAME.encode() in content:
            content = self._model(export, network).content
        interpreter = self._interpreter(content)

        def run(inputs: Structure) -> torch.Tensor:
            codes = _codes(inputs, interpreter.source)
            parts = [interpreter.run(codes[start : start + BATCH]) for start in range(0, len(codes), BATCH)]
            return _values(np.concatenate(parts), interpreter.output)

        return run

    def layer_codes(self, export: Export, network: Deployable, inputs: Structure) -> Iterator[LayerCodes]:
        model = self._model(export, network)
        interpreter = self._interpreter(model.content, keep_all=True)
        indices = tuple(model.indices.values())
        items = [interpreter.tensors(codes[None], indices) for codes in _codes(inputs, interpreter.source)]
        found = dict(zip(model.indices, map(np.concatenate, zip(*items, strict=True)), strict=True))
        layers = [layer.name for layer in network.policy.layers]
        yield from compare_operations(model.network, channels_first(model.network, found), layers)

    def _model(self, export: Export, network: Deployable) -> TfliteModel:
        """Return the file with the indices of its tensors; without tables if the runtime does not decode them."""
        tables = self._decodes_tables and DECODE_NAME.encode() in export.main
        return write_model(integer_network(network, export.bits), lookup_tables=tables)


def litert() -> TfliteRuntime:
    """Create the runtime `litert`.

    Returns:
        The runtime.
    """
    return TfliteRuntime("litert", "ai_edge_litert", LiteRt, decodes_tables=False)


def tflm() -> TfliteRuntime:
    """Create the runtime `tflm`.

    Returns:
        The runtime.
    """
    return TfliteRuntime("tflm", "tflite_micro", TfliteMicro, decodes_tables=True)


def channels_first(network: IntegerNetwork, found: Mapping[str, Codes]) -> dict[str, Codes]:
    """Convert tensors of a file to the layout of an integer network.

    Args:
        network: Integer network.
        found: Codes by tensor, [n, height, width, channels].

    Returns:
        Codes by tensor, [n, *shape].
    """
    return {name: np.moveaxis(codes, -1, 1).reshape(-1, *network.tensors[name].shape) for name, codes in found.items()}


def _codes(inputs: Structure, quantization: Quantization) -> Codes:
    """Quantize inputs [n, ...] to the grid of a file, with the channels of images last."""
    values: np.ndarray = next(iter(tensors(inputs))).detach().to(torch.float32).numpy()
    codes = np.rint(values / np.float32(quantization.scale)) + quantization.zero_point
    codes = codes.clip(-128, 127).astype(np.int8)
    return np.ascontiguousarray(np.moveaxis(codes, 1, -1)) if codes.ndim == 4 else codes


def _values(codes: Codes, quantization: Quantization) -> torch.Tensor:
    """Dequantize outputs of a file to [n, ...], with the channels of images first."""
    if codes.ndim == 4:
        codes = np.ascontiguousarray(np.moveaxis(codes, -1, 1))
    return torch.from_numpy((codes.astype(np.float32) - quantization.zero_point) * np.float32(quantization.scale))
