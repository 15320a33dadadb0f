"""Interpreters of TFLite files: TensorFlow Lite Micro, and LiteRT with its reference kernels."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

from haq.errors import UserError
from haq.exporters.integer.network import Codes

ARENA_BYTES = 4 << 20
"""Memory for what an interpreter keeps beside tensors; pages that it does not touch take none."""
ARENA_FACTOR = 2
"""Memory for tensors over the sum of their bytes, for weights of int4 that kernels unpack, scratch buffers and gaps."""


@dataclass(frozen=True, slots=True)
class Quantization:
    """Quantization parameters of the input or output of a file.

    Attributes:
        scale: Step size.
        zero_point: Code of zero.
    """

    scale: float
    zero_point: int


class Interpreter(Protocol):
    """Executor of one file.

    Attributes:
        source: Quantization of the input.
        output: Quantization of the output.
    """

    source: Quantization
    output: Quantization

    def run(self, codes: Codes) -> Codes:
        """Execute the file.

        Args:
            codes: Input codes [n, ...] in the layout of the file.

        Returns:
            Output codes [n, ...].
        """
        ...

    def tensors(self, codes: Codes, indices: Sequence[int]) -> list[Codes]:
        """Execute the file for one item and read tensors.

        Args:
            codes: Input codes [1, ...] in the layout of the file.
            indices: Indices of int8 tensors of the file.

        Returns:
            Their codes.
        """
        ...


def missing_library(name: str) -> str | None:
    """Return what this machine lacks to import a library, in one line; None if it is here.

    Args:
        name: Name that is imported.

    Returns:
        How to install it.
    """
    if find_spec(name) is not None:
        return None
    return f"{name.replace('_', '-')} is not installed; install it with: pip install 'haq[export]'"


@dataclass(eq=False)
class LiteRt:
    """LiteRT with reference kernels.

    Its optimized kernels and XNNPACK round products once instead of twice and differ in a few codes.

    Attributes:
        content: Content of the file.
        keep_all: Whether all tensors can be read.

    Raises:
        UserError: LiteRT does not execute the file.
    """

    content: bytes
    keep_all: bool = False
    source: Quantization = field(init=False)
    output: Quantization = field(init=False)

    def __post_init__(self) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        try:
            self._interpreter: Any = Interpreter(
                model_content=self.content,
                experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
                experimental_preserve_all_tensors=self.keep_all,
            )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise UserError(f"LiteRT does not execute the file: {str(error).splitlines()[0]}") from None
        self._ends = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()[0]
        self._batch = 1
        self.source, self.output = (Quantization(*end["quantization"]) for end in self._ends)

    def run(self, codes: Codes) -> Codes:
        source, output = (end["index"] for end in self._ends)
        if len(codes) != self._batch:
            self._interpreter.resize_tensor_input(source, codes.shape)
            self._interpreter.allocate_tensors()
            self._batch = len(codes)
        self._interpreter.set_tensor(source, codes)
        self._interpreter.invoke()
        found: Codes = self._interpreter.get_tensor(output)
        return found

    def tensors(self, codes: Codes, indices: Sequence[int]) -> list[Codes]:
        self.run(codes)
        return [self._interpreter.get_tensor(index) for index in indices]


@dataclass(eq=False)
class TfliteMicro:
    """Interpreter of TensorFlow Lite Micro, which executes one item at a time.

    Attributes:
        content: Content of the file.
        keep_all: Whether all tensors can be read.

    Raises:
        UserError: TensorFlow Lite Micro does not execute the file.
    """

    content: bytes
    keep_all: bool = False
    source: Quantization = field(init=False)
    output: Quantization = field(init=False)

    def __post_init__(self) -> None:
        from tflite_micro.python.tflite_micro import runtime

        config = runtime.InterpreterConfig
        try:
            self._interpreter: Any = runtime.Interpreter.from_bytes(
                self.content,
                arena_size=ARENA_BYTES + ARENA_FACTOR * computed_bytes(self.content),
                intrepreter_config=config.kPreserveAllTensors if self.keep_all else config.kAllocationRecording,
            )
        except RuntimeError as error:
            raise UserError(f"TensorFlow Lite Micro does not execute the file: {error}") from None
        ends = self._interpreter.get_input_details(0), self._interpreter.get_output_details(0)
        quantizations = [end["quantization_parameters"] for end in ends]
        self.source, self.output = (
            Quantization(float(each["scales"][0]), int(each["zero_points"][0])) for each in quantizations
        )

    def run(self, codes: Codes) -> Codes:
        outputs = []
        for item in codes:
            self._interpreter.set_input(item[None], 0)
            self._interpreter.invoke()
            outputs.append(self._interpreter.get_output(0))
        return np.concatenate(outputs)

    def tensors(self, codes: Codes, indices: Sequence[int]) -> list[Codes]:
        self.run(codes)
        return [np.array(self._interpreter.GetTensor(index, 0)["tensor_data"]) for index in indices]


def computed_bytes(content: bytes) -> int:
    """Sum the bytes of all tensors of a file that are computed, as if none shared memory.

    Args:
        content: Content of the file.

    Returns:
        Bytes, with four for each entry.
    """
    from tflite_micro.tensorflow.lite.micro.python.schema_py_generated import Model

    model = Model.GetRootAs(content)
    graph = model.Subgraphs(0)
    tensors = (graph.Tensors(index) for index in range(graph.TensorsLength()))
    computed = (tensor for tensor in tensors if model.Buffers(tensor.Buffer()).DataIsNone())
    return 4 * sum(int(np.prod(tensor.ShapeAsNumpy())) for tensor in computed)
