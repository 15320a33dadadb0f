"""Exported graphs in the cache: exporting takes seconds, most of them to import the exporter.

A graph is kept under a hash of what it was made from: the network's tensors, modules and source files, its layers, and
the versions of the libraries. Should the hash miss something, the graph answers otherwise than the network: it is only
used where both say the same about an example. Tensors that the network holds are not kept a second time.
"""

import inspect
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import numpy as np
import onnx
import onnxscript
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import numpy_helper, parser
from torch import Tensor, nn

from haq.evaluation.engines.onnxruntime import marking
from haq.evaluation.engines.onnxruntime.errors import NotExportableError
from haq.evaluation.engines.onnxruntime.sessions import open_session, run_session
from haq.evaluation.fingerprint import hash_network
from haq.execution.networks import run_network
from haq.files import write_atomically
from haq.network.layers import Trace
from haq.runs.cache import cache_dir

CLOSE = 1e-3
"""Difference of two float outputs, in parts of the largest, that can be rounding."""


MEANINGS = (
    '<domain: "haq", opset_import: ["" : 18]> Input <layer> (x) => (y) { y = Identity (x) }',
    '<domain: "haq", opset_import: ["" : 18]> Weight <layer> (x) => (y) { y = Identity (x) }',
    """<domain: "haq", opset_import: ["" : 18]> Norm <path, call, epsilon> (x, gamma, beta, mean, variance) => (y)
    { y = BatchNormalization <epsilon: float = @epsilon> (x, gamma, beta, mean, variance) }""",
)
"""What marks compute in float."""
_HELD = "held by the network"


def stored_export(model: nn.Module, trace: Trace, example: Tensor) -> onnx.ModelProto:
    """What `export_marked` gives, from the cache where it is there. Raises NotExportableError or UserError."""
    path = cache_dir() / f"graph-{_key(model, trace, example)}.onnx"
    found = _load(path, model)
    if found is None or not _is_that_of(found, model, example):
        found = marking.export_marked(model, trace, example)
        write_atomically(path, _emptied(found, model).SerializeToString())
    return found


def _key(model: nn.Module, trace: Trace, example: Tensor) -> str:
    digest = blake2b(digest_size=16)
    versions = (torch.__version__, onnx.__version__, onnxscript.__version__)
    digest.update(repr((versions, model, trace, example.dtype, example.shape)).encode())
    hash_network(digest, model)
    for path in sorted({marking.__file__, *_sources(model)}):
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _sources(model: nn.Module) -> Iterator[str]:
    """The files that the classes of a network were written in, but for torch's own."""
    for kind in {type(module) for module in model.modules()}:
        if kind.__module__.partition(".")[0] != "torch":
            with suppress(TypeError):  # written in no file
                yield inspect.getfile(kind)


def _load(path: Path, model: nn.Module) -> onnx.ModelProto | None:
    """A graph from a file, with the network's tensors; None where there is no file, or a damaged one."""
    tensors = {f"model.{name}": tensor for name, tensor in _tensors(model)}
    try:
        found = onnx.load_model_from_string(path.read_bytes())
        for constant in found.graph.initializer:
            if constant.doc_string == _HELD:
                constant.CopyFrom(numpy_helper.from_array(tensors[constant.name].numpy(force=True), constant.name))
    except (OSError, DecodeError, KeyError):
        return None
    return found


def _emptied(graph: onnx.ModelProto, model: nn.Module) -> onnx.ModelProto:
    """The graph without the tensors that the network holds."""
    tensors = {f"model.{name}": tensor for name, tensor in _tensors(model)}
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    for constant in copy.graph.initializer:
        held = tensors.get(constant.name)
        if held is not None and np.array_equal(numpy_helper.to_array(constant), held.numpy(force=True)):
            constant.ClearField("raw_data")
            constant.doc_string = _HELD
    return copy


@torch.no_grad()
def _is_that_of(graph: onnx.ModelProto, model: nn.Module, example: Tensor) -> bool:
    """Whether a graph answers an example as the network does."""
    whole = onnx.ModelProto()
    whole.CopyFrom(graph)
    whole.functions.extend(parser.parse_function(text) for text in MEANINGS)
    expected = run_network(model, example).cpu()
    try:
        found = torch.from_numpy(run_session(open_session(whole.SerializeToString(), threads=1), example)[0])
    except NotExportableError:
        return False
    return found.shape == expected.shape and bool((found - expected).abs().max() <= CLOSE * expected.abs().max())
