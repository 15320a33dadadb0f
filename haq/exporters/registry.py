"""Registries of exporters and runtimes."""

from collections.abc import Callable, Mapping
from typing import get_args

from haq.errors import UserError, suggestion
from haq.exporters.formats import FormatName
from haq.exporters.protocols import Exporter, Runtime


def _onnx_exporter() -> Exporter:
    from haq.exporters.onnx import OnnxExporter

    return OnnxExporter()


def _packed_exporter() -> Exporter:
    from haq.exporters.packed.exporter import PackedExporter

    return PackedExporter()


def _c_exporter() -> Exporter:
    from haq.exporters.c.exporter import CExporter

    return CExporter()


def _qonnx_exporter() -> Exporter:
    from haq.exporters.qonnx.exporter import QonnxExporter

    return QonnxExporter()


def _tflite_exporter() -> Exporter:
    from haq.exporters.tflite.exporter import TfliteExporter

    return TfliteExporter()


def _aimet_exporter() -> Exporter:
    from haq.exporters.aimet.exporter import AimetExporter

    return AimetExporter()


def _onnxruntime_runtime() -> Runtime:
    from haq.exporters.onnx import OnnxRuntime

    return OnnxRuntime()


def _torch_runtime() -> Runtime:
    from haq.exporters.packed.runtime import PackedRuntime

    return PackedRuntime()


def _c_runtime() -> Runtime:
    from haq.exporters.c.runtimes import host_runtime

    return host_runtime()


def _mcu_runtime() -> Runtime:
    from haq.exporters.c.runtimes import mcu_runtime

    return mcu_runtime()


def _qonnx_runtime() -> Runtime:
    from haq.exporters.qonnx.runtime import QonnxRuntime

    return QonnxRuntime()


def _tflm_runtime() -> Runtime:
    from haq.exporters.tflite.runtimes import tflm

    return tflm()


def _litert_runtime() -> Runtime:
    from haq.exporters.tflite.runtimes import litert

    return litert()


def _encodings_runtime() -> Runtime:
    from haq.exporters.aimet.runtime import EncodingsRuntime

    return EncodingsRuntime()


EXPORTERS: Mapping[FormatName, Callable[[], Exporter]] = {
    "onnx": _onnx_exporter,
    "packed": _packed_exporter,
    "c": _c_exporter,
    "qonnx": _qonnx_exporter,
    "tflite": _tflite_exporter,
    "aimet": _aimet_exporter,
}
"""Exporters by format, as functions that create them, so that their libraries are imported when they are used."""

RUNTIMES: Mapping[str, Callable[[], Runtime]] = {
    "onnxruntime": _onnxruntime_runtime,
    "torch": _torch_runtime,
    "c": _c_runtime,
    "mcu": _mcu_runtime,
    "qonnx": _qonnx_runtime,
    "tflm": _tflm_runtime,
    "litert": _litert_runtime,
    "encodings": _encodings_runtime,
}
"""Runtimes by name, as functions that create them, in the order in which `haq verify` uses them."""


def make_exporter(name: str) -> Exporter:
    """Create the exporter of a format.

    Args:
        name: Name of the format.

    Returns:
        The exporter.

    Raises:
        UserError: There is no such format.
    """
    for known, make in EXPORTERS.items():
        if known == name:
            return make()
    raise UserError(f"--format {name} is unknown; formats are {', '.join(get_args(FormatName))}")


def make_runtime(name: str) -> Runtime:
    """Create a runtime.

    Args:
        name: Name of the runtime.

    Returns:
        The runtime.

    Raises:
        UserError: There is no such runtime.
    """
    if name not in RUNTIMES:
        raise UserError(f"--runtime {name} is unknown{suggestion(name, RUNTIMES)}; runtimes are {', '.join(RUNTIMES)}")
    return RUNTIMES[name]()
