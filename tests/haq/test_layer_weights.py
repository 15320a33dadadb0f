"""The weights of a layer by either quantizer."""

import pytest
import torch

from haq.config import search_config
from haq.layer_weights import QUANTIZERS, KMeansWeights, LinearWeights, QuantizerName, make_layer_weights
from haq.problem import prepare_network
from haq.quantizers.kmeans import codebook_bytes


def some_weights() -> torch.Tensor:
    return torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", QUANTIZERS)
@pytest.mark.parametrize("bits", [1, 2, 5, 8])
def test_parameters_give_the_same_weights_again(name: QuantizerName, bits: int) -> None:
    found = make_layer_weights(name, some_weights(), channel_axis=0, method="mse").quantize(bits)
    again = make_layer_weights(name, some_weights(), channel_axis=0, method="max").restore(bits, found.parts)
    assert torch.equal(found.values, again.values)


@pytest.mark.parametrize("name", QUANTIZERS)
def test_more_bits_are_closer(name: QuantizerName) -> None:
    weights = make_layer_weights(name, some_weights(), channel_axis=0, method="mse")
    errors = [float((weights.quantize(bits).values - some_weights()).square().mean()) for bits in (2, 4, 6, 8)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 100


def test_a_codebook_has_no_more_values_than_bits_allow() -> None:
    values = KMeansWeights(some_weights()).quantize(3).values
    assert len(values.unique()) == 8


def test_integers_come_with_the_linear_quantizer_alone() -> None:
    linear = LinearWeights(some_weights(), channel_axis=0, method="mse").quantize(4)
    assert linear.codes is not None
    assert int(linear.codes.codes.abs().max()) <= 7
    assert KMeansWeights(some_weights()).quantize(4).codes is None


def test_parameters_of_other_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="6 output channels need as many scales, not 5"):
        LinearWeights(some_weights(), channel_axis=0, method="mse").restore(4, {"scale": torch.ones(5)})
    with pytest.raises(ValueError, match="up to 4 centroids, not 5"):
        KMeansWeights(some_weights()).restore(2, {"codebook": torch.arange(5.0)})


def test_codebooks_count_in_the_size() -> None:
    tables = {name: prepare_network(search_config(quantizer=name)).priced.table.weight_bytes for name in QUANTIZERS}
    added = tables["kmeans"] - tables["linear"]
    assert added[0, 3, 7] == codebook_bytes(4) == 64
    assert added[0, 8, 8] == 0
