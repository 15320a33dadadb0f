"""Exports to TFLite: bits, notes, missing libraries, and runtimes that find differences."""

import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from haq.errors import UserError
from haq.exporters.deployable import Deployable
from haq.exporters.formats import Export, ExportOptions
from haq.exporters.integer.comparison import compare_operations
from haq.exporters.integer.lowering import integer_network
from haq.exporters.integer.network import Product
from haq.exporters.integer.reference import run
from haq.exporters.registry import make_exporter
from haq.exporters.tflite import exporter, flatbuffer, interpreters, runtimes
from haq.exporters.tflite.storage import DECODE_NAME
from haq.exporters.tflite.writing import write_model

pytest.importorskip("ai_edge_litert")


@pytest.fixture(scope="module")
def with_tables(deployable: Deployable) -> Export:
    """The digits network at 2 bits, so that lookup tables are smallest in several layers."""
    layers = len(deployable.policy.layers)
    bits = ((8, *[2] * (layers - 2), 8), (8,) * layers)
    model = write_model(integer_network(deployable, bits), lookup_tables=True)
    return Export(format="tflite", files={".tflite": model.content}, bits=bits, layers=model.layers)


def test_activations_have_8_bits(deployable: Deployable) -> None:
    export = make_exporter("tflite").build(deployable, ExportOptions())
    assert export.bits == (deployable.policy.w_bits, (8,) * len(deployable.policy.layers))
    assert (exporter.BITS_NOTE in export.notes) == (export.bits != deployable.bits)


def test_tables_are_named_and_can_be_forbidden(deployable: Deployable, with_tables: Export) -> None:
    assert any(layer.storage == "table of 4 values" for layer in with_tables.layers)
    assert DECODE_NAME.encode() in with_tables.main
    form = integer_network(deployable, with_tables.bits)
    without = write_model(form, lookup_tables=False)
    assert {layer.storage for layer in without.layers} == {"int4", "int8"}
    assert DECODE_NAME.encode() not in without.content
    assert len(with_tables.main) < len(without.content)


@pytest.mark.parametrize(("make", "library"), [(runtimes.tflm, "tflite_micro"), (runtimes.litert, "ai_edge_litert")])
def test_files_with_tables_run_in_both_runtimes(
    make: Callable[[], runtimes.TfliteRuntime], library: str, deployable: Deployable, with_tables: Export
) -> None:
    pytest.importorskip(library)
    inputs = deployable.check_inputs(4)
    assert isinstance(inputs, torch.Tensor)
    runtime = make()
    tables = runtime.name == "tflm"
    model = write_model(integer_network(deployable, with_tables.bits), lookup_tables=tables)
    outputs = runtime.runner(with_tables, deployable)(inputs)
    assert torch.equal(outputs, torch.from_numpy(run(model.network, inputs.numpy())))
    assert {layer.differing for layer in runtime.layer_codes(with_tables, deployable, inputs[:1])} == {0}


def test_a_wrong_bias_is_found_in_its_layer(deployable: Deployable, with_tables: Export) -> None:
    form = integer_network(deployable, with_tables.bits)
    names = [layer.name for layer in deployable.policy.layers]
    wrong = [
        replace(each, bias=each.bias + 30000) if isinstance(each, Product) and each.layer == names[3] else each
        for each in form.operations
    ]
    right = write_model(form, lookup_tables=False).network
    model = write_model(replace(form, operations=tuple(wrong)), lookup_tables=False)
    channels, height, width = form.tensors[form.input].shape
    item = np.zeros((1, height, width, channels), np.int8)
    found = interpreters.LiteRt(model.content, keep_all=True).tensors(item, tuple(model.indices.values()))
    codes = runtimes.channels_first(right, dict(zip(model.indices, found, strict=True)))
    layers = compare_operations(right, codes, names)
    assert [layer.layer for layer in layers if layer.differing] == [names[3]]


def test_a_missing_library_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreters, "find_spec", lambda _: None)
    for make in (runtimes.tflm, runtimes.litert):
        assert str(make().missing()).endswith("pip install 'haq[export]'")


def test_writing_without_the_schema_names_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(UserError, match=r"pip install 'haq\[export\]'"):
        flatbuffer.schema()
