from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from haq.config import search_config
from haq.execution.structures import Structure
from haq.experiment.layer_errors import IMAGES, measure_layer_errors
from haq.experiment.preparation import prepare_network
from haq.experiment.prior.layer_losses import LayerLosses
from haq.experiment.problem import Network
from haq.network.layer_calls import LayerCalls
from haq.network.tracing.weighted_calls import Call
from haq.policy import PolicyBits
from haq.quantization.quantized_model import QuantizedModel
from haq.runs.layer_errors import LayerErrors
from haq.tasks.classification import ClassificationTask


def prepared(net: nn.Module, task: ClassificationTask, **settings: str) -> Network:
    return prepare_network(search_config(**{"engine": "torch", **settings}), model=net, task=task)


def measured(network: Network, *bits: tuple[int | None, int | None], losses: LayerLosses | None = None) -> LayerErrors:
    w_bits, a_bits = zip(*bits, strict=True)
    found = measure_layer_errors(network, (w_bits, a_bits), losses)
    assert found is not None
    return found


def layer_outputs(network: Network, bits: PolicyBits, inputs: Structure) -> list[Tensor]:
    """Outputs of all layers in the network with a policy, without corrections."""
    model, found = QuantizedModel(network.priced.model, network.priced.trace, network.quantizers), []
    model.set_bits(*bits)

    def answer(layer: int, call: Call) -> Tensor:
        found.append(model.quantized(layer, call))
        return found[-1].clone()

    with torch.no_grad(), LayerCalls(model.index, answer):
        network.priced.model(inputs)
    return found


def test_errors_are_those_of_the_outputs_of_layers(tiny_net: nn.Module, tiny_task: ClassificationTask) -> None:
    network = prepared(tiny_net, tiny_task, corrections="none")
    found = measured(network, (3, 4), (4, 3), (8, 8))
    assert found.images == IMAGES
    inputs = next(iter(tiny_task.batches("calibration", batch_size=IMAGES)))[0]
    expected = layer_outputs(network, ((None,) * 3, (None,) * 3), inputs)
    together = layer_outputs(network, ((3, 4, 8), (4, 3, 8)), inputs)
    middle = layer_outputs(network, ((None, 4, None), (None, 3, None)), inputs)
    for place, layer in enumerate(found.layers):
        error = (together[place] - expected[place]).square().sum() / expected[place].square().sum()
        assert layer.accumulated == pytest.approx(error.item(), rel=1e-4)
    added = (middle[1] - expected[1]).square().sum() / expected[1].square().sum()
    assert found.layers[1].added == pytest.approx(added.item(), rel=1e-4)


def test_the_first_layer_accumulates_what_it_adds(tiny_net: nn.Module, tiny_task: ClassificationTask) -> None:
    for corrections in ("auto", "none"):
        first, *others = measured(prepared(tiny_net, tiny_task, corrections=corrections), *[(3, 3)] * 3).layers
        assert first.accumulated == pytest.approx(first.added, rel=1e-4)
        assert all(layer.accumulated > layer.added for layer in others)


def test_a_network_in_float_has_no_error(tiny_net: nn.Module, tiny_task: ClassificationTask) -> None:
    layers = measured(prepared(tiny_net, tiny_task), *[(None, None)] * 3).layers
    assert [(layer.added, layer.accumulated) for layer in layers] == [(0.0, 0.0)] * 3


def test_what_the_search_expected_is_recorded(tiny_net: nn.Module, tiny_task: ClassificationTask) -> None:
    network = prepared(tiny_net, tiny_task)
    losses = torch.rand(3, 2, 8, dtype=torch.float64).numpy()
    found = measured(network, *[(4, 4)] * 3, losses=LayerLosses(losses, 0))
    assert found.has_expected
    assert [layer.input for layer in found.layers] == [tuple(each) for each in losses[:, 1].tolist()]
    without = measured(network, *[(4, 4)] * 3)
    assert not without.has_expected
    assert "weights" not in without.model_dump()["layers"][0]


def test_a_search_leaves_the_errors_of_its_policy(finished_run: Path) -> None:
    found = LayerErrors.model_validate_json((finished_run / "layer_errors.json").read_bytes())
    assert len(found.layers) == 15
    assert found.has_expected
