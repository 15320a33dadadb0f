"""Cache of exported graphs: an export takes seconds, most of them to import the exporter.

The key of a graph is a hash of the network's tensors, modules and source files, its layers, and the versions of the
libraries. In case the hash misses a difference, a cached graph is used only if its output on an example equals that of
the network. Tensors that the network holds are not stored again.
"""

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

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
from haq.evaluation.fingerprint import hash_code, hash_network
from haq.execution.networks import run_network
from haq.execution.structures import Structure, describe, tensors
from haq.files import write_atomically
from haq.network.layers import Trace
from haq.runs.cache import cache_dir

CLOSE = 1e-3
"""Largest difference between two float outputs that counts as rounding, relative to the largest output."""


MARK_FUNCTIONS = (
    '<domain: "haq", opset_import: ["" : 18]> Input <layer> (x) => (y) { y = Identity (x) }',
    '<domain: "haq", opset_import: ["" : 18]> Weight <layer> (x) => (y) { y = Identity (x) }',
    '<domain: "haq", opset_import: ["" : 18]> SecondInput <layer> (x) => (y) { y = Identity (x) }',
    """<domain: "haq", opset_import: ["" : 18]> Norm <path, call, epsilon> (x, gamma, beta, mean, variance) => (y)
    { y = BatchNormalization <epsilon: float = @epsilon> (x, gamma, beta, mean, variance) }""",
)
"""Definitions of the marks in float."""
_HELD_BY_NETWORK = "held by the network"


def stored_export(model: nn.Module, trace: Trace, example: Structure) -> onnx.ModelProto:
    """Return the marked export of a network, from the cache if it is there.

    Args:
        model: Float network.
        trace: Trace of the network.
        example: Input of one item, [1, ...].

    Returns:
        The ONNX model of `export_marked`.

    Raises:
        NotExportableError: The network cannot be exported.
        UserError: The cache folder cannot be used.
    """
    path = cache_dir() / f"graph-{_key(model, trace, example)}.onnx"
    found = _load(path, model)
    if found is None or not _matches(found, model, example):
        found = marking.export_marked(model, trace, example)
        write_atomically(path, _without_network_tensors(found, model).SerializeToString())
    return found


def _key(model: nn.Module, trace: Trace, example: Structure) -> str:
    digest = blake2b(digest_size=16)
    versions = (torch.__version__, onnx.__version__, onnxscript.__version__)
    digest.update(repr((versions, trace, *_signature(example))).encode())
    hash_network(digest, model)
    hash_code(digest, model, marking.__file__)
    return digest.hexdigest()


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _load(path: Path, model: nn.Module) -> onnx.ModelProto | None:
    """Return a graph from a file, with the network's tensors; None if the file is missing or damaged."""
    tensors = {f"model.{name}": tensor for name, tensor in _tensors(model)}
    try:
        found = onnx.load_model_from_string(path.read_bytes())
        for constant in found.graph.initializer:
            if constant.doc_string == _HELD_BY_NETWORK:
                constant.CopyFrom(numpy_helper.from_array(tensors[constant.name].numpy(force=True), constant.name))
    except (OSError, DecodeError, KeyError):
        return None
    return found


def _without_network_tensors(graph: onnx.ModelProto, model: nn.Module) -> onnx.ModelProto:
    """Return a copy of the graph without the tensors that the network holds."""
    tensors = {f"model.{name}": tensor for name, tensor in _tensors(model)}
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    for constant in copy.graph.initializer:
        held = tensors.get(constant.name)
        if held is not None and np.array_equal(numpy_helper.to_array(constant), held.numpy(force=True)):
            constant.ClearField("raw_data")
            constant.doc_string = _HELD_BY_NETWORK
    return copy


@torch.no_grad()
def _matches(graph: onnx.ModelProto, model: nn.Module, example: Structure) -> bool:
    """Return whether a graph and the network give the same output for an example."""
    whole = onnx.ModelProto()
    whole.CopyFrom(graph)
    whole.functions.extend(parser.parse_function(text) for text in MARK_FUNCTIONS)
    expected = [tensor.cpu() for tensor in tensors(run_network(model, example))]
    try:
        found = list(map(torch.from_numpy, run_session(open_session(whole.SerializeToString(), threads=1), example)))
    except NotExportableError:
        return False
    return len(found) == len(expected) and all(map(_is_close, found, expected))


def _is_close(found: Tensor, expected: Tensor) -> bool:
    return found.shape == expected.shape and bool((found - expected).abs().max() <= CLOSE * expected.abs().max())


def _signature(example: Structure) -> tuple[Any, ...]:
    """Return what a graph depends on of an example."""
    if isinstance(example, Tensor):
        return example.dtype, example.shape
    return describe(example), *(tensor.dtype for tensor in tensors(example))
