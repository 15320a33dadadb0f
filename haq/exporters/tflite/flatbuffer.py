"""Writing of TFLite flatbuffers: tensors, constants and operators of one graph."""

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haq.errors import UserError

CONSTANT_ALIGNMENT = 16
"""Alignment of constants in bytes, which the schema demands and vector units need."""
FILE_IDENTIFIER = b"TFL3"
Constant = NDArray[np.int8] | NDArray[np.uint8] | NDArray[np.int32]


def schema() -> ModuleType:
    """Import the classes of the TFLite schema.

    Returns:
        The module.

    Raises:
        UserError: ai-edge-litert is not installed.
    """
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError:
        raise UserError("tflite files need ai-edge-litert; install it with: pip install 'haq[export]'") from None
    module: ModuleType = schema_py_generated
    return module


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quantization:
    """Scales and zero points of a tensor.

    Attributes:
        scale: One scale, or one for each channel, float32.
        zero_point: Zero point of all channels.
        axis: Axis of the channels.
    """

    scale: NDArray[np.float32]
    zero_point: int = 0
    axis: int = 0


@dataclass(frozen=True, slots=True)
class Operator:
    """Operator of the graph by its code in the schema.

    Attributes:
        name: Name of the built-in operator, or of a custom one.
        version: Version of the operator, as its types demand.
        options: Name of the class of its options without the ending `T`; empty for none.
    """

    name: str
    version: int = 1
    options: str = ""


@dataclass(eq=False)
class GraphWriter:
    """Builder of a file of one graph: tensors and operators are added, then `finish` gives the content.

    Attributes:
        types: Classes of the schema.
    """

    types: ModuleType = field(default_factory=schema)
    _tensors: list[Any] = field(default_factory=list)
    _buffers: list[Any] = field(default_factory=list)
    _operators: list[Any] = field(default_factory=list)
    _codes: dict[Operator, int] = field(default_factory=dict)
    _constants: dict[tuple[str, tuple[int, ...], bytes], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._buffers.append(self.types.BufferT())  # buffer 0 stands for no data

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        *,
        dtype: str = "INT8",
        quantization: Quantization | None = None,
        data: NDArray[np.uint8] | None = None,
    ) -> int:
        """Add a tensor.

        Args:
            name: Name of the tensor.
            shape: Its shape, with a batch of 1.
            dtype: Name of its type in the schema.
            quantization: Scales and zero points.
            data: Bytes of a constant.

        Returns:
            Index of the tensor.
        """
        made = self.types.TensorT()
        made.name, made.shape = name, np.array(shape, np.int32)
        made.type = getattr(self.types.TensorType, dtype)
        made.hasRank = True
        if quantization is not None:
            made.quantization = self._quantization(quantization)
        if data is not None:
            made.buffer = len(self._buffers)
            buffer = self.types.BufferT()
            buffer.data = data
            self._buffers.append(buffer)
        self._tensors.append(made)
        return len(self._tensors) - 1

    def constant(self, name: str, values: Constant, quantization: Quantization | None = None) -> int:
        """Add a constant; equal ones without scales are stored once.

        Args:
            name: Name of the tensor.
            values: Its values.
            quantization: Scales and zero points.

        Returns:
            Index of the tensor.
        """
        key = (values.dtype.name, values.shape, values.tobytes())
        if quantization is None and key in self._constants:
            return self._constants[key]
        data = np.frombuffer(values.tobytes(), np.uint8)
        index = self.tensor(name, values.shape, dtype=values.dtype.name.upper(), quantization=quantization, data=data)
        if quantization is None:
            self._constants[key] = index
        return index

    def operator(self, operator: Operator, inputs: tuple[int, ...], output: int, **options: object) -> None:
        """Add an operator behind those that are there.

        Args:
            operator: Operator.
            inputs: Indices of its input tensors.
            output: Index of its output tensor.
            options: Attributes of its options.
        """
        made = self.types.OperatorT()
        made.opcodeIndex = self._codes.setdefault(operator, len(self._codes))
        made.inputs, made.outputs = np.array(inputs, np.int32), np.array([output], np.int32)
        if operator.options:
            made.builtinOptionsType = getattr(self.types.BuiltinOptions, operator.options)
            made.builtinOptions = getattr(self.types, f"{operator.options}T")()
            for name, value in options.items():
                setattr(made.builtinOptions, name, value)
        self._operators.append(made)

    def finish(self, name: str, source: int, output: int) -> bytes:
        """Write the file.

        Args:
            name: Name of the network.
            source: Index of the input tensor.
            output: Index of the output tensor.

        Returns:
            Content of the file.
        """
        graph = self.types.SubGraphT()
        graph.name, graph.tensors, graph.operators = name, self._tensors, self._operators
        graph.inputs, graph.outputs = np.array([source], np.int32), np.array([output], np.int32)
        model = self.types.ModelT()
        model.version, model.description, model.subgraphs, model.buffers = 3, "haq", [graph], self._buffers
        model.operatorCodes = [self._code(operator) for operator in self._codes]
        builder = _make_builder()
        builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
        return bytes(builder.Output())

    def _quantization(self, quantization: Quantization) -> Any:
        made = self.types.QuantizationParametersT()
        made.scale = quantization.scale.astype(np.float32).reshape(-1)
        made.zeroPoint = np.full(made.scale.shape, quantization.zero_point, np.int64)
        made.quantizedDimension = quantization.axis
        return made

    def _code(self, operator: Operator) -> Any:
        made = self.types.OperatorCodeT()
        builtin = getattr(self.types.BuiltinOperator, operator.name, None)
        if builtin is None:
            made.customCode, builtin = operator.name, self.types.BuiltinOperator.CUSTOM
        made.builtinCode, made.version = builtin, operator.version
        made.deprecatedBuiltinCode = min(builtin, 127)  # older readers read this field only
        return made


def _make_builder() -> Any:
    """Return a builder of flatbuffers that aligns constants and stores equal vectors once."""
    import flatbuffers

    class SharingBuilder(flatbuffers.Builder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(1 << 16)
            self._vectors: dict[tuple[str, bytes], int] = {}

        def CreateNumpyVector(self, x: NDArray[Any]) -> int:  # noqa: N802
            key = (x.dtype.str, x.tobytes())
            if key not in self._vectors:
                if x.dtype == np.uint8:
                    self.Prep(CONSTANT_ALIGNMENT, x.size)
                self._vectors[key] = super().CreateNumpyVector(x)
            return self._vectors[key]

    return SharingBuilder()
