"""Files of small networks in TensorFlow Lite Micro and LiteRT, tensor by tensor against the integer reference."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from haq.errors import UserError
from haq.exporters.integer.network import Codes, IntegerNetwork, Product
from haq.exporters.integer.reference import run_from
from haq.exporters.tflite.interpreters import LiteRt, TfliteMicro
from haq.exporters.tflite.storage import DECODE_NAME
from haq.exporters.tflite.writing import TfliteModel, write_model
from tests.haq.exporters.tflite.small_networks import Network, every_operation

Open = type[LiteRt | TfliteMicro]
pytest.importorskip("ai_edge_litert")


@pytest.fixture(params=["tflm", "litert"])
def open_file(request: pytest.FixtureRequest) -> Open:
    """Interpreters with access to all tensors."""
    pytest.importorskip({"tflm": "tflite_micro", "litert": "ai_edge_litert"}[request.param])
    return {"tflm": TfliteMicro, "litert": LiteRt}[request.param]


def _tensors(open_file: Open, model: TfliteModel, network: IntegerNetwork, codes: Codes) -> dict[str, Codes]:
    """Return all tensors of the network with the channels first, as the interpreter computed them."""
    image = np.ascontiguousarray(np.moveaxis(codes, 1, -1))
    found = open_file(model.content, keep_all=True).tensors(image, tuple(model.indices.values()))
    shapes = [network.tensors[name].shape for name in model.indices]
    return {
        name: np.moveaxis(each, -1, 1).reshape(1, *shape)
        for name, each, shape in zip(model.indices, found, shapes, strict=True)
    }


def _differing(network: IntegerNetwork, found: Mapping[str, Codes]) -> dict[str, int]:
    expected = run_from(network, found)
    counts = {name: int(np.count_nonzero(codes != found[name])) for name, codes in expected}
    assert len(counts) == len(network.operations)
    return {name: count for name, count in counts.items() if count}


@pytest.mark.parametrize("seed", range(2))
def test_every_operation_gives_the_codes_of_the_reference(open_file: Open, seed: int) -> None:
    net = every_operation(seed)
    network = net.finish()
    model = write_model(network, lookup_tables=open_file is TfliteMicro)
    assert (DECODE_NAME.encode() in model.content) == (open_file is TfliteMicro)
    found = _tensors(open_file, model, network, net.inputs(1))
    assert _differing(model.network, found) == {}
    assert all(len(np.unique(found[operation.output])) > 1 for operation in network.operations)


@pytest.mark.parametrize("w_bits", range(1, 9))
def test_weights_of_every_width_give_the_codes_of_the_reference(open_file: Open, w_bits: int) -> None:
    net = Network((24, 6, 5))
    x = net.product(net.input, 48, kernel=3, w_bits=w_bits, padding=(1, 1, 1, 1))
    x = net.product(x, 48, kernel=5, w_bits=w_bits, padding=(2, 2, 2, 2), groups=48)
    x = net.rearrange("flatten", x, (48 * 30,))
    net.product(x, 10, w_bits=w_bits)
    network = net.finish()
    model = write_model(network, lookup_tables=open_file is TfliteMicro)
    assert _differing(model.network, _tensors(open_file, model, network, net.inputs(1))) == {}


@pytest.mark.parametrize("padding", [(0, 1, 1, 0), (2, 0, 0, 1), (1, 1, 2, 2), (0, 0, 1, 1)])
@pytest.mark.parametrize("stride", [1, 2])
def test_padding_on_any_side_gives_the_codes_of_the_reference(
    open_file: Open, padding: tuple[int, int, int, int], stride: int
) -> None:
    net = Network((4, 7, 8))
    x = net.product(net.input, 6, kernel=3, stride=(stride, stride), padding=padding)
    net.pool("max", x, (2, 2), stride=(stride, stride), padding=tuple(min(each, 1) for each in padding))  # type: ignore[arg-type]
    network = net.finish()
    model = write_model(network, lookup_tables=False)
    assert _differing(model.network, _tensors(open_file, model, network, net.inputs(1))) == {}


def test_vectors_go_in_and_out_with_two_dimensions(open_file: Open) -> None:
    net = Network((12,))
    net.product(net.product(net.input, 20, w_bits=4, bounds="relu"), 5)
    network = net.finish()
    model, codes = write_model(network, lookup_tables=False), net.inputs(3)
    found = open_file(model.content).run(codes)
    *_, (_, expected) = run_from(model.network, {network.input: codes})
    assert found.tolist() == expected.tolist()


def test_images_come_out_with_four_dimensions(open_file: Open) -> None:
    net = Network((3, 4, 5))
    net.product(net.input, 2)
    network = net.finish()
    model, codes = write_model(network, lookup_tables=False), net.inputs(3)
    found = open_file(model.content).run(np.ascontiguousarray(np.moveaxis(codes, 1, -1)))
    *_, (_, expected) = run_from(model.network, {network.input: codes})
    assert np.moveaxis(found, -1, 1).tolist() == expected.tolist()


def test_equal_tables_are_stored_once() -> None:
    net = Network((64, 4, 4))
    net.product(net.product(net.input, 64, w_bits=7), 64, w_bits=7)
    network = net.finish()
    model = write_model(network, lookup_tables=True)
    assert [layer.storage for layer in model.layers] == ["table of 128 values"] * 2
    assert model.content.count(bytes(each % 256 for each in range(-128, 128, 2))) == 1


def test_equal_weights_are_stored_once(open_file: Open) -> None:
    net = Network((64, 4, 4))
    net.product(net.input, 64, w_bits=4)
    single = len(write_model(net.finish(), lookup_tables=False).content)
    first = net.operations[0]
    assert isinstance(first, Product)
    net.operations.append(replace(first, layer="again", source=first.output, output=net.like(first.output, (64, 4, 4))))
    network = net.finish()
    model = write_model(network, lookup_tables=False)
    assert [layer.weight_bytes for layer in model.layers] == [2048, 0]
    assert model.layers[1].storage == "int4, shared with layer0"
    assert len(model.content) < single + 2048
    assert _differing(model.network, _tensors(open_file, model, network, net.inputs(1))) == {}


def test_average_pooling_whose_padding_tflite_lacks_is_refused() -> None:
    net = Network((3, 8, 8))
    net.pool("average", net.input, (3, 3), padding=(2, 2, 2, 2))
    with pytest.raises(UserError, match="average pooling with padding"):
        write_model(net.finish(), lookup_tables=False)


def test_litert_names_what_it_does_not_execute() -> None:
    net = Network((64, 4, 4))
    net.product(net.input, 64, w_bits=3)
    with pytest.raises(UserError, match="TFLM_DECODE"):
        LiteRt(write_model(net.finish(), lookup_tables=True).content)


def test_only_int4_rounds_biases() -> None:
    net = Network((64, 4, 4))
    for w_bits in (2, 4, 6, 8):
        net.product(net.input, 64, w_bits=w_bits)
    network = net.finish()
    model = write_model(network, lookup_tables=True)
    assert [layer.storage for layer in model.layers] == ["table of 4 values", "int4", "table of 64 values", "int8"]
    kept = [
        np.array_equal(stored.bias, given.bias)  # type: ignore[union-attr]
        for stored, given in zip(model.network.operations, network.operations, strict=True)
    ]
    assert kept == [True, False, True, True]
