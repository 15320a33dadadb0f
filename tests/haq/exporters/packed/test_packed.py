"""Packed files: their size, their layout, and the network that is loaded from them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from torch import Tensor, nn

import haq
from haq.config import search_config
from haq.errors import UserError
from haq.experiment.artifact import load_artifact
from haq.experiment.inputs import Inputs
from haq.exporters.deployable import Deployable, make_deployable
from haq.exporters.formats import Export, ExportOptions
from haq.exporters.packed.exporter import PackedExporter
from haq.exporters.packed.model import PackedModel, packed_model
from haq.exporters.packed.reading import parse_packed
from haq.exporters.packed.runtime import PackedRuntime
from haq.exporters.packed.words import word_count
from haq.layer_bits import uniform_bits
from haq.network.layers import trace_layers
from haq.network.models.digits_cnn import DigitsCNN
from haq.policy import Policy
from haq.tasks.classification import ClassificationTask

CLOSE = 1e-4
"""Rounding of folded batch norms, relative to the largest output."""


def exported(network: Deployable) -> Export:
    return PackedExporter().build(network, ExportOptions())


@pytest.fixture(scope="module")
def digits(deployable: Deployable) -> Export:
    return exported(deployable)


def test_packed_weights_take_the_bytes_that_the_policy_prices(deployable: Deployable, digits: Export) -> None:
    expected = [
        4 * word_count(layer.weight_count, bits)
        for layer, bits in zip(deployable.trace.layers, deployable.policy.w_bits, strict=True)
        if bits is not None
    ]
    assert [layer.weight_bytes for layer in digits.layers] == expected
    priced = deployable.policy.cost.weight_bytes
    assert priced is not None
    assert 0 <= sum(expected) - priced < 4 * len(expected)


def test_compressed_tensors_unpacks_the_codes_of_the_quantizers(deployable: Deployable, digits: Export) -> None:
    helpers = pytest.importorskip("compressed_tensors.compressors.pack_quantized.helpers")
    tensors = load(digits.main)
    for place, layer in enumerate(deployable.policy.layers):
        assert layer.w_bits is not None
        shape = torch.Size(tensors[f"{layer.name}.weight_shape"].tolist())
        found = helpers.unpack_from_int32(tensors[f"{layer.name}.weight_packed"], layer.w_bits, shape)
        codes = deployable.quantizers.codes(place, layer.w_bits).codes
        assert torch.equal(found.reshape(codes.shape), codes)


def test_layer_codes_counts_changed_weights(deployable: Deployable, digits: Export) -> None:
    layers = list(PackedRuntime().layer_codes(digits, deployable, None))
    assert sum(layer.compared for layer in layers) == sum(layer.weight_count for layer in deployable.trace.layers)
    assert not any(layer.differing for layer in layers)


def test_a_loaded_file_computes_what_the_quantized_network_does(
    deployable: Deployable, digits: Export, tmp_path: Path
) -> None:
    path = tmp_path / "digits.safetensors"
    path.write_bytes(digits.main)
    images = deployable.check_inputs()
    loaded = haq.load_packed(path, DigitsCNN())
    assert isinstance(loaded, PackedModel)
    assert loaded.policy == deployable.policy
    with torch.no_grad():
        found, again = loaded(images), haq.load_packed(path, "digits_cnn")(images)
        expected = deployable.quantized(deployable.bits)(images)
    assert torch.equal(found, again)
    assert int((found.argmax(1) == expected.argmax(1)).sum()) >= len(images) - 1


def test_the_order_of_a_network_in_memory_does_not_matter(digits: Export) -> None:
    contents = parse_packed(digits.main)
    values = packed_model(DigitsCNN().eval(), contents).model.state_dict()
    channels_last = DigitsCNN().to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    found = packed_model(channels_last, contents).model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in values.items())


class Mixed(nn.Module):
    """Network with what is stored in its own way: batch norms of all kinds, tied and transposed weights,
    a transposed part of a parameter, attention."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 8, 3, stride=3), nn.BatchNorm2d(8)
        self.twice, self.plain = nn.BatchNorm2d(8), nn.BatchNorm2d(8, affine=False)
        self.tied = nn.Conv2d(8, 8, 1)
        self.up = nn.ConvTranspose2d(8, 8, 2, groups=2)
        self.before = nn.BatchNorm2d(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.parts = nn.Parameter(torch.randn(2, 8, 6))
        self.head = nn.Linear(6, 4, bias=False)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
                if module.affine:
                    nn.init.normal_(module.weight)  # of both signs
                    nn.init.normal_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(torch.relu(self.norm(self.conv(x))))
        x = self.plain(self.twice(self.tied(self.tied(x))))
        x = self.before(torch.relu(self.up(x)))
        tokens = x.flatten(2).transpose(1, 2)
        tokens = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        scores: Tensor = self.head(tokens.mean(dim=1) @ self.parts[1])
        return scores


@pytest.fixture
def prepared(tiny_task: ClassificationTask) -> Callable[[nn.Module, int | None], Deployable]:
    """Makes a network of random weights ready to be exported, with the same bits in all layers."""

    def make(model: nn.Module, bits: int | None) -> Deployable:
        layers = uniform_bits(trace_layers(model, tiny_task.example()), w_bits=bits, a_bits=bits)
        policy = Policy(model="net", hardware="bismo-edge", objective="size", layers=layers)
        config = search_config(hardware="bismo-edge", engine="torch")
        return make_deployable(load_artifact(policy, config, inputs=Inputs(model, tiny_task)))

    return make


@pytest.mark.parametrize("bits", [1, 3, 8, None])
def test_networks_of_all_kinds_of_layers_are_restored(
    bits: int | None, prepared: Callable[[nn.Module, int | None], Deployable]
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network, other = prepared(Mixed().eval(), bits), Mixed().eval()
    contents = parse_packed(exported(network).main)
    assert {"norm", "before"} <= set(contents.header.norms)
    assert not {"twice", "plain"} & set(contents.header.norms)
    inputs = network.check_inputs()
    with torch.no_grad():
        found, expected = packed_model(other, contents)(inputs), network.evaluated(inputs)
    # A code at a tie may be another one, since folded batch norms round differently.
    error = (found - expected).abs().amax(dim=1) / expected.abs().max()
    assert float(error.median()) < CLOSE
    assert float(error.quantile(0.8)) < 0.05


def test_a_batch_norm_after_a_layer_leaves_one_number_per_channel(
    prepared: Callable[[nn.Module, int | None], Deployable], tiny_net: nn.Module
) -> None:
    contents = parse_packed(exported(prepared(tiny_net, 4)).main)
    assert contents.header.norms == ("bn",)
    assert "bn.bias" in contents.tensors
    assert not {"bn.weight", "bn.running_mean", "bn.running_var"} & contents.tensors.keys()


def narrow_stem() -> DigitsCNN:
    network = DigitsCNN()
    network.stem[0] = nn.Conv2d(1, 8, 3)
    return network


@pytest.mark.parametrize(
    ("network", "message"),
    [(nn.Sequential(nn.Linear(2, 2)), "it has no parameter stem.0.weight"), (narrow_stem(), "stem.0.weight has")],
    ids=["other layers", "other sizes"],
)
def test_the_file_of_another_network_is_refused(
    network: nn.Module, message: str, digits: Export, tmp_path: Path
) -> None:
    path = tmp_path / "digits.safetensors"
    path.write_bytes(digits.main)
    with pytest.raises(UserError, match=message):
        haq.load_packed(path, network)


def test_a_missing_file_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        haq.load_packed(tmp_path / "none.safetensors", "digits_cnn")
