"""Contract of exporters and runtimes: every one of them, on the digits network with a mixed policy."""

from collections.abc import Mapping

import pytest
import torch

from haq.exporters.agreement import compare_outputs
from haq.exporters.deployable import Deployable
from haq.exporters.formats import Export, ExportOptions
from haq.exporters.registry import EXPORTERS, RUNTIMES, make_exporter, make_runtime

IMAGES = 4


@pytest.fixture(scope="session")
def exports(deployable: Deployable) -> Mapping[str, Export]:
    """Files by format, built when a test first asks for them."""

    class Built(dict[str, Export]):
        def __missing__(self, name: str) -> Export:
            self[name] = make_exporter(name).build(deployable, ExportOptions())
            return self[name]

    return Built()


@pytest.mark.parametrize("name", EXPORTERS)
def test_an_exporter_has_the_name_of_its_entry_and_known_runtimes(name: str) -> None:
    exporter = make_exporter(name)
    assert exporter.format == name
    assert exporter.suffix.startswith(".")
    assert exporter.runtimes
    for runtime in exporter.runtimes:
        assert make_runtime(runtime).format == name


@pytest.mark.parametrize("name", EXPORTERS)
def test_an_export_lists_the_layers_of_the_policy(
    name: str, deployable: Deployable, exports: Mapping[str, Export]
) -> None:
    export = exports[name]
    assert export.format == name
    assert next(iter(export.files)) == make_exporter(name).suffix
    assert [layer.name for layer in export.layers] == [layer.name for layer in deployable.policy.layers]
    assert tuple(layer.w_bits for layer in export.layers) == export.bits[0] == deployable.policy.w_bits
    assert tuple(layer.a_bits for layer in export.layers) == export.bits[1]
    assert all(layer.is_integer or layer.reason for layer in export.layers)
    assert all(layer.weight_bytes > 0 for layer in export.layers)


@pytest.mark.parametrize("name", EXPORTERS)
def test_equal_networks_give_equal_files(name: str, deployable: Deployable, exports: Mapping[str, Export]) -> None:
    again = make_exporter(name).build(deployable, ExportOptions())
    assert dict(again.files) == dict(exports[name].files)


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_runtime_computes_what_was_exported(name: str, deployable: Deployable, exports: Mapping[str, Export]) -> None:
    runtime = make_runtime(name)
    if (missing := runtime.missing()) is not None:
        pytest.skip(missing)
    assert runtime.name == name
    export, inputs = exports[runtime.format], deployable.check_inputs(IMAGES)
    with torch.no_grad():
        expected, found = deployable.quantized(export.bits)(inputs), runtime.runner(export, deployable)(inputs)
    agreement = compare_outputs(deployable.network.task, found, expected)
    assert agreement.items == IMAGES
    assert agreement.noise < 0.05


@pytest.mark.parametrize("name", RUNTIMES)
def test_codes_from_equal_inputs_are_those_of_the_reference(
    name: str, deployable: Deployable, exports: Mapping[str, Export], has_exact_kernels: bool
) -> None:
    runtime = make_runtime(name)
    if (missing := runtime.missing()) is not None:
        pytest.skip(missing)
    if name == "onnxruntime" and not has_exact_kernels:
        pytest.skip("onnxruntime's kernels saturate on this processor")
    layers = list(runtime.layer_codes(exports[runtime.format], deployable, deployable.check_inputs(2)))
    assert [layer.layer for layer in layers] == [layer.name for layer in deployable.policy.layers]
    assert all(layer.is_integer or layer.reason for layer in layers)
    assert sum(layer.compared for layer in layers) > 0
    assert {layer.layer: layer.differing for layer in layers if layer.is_integer and layer.differing} == {}
