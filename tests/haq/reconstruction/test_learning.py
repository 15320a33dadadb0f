"""Learning: outputs come closer to the float network's than any rounding that was found without it."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from haq.config import search_config
from haq.errors import UserError
from haq.experiment.preparation import prepare_network
from haq.experiment.problem import Network
from haq.experiment.quantized_policy import QuantizedPolicy
from haq.layer_bits import LayerBits
from haq.policy import Policy, PolicyBits
from haq.quantization.linear import quantize_weight
from haq.reconstruction.config import ReconstructionConfig, reconstruction_config
from haq.reconstruction.learned import learn_policy
from haq.reconstruction.learning import Reconstruction, calibration_batches, output_spreads
from haq.reconstruction.network import FURTHEST, LearnedNetwork, LearnedWeight
from haq.settings import Rounding
from haq.tasks.base import SplitName
from haq.tasks.classification import ClassificationTask
from haq.tasks.items import StoredSplit

STEPS = ReconstructionConfig(steps=60, batch_size=20)


class Noise:
    """Images [1, 6, 6] without meaning."""

    def __init__(self, count: int, seed: int) -> None:
        self.images = torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(seed))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]:
        return self.images[index], index % 4


class Mixed(nn.Module):
    """A batch norm, a depthwise layer, a residual sum and a layer that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.mix = nn.Conv2d(8, 8, 1)
        self.classifier = nn.Linear(72, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = x + torch.relu(self.mix(torch.relu(self.depthwise(x))))
        scores: Tensor = self.classifier(torch.relu(self.mix(x)).flatten(1))
        return scores


@pytest.fixture
def mixed_net() -> Mixed:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return Mixed().eval()


def prepared(model: nn.Module, task: ClassificationTask, rounding: Rounding = "nearest") -> Network:
    config = search_config(model="mixed", data="blobs", engine="torch", rounding=rounding)
    return prepare_network(config, model=model, task=task)


def uniform(network: Network, w_bits: int, a_bits: int) -> PolicyBits:
    count = len(network.priced.layers)
    return (w_bits,) * count, (a_bits,) * count


def images(network: Network, split: SplitName) -> Tensor:
    return next(iter(network.task.batches(split, batch_size=1000)))[0]


def policy_of(network: Network, bits: PolicyBits) -> Policy:
    pairs = zip(network.priced.layers, *bits, strict=True)
    layers = tuple(LayerBits(name=layer.name, kind=layer.kind, w_bits=w, a_bits=a) for layer, w, a in pairs)
    return Policy(model="mixed", hardware=None, objective=None, layers=layers)


def put(network: Network, learned: QuantizedPolicy) -> None:
    network.engine.store(
        learned.bits, learned.restore(network.quantizers, network.priced.trace, model=network.priced.model)
    )


def learned_tensors(
    network: Network, bits: PolicyBits, config: ReconstructionConfig, seed: int = 0
) -> dict[str, Tensor]:
    tensors = learn_policy(network, policy_of(network, bits), config=config, seed=seed).tensors
    assert tensors is not None
    return dict(tensors)


def learner(network: Network, bits: PolicyBits) -> tuple[LearnedNetwork, Reconstruction]:
    """Before it learns."""
    model, traced = network.priced.model, network.priced.trace
    spreads = output_spreads(model, traced, images(network, "calibration"))
    statistics = network.engine.corrections(bits).statistics
    learned = LearnedNetwork(model, traced, network.quantizers, bits=bits, statistics=statistics, spreads=spreads)
    return learned, Reconstruction(learned, spreads, config=STEPS)


def test_learning_lowers_the_loss_on_held_out_images(mixed_net: Mixed) -> None:
    """At three bits of inputs there is much to gain from scales and biases alone."""
    splits: dict[SplitName, StoredSplit] = {
        name: StoredSplit(Noise(count, seed))
        for seed, (name, count) in enumerate((("calibration", 200), ("search", 100), ("report", 4)))
    }
    task = ClassificationTask(name="noise", splits=splits, num_classes=4, facts={})
    network = prepared(mixed_net, task, "nearest")
    _, reconstruction = learner(network, uniform(network, 4, 3))
    held_out = images(network, "search")
    before = reconstruction.loss(held_out).item()
    reconstruction.learn(calibration_batches(task, batch_size=20, seed=0))
    assert reconstruction.loss(held_out).item() < 0.95 * before


def test_biases_start_at_zero_and_outputs_are_not_scaled(mixed_net: Mixed, tiny_task: ClassificationTask) -> None:
    """Corrections restore means and variances at the cost of the output errors that learning lowers."""
    network = prepared(mixed_net, tiny_task)
    bits = uniform(network, 3, 4)
    corrected = network.engine.corrections(bits)
    assert corrected.scales
    assert any(bias.any() for bias in corrected.biases.values())
    learned, _ = learner(network, bits)
    assert not learned.corrections().scales
    assert not any(bias.any() for bias in learned.corrections().biases.values())


def test_learning_is_deterministic_given_the_seed(mixed_net: Mixed, tiny_task: ClassificationTask) -> None:
    found = []
    for seed in (0, 0, 1):
        network = prepared(mixed_net, tiny_task)
        bits = uniform(network, 3, 4)
        found.append(learned_tensors(network, bits, STEPS, seed))
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
    assert not all(torch.equal(value, found[2][name]) for name, value in found[0].items())


def names(network: Network) -> list[str]:
    return [layer.name for layer in network.priced.layers]


def test_codes_stay_within_their_bits_and_the_network_is_unchanged(
    mixed_net: Mixed, tiny_task: ClassificationTask
) -> None:
    before = {name: value.clone() for name, value in mixed_net.state_dict().items()}
    network = prepared(mixed_net, tiny_task)
    bits = uniform(network, 2, 4)
    eager = ReconstructionConfig(steps=20, batch_size=20, code_lr=0.2)
    tensors = learned_tensors(network, bits, eager)
    codes = [value for name, value in tensors.items() if name.endswith(".codes")]
    assert {int(value) for each in codes for value in each.unique()} == {-2, -1, 0, 1}
    assert len(codes) == len(names(network)) == 5
    assert all(torch.equal(value, mixed_net.state_dict()[name]) for name, value in before.items())
    assert all(parameter.grad is None for parameter in mixed_net.parameters())


def test_layers_in_float_stay_in_float(mixed_net: Mixed, tiny_task: ClassificationTask) -> None:
    network = prepared(mixed_net, tiny_task)
    bits = ((None, 3, None, None, 8), (None, None, 4, 4, 8))
    learned = learned_tensors(network, bits, STEPS)
    assert sorted(name for name in learned if name.endswith((".input.scale", ".weight.scale"))) == [
        "classifier.input.scale",
        "classifier.weight.scale",
        "depthwise.weight.scale",
        "mix.input.scale",
        "mix:2.input.scale",
    ]


def test_engine_runs_what_was_learned(mixed_net: Mixed, tiny_task: ClassificationTask) -> None:
    network = prepared(mixed_net, tiny_task)
    bits = uniform(network, 3, 4)
    learned, reconstruction = learner(network, bits)
    reconstruction.learn(calibration_batches(tiny_task, batch_size=STEPS.batch_size, seed=0))
    outputs: dict[int, Tensor] = {}
    with torch.no_grad():
        learned(images(network, "search"), outputs.__setitem__)
    put(network, learn_policy(network, policy_of(network, bits), config=STEPS))
    found = network.engine.runner(bits)(images(network, "search"))
    assert isinstance(found, Tensor)
    torch.testing.assert_close(found, outputs[len(names(network)) - 1])


def test_loss_is_the_mean_squared_error_of_layers(mixed_net: Mixed, tiny_task: ClassificationTask) -> None:
    """In units of the spreads of their outputs; zero where nothing is quantized, by hand where one layer is."""
    network = prepared(mixed_net, tiny_task)
    inputs = images(network, "calibration")
    nothing: tuple[None, ...] = (None,) * 5
    losses = [learner(network, (w_bits, nothing))[1].loss(inputs).item() for w_bits in (nothing, (*nothing[:4], 2))]
    with torch.no_grad():
        expected = mixed_net(inputs)
        quantized = quantize_weight(mixed_net.classifier.weight, 2).dequantize()
        read = features(mixed_net, inputs)
        change = read @ (quantized - mixed_net.classifier.weight).T
        by_hand = change.square().mean() / expected.var(dim=0, correction=0).mean() / 5
    assert losses[0] < 1e-8
    assert losses[1] == pytest.approx(by_hand.item(), rel=1e-3)


def features(model: Mixed, inputs: Tensor) -> Tensor:
    """What the classifier reads."""
    seen: list[Tensor] = []
    handle = model.classifier.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    model(inputs)
    handle.remove()
    return seen[0]


def test_scales_and_codes_are_independent() -> None:
    weight = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    start = quantize_weight(weight, 3)
    learned = LearnedWeight(weight, start)
    torch.testing.assert_close(learned().detach(), start.dequantize(), rtol=1e-6, atol=0)
    assert (learned.steps - start.codes).abs().max() <= FURTHEST + 1e-6
    with torch.no_grad():
        learned.log_gain += 0.5
    assert torch.equal(learned.codes, start.codes)
    torch.testing.assert_close(learned().detach(), start.dequantize() * torch.tensor(0.5).exp())


def test_calibration_batches_repeat_without_end(tiny_task: ClassificationTask) -> None:
    batches: Iterator[Tensor] = calibration_batches(tiny_task, batch_size=16, seed=0)
    first, second, third = (next(batches) for _ in range(3))
    assert {len(each) for each in (first, second, third)} == {16}
    assert not torch.equal(first, third)
    assert len(next(calibration_batches(tiny_task, batch_size=1000, seed=0))) == 40


def test_nonfinite_loss_is_reported(mixed_net: Mixed, tiny_task: ClassificationTask) -> None:
    network = prepared(mixed_net, tiny_task)
    with pytest.raises(UserError, match="the loss became nan in step 2; lower --code-lr or --scale-lr"):
        learned_tensors(network, uniform(network, 3, 8), ReconstructionConfig(steps=5, bias_lr=100, scale_lr=100))


def test_invalid_settings_are_refused() -> None:
    with pytest.raises(UserError, match="--steps 0: input should be greater than or equal to 1"):
        reconstruction_config(steps=0)
    with pytest.raises(UserError, match="--code-lr -1: input should be greater than or equal to 0"):
        reconstruction_config(code_lr=-1)
