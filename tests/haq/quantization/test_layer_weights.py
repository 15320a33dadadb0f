"""The weights of a layer by either quantizer."""

from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import nn

from haq.config import search_config
from haq.errors import UserError
from haq.experiment.preparation import prepare_network
from haq.quantization import rounding
from haq.quantization.kmeans import codebook_bytes
from haq.quantization.layer_weights import KMeansWeights, LinearWeights, StoredWeight, make_layer_weights
from haq.quantization.rounding import ROUNDINGS, GptqRounding
from haq.settings import QuantizerName, Rounding
from haq.tasks import ClassificationTask


def some_weights() -> torch.Tensor:
    return torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", get_args(QuantizerName))
@pytest.mark.parametrize("bits", [1, 2, 5, 8])
def test_parameters_give_the_same_weights_again(name: QuantizerName, bits: int) -> None:
    found = make_layer_weights(name, some_weights(), channel_axis=0, method="mse").quantize(bits)
    again = make_layer_weights(name, some_weights(), channel_axis=0, method="max").restore(bits, found.parts)
    assert torch.equal(found.values, again.values)


@pytest.mark.parametrize("name", get_args(QuantizerName))
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


def hessian_of(x: torch.Tensor) -> torch.Tensor:
    """Of weights and bias, from inputs [groups, columns, samples]."""
    x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
    return x @ x.mT / x.shape[2]


def rounded(bits: int, *, codes: torch.Tensor | None = None) -> StoredWeight:
    """By GPTQ; restored from `codes` if given."""
    weight = some_weights()
    x = torch.randn(45, 200, generator=torch.Generator().manual_seed(1)).cumsum(dim=0)
    linear = LinearWeights(weight, channel_axis=0, method="mse", rounding=GptqRounding(lambda: hessian_of(x[None])))
    found = linear.quantize(bits)
    return found if codes is None else linear.restore(bits, {**found.parts, "codes": codes})


@pytest.mark.parametrize("bits", [1, 2, 5, 8])
def test_codes_of_gptq_are_kept(bits: int) -> None:
    nearest = LinearWeights(some_weights(), channel_axis=0, method="mse")
    found = rounded(bits)
    again = nearest.restore(bits, found.parts)
    assert torch.equal(found.values, again.values)
    assert not torch.equal(found.values, nearest.quantize(bits).values)
    assert found.codes is not None
    assert again.codes is not None
    assert found.parts["codes"].dtype == torch.int8
    assert torch.equal(found.codes.codes, again.codes.codes)
    assert found.parts.keys() == again.parts.keys()


def test_the_hessian_is_asked_for_once_for_all_widths() -> None:
    asked: list[int] = []

    def hessian() -> torch.Tensor:
        asked.append(1)
        return torch.eye(46)[None]

    weights = LinearWeights(some_weights(), channel_axis=0, method="mse", rounding=GptqRounding(hessian))
    assert not asked
    for bits in (4, 2, 4):
        weights.quantize(bits)
    assert len(asked) == 1


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_scales_are_those_of_the_least_error_in_outputs(bits: int) -> None:
    """Less than at the scales of the nearest codes, which leave less error in the weights."""
    x = torch.randn(45, 200, generator=torch.Generator().manual_seed(1)).cumsum(dim=0)
    nearest = LinearWeights(some_weights(), channel_axis=0, method="mse").quantize(bits)
    found = rounded(bits)
    errors = [((each.values - some_weights()).flatten(1) @ x).square().mean(dim=1) for each in (found, nearest)]
    assert (errors[0] < errors[1]).all()
    ratio = found.parts["scale"] / nearest.parts["scale"]
    assert 0.6 < ratio.min() < ratio.max() < 1.7


@pytest.mark.parametrize("bits", [2, 8])
def test_scales_may_be_tried_one_after_the_other(monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    """As for layers that are too large for all at once."""
    together = rounded(bits)
    monkeypatch.setattr(rounding, "_WEIGHTS_AT_ONCE", 1)
    torch.testing.assert_close(rounded(bits).values, together.values)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_outputs_are_not_shrunk(bits: int) -> None:
    """Regressed on the wanted outputs they have slope 1, whatever the mean of the inputs."""
    x = 3 + torch.randn(45, 500, generator=torch.Generator().manual_seed(1))
    linear = LinearWeights(
        some_weights(), channel_axis=0, method="mse", rounding=GptqRounding(lambda: hessian_of(x[None]))
    )
    wanted, found = ((each.flatten(1) @ x).double() for each in (some_weights(), linear.quantize(bits).values))
    wanted, found = (each - each.mean(dim=1, keepdim=True) for each in (wanted, found))
    slopes = (wanted * found).sum(dim=1) / wanted.square().sum(dim=1)
    torch.testing.assert_close(slopes, torch.ones(6, dtype=torch.float64), rtol=0, atol=1e-3)


@pytest.mark.parametrize("groups", [1, 3, 6])
def test_groups_have_hessians_of_their_own(groups: int) -> None:
    """The last group's inputs are always zero, which leaves the nearest."""
    x = torch.randn(groups, 45, 200, generator=torch.Generator().manual_seed(1)).cumsum(dim=1)
    x[-1] = 0
    nearest = LinearWeights(some_weights(), channel_axis=0, method="mse").quantize(3).values
    hessian = hessian_of(x)
    found = (
        LinearWeights(some_weights(), channel_axis=0, method="mse", rounding=GptqRounding(lambda: hessian))
        .quantize(3)
        .values
    )
    same = (found == nearest).flatten(1).all(dim=1)
    assert same.tolist() == [place // (6 // groups) == groups - 1 for place in range(6)]


def test_codes_of_other_weights_are_refused() -> None:
    codes = rounded(3).parts["codes"]
    with pytest.raises(ValueError, match=r"no codes of shape \[5, 5, 3, 3\]"):
        rounded(3, codes=codes[:5])
    with pytest.raises(ValueError, match=r"codes of 3 bits lie in -4\.\.3"):
        rounded(3, codes=codes * 3)


def test_codebooks_are_not_rounded() -> None:
    with pytest.raises(UserError, match="--rounding gptq rounds integers, not codebooks"):
        prepare_network(search_config(quantizer="kmeans", rounding="gptq"))


def test_weights_that_learn_are_not_rounded(tiny_task: ClassificationTask, tiny_net: nn.Module) -> None:
    config = search_config(rounding="gptq", episode_finetune_steps=1)
    with pytest.raises(UserError, match="--rounding gptq has no part in --episode-finetune-steps"):
        prepare_network(config, model=tiny_net, task=tiny_task)


def test_rounding_is_by_gptq_where_rounded_integers_stay(tiny_task: ClassificationTask, tiny_net: nn.Module) -> None:
    """Hessians are computed for it alone."""
    task = replace(tiny_task, splits={**tiny_task.splits, "train": tiny_task.splits["calibration"]})
    settings: tuple[dict[str, Any], ...] = ({}, {"quantizer": "kmeans"}, {"episode_finetune_steps": 1})
    configs = [search_config(engine="torch", **each) for each in (*settings, {"rounding": "nearest"})]
    found = [prepare_network(each, model=tiny_net, task=task).quantizers.calibration.hessians for each in configs]
    assert [bool(each) for each in found] == [True, False, False, False]


def test_parameters_of_other_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="6 output channels need as many scales, not 5"):
        LinearWeights(some_weights(), channel_axis=0, method="mse").restore(4, {"scale": torch.ones(5)})
    with pytest.raises(ValueError, match="up to 4 centroids, not 5"):
        KMeansWeights(some_weights()).restore(2, {"codebook": torch.arange(5.0)})


def test_codebooks_count_in_the_size() -> None:
    tables = {
        name: prepare_network(search_config(quantizer=name)).priced.table.weight_bytes
        for name in get_args(QuantizerName)
    }
    added = tables["kmeans"] - tables["linear"]
    assert added[0, 3, 7] == codebook_bytes(4) == 64
    assert added[0, 8, 8] == 0


def test_every_rounding_of_the_settings_is_registered() -> None:
    assert set(ROUNDINGS) == set(get_args(Rounding))


def test_weights_of_a_codebook_are_restored_in_the_type_of_the_weights() -> None:
    weights, codebook = KMeansWeights(some_weights().double()), torch.tensor([-1.0, 1.0])
    restored = weights.restore(1, {"codebook": codebook}).values
    assert (restored.dtype, restored.unique().tolist()) == (torch.float64, [-1.0, 1.0])
