"""Expected losses: by hand on a linear network, and against measured ones."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Generator, Tensor, nn

from haq.errors import UserError
from haq.evaluation.engines.torch import TorchEngine
from haq.experiment.prior import gradient_slopes
from haq.experiment.prior import slopes as module
from haq.experiment.prior.directions import LOGITS, Directions, OutputReader
from haq.experiment.prior.fisher import fisher_sensitivity
from haq.experiment.prior.layer_losses import FloatArray, LayerLosses, LossKind
from haq.experiment.prior.measured import PARTS, PRIOR_IMAGES, Sensitivities, cells
from haq.network.layers import trace
from haq.quantization.quantized_model import QuantizedModel
from haq.quantization.quantizers import Quantizers
from haq.tasks.classification import ClassificationTask


def quantized(net: nn.Module, inputs: Tensor) -> QuantizedModel:
    traced = trace(net.eval(), inputs[:1])
    return QuantizedModel(net, traced, Quantizers(net, traced, lambda: [inputs]))


def fisher(
    model: QuantizedModel, inputs: Tensor, *, loss: LossKind = "divergence", is_corrected: bool = False, seed: int = 0
) -> LayerLosses:
    generator = Generator().manual_seed(seed)
    return fisher_sensitivity(model, torch.split(inputs, 16), loss=loss, is_corrected=is_corrected, generator=generator)


def test_directions_have_the_covariance_of_a_softmax() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0]])
    p = logits.softmax(dim=1)[0]
    drawn = Directions("divergence", LOGITS, Generator().manual_seed(0)).draw(logits.expand(20_000, -1))
    assert torch.allclose(drawn.sum(dim=1), torch.zeros(()), atol=1e-5)
    assert torch.allclose(drawn.T @ drawn / len(drawn), p.diag() - p[:, None] * p, atol=0.01)


def test_directions_of_the_output_error_treat_all_classes_alike() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0]])
    drawn = Directions("noise", LOGITS, Generator().manual_seed(0)).draw(logits.expand(20_000, -1))
    assert torch.allclose(drawn.sum(dim=1), torch.zeros(()), atol=1e-5)
    assert torch.allclose(drawn.T @ drawn / len(drawn), torch.eye(3) - 1 / 3, atol=0.02)


@pytest.mark.parametrize("loss", ["divergence", "noise"])
def test_directions_of_plain_values_are_independent(loss: LossKind) -> None:
    drawn = Directions(loss, OutputReader(is_logits=False), Generator().manual_seed(0)).draw(torch.zeros(20_000, 3))
    assert torch.allclose(drawn.T @ drawn / len(drawn), torch.eye(3), atol=0.02)


def shifted(count: int) -> tuple[QuantizedModel, Tensor]:
    """Two classes with even odds and inputs of 1; the first class's weight is 2^-bits too large at any bits."""
    net = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        net.weight.fill_(0.3)
    inputs = torch.ones(count, 1)
    model = quantized(net, inputs)
    model.quantizers.weight = lambda _, bits: torch.tensor([[0.3 + 2.0**-bits], [0.3]])  # type: ignore[method-assign]
    return model, inputs


def test_divergence_of_a_linear_layer_by_hand() -> None:
    found = fisher(*shifted(4000))
    # 1/2 d^T (diag(p) - p p^T) d with d = (2^-bits, 0) and p = (1/2, 1/2)
    assert found.losses[0, 0] == pytest.approx(0.125 * 0.25 ** np.arange(1, 9), rel=0.1)
    assert found.forward_images == 4000 * (1 + 2 + 16)


def test_output_error_of_a_linear_layer_by_hand() -> None:
    model, inputs = shifted(4000)
    model.model.bias = nn.Parameter(torch.tensor([1.0, -1.0]))
    # (2^-bits, 0) is 2^-bits / 2 away from its mean in both classes, and the float outputs are 1 away from theirs; half
    # of the directions move both classes alike and see nothing, the others see twice as much.
    assert fisher(model, inputs, loss="noise").losses[0, 0] == pytest.approx(0.25 * 0.25 ** np.arange(1, 9), rel=0.1)


def test_changes_that_corrections_undo_are_no_loss() -> None:
    """The same shift for all images is a bias."""
    assert fisher(*shifted(64), is_corrected=True).losses[0, 0] == pytest.approx(0, abs=1e-12)


def test_a_changed_variance_before_a_batch_norm_is_no_loss(tiny_net: nn.Module, tiny_task: ClassificationTask) -> None:
    images = tiny_task.splits["calibration"].take(torch.arange(40))[0]
    model = quantized(tiny_net, images)
    first, last = (model.quantizers.weight(layer, 8) for layer in (0, 2))
    half = {0: first / 2, 1: model.quantizers.weight(1, 8), 2: last / 2}
    model.quantizers.weight = lambda layer, _: half[layer]  # type: ignore[method-assign]
    found = fisher(model, images, is_corrected=True).losses[:, 0, 0]
    assert found[0] < 1e-3 * found[2]


@pytest.mark.parametrize("loss", ["divergence", "noise"])
def test_estimated_losses_rank_like_measured_divergences(
    tiny_net: nn.Module, tiny_task: ClassificationTask, loss: LossKind
) -> None:
    images = tiny_task.splits["calibration"].take(torch.arange(40))[0]
    model = quantized(tiny_net, images)
    expected = fisher(model, images, loss=loss).losses
    measuring = Sensitivities(TorchEngine(model), tiny_task, images=40)
    wanted = cells(3, range(3, 9))
    measured = [measuring.measure(cell, 3).divergence for cell in wanted]
    found = [expected[cell.layer, PARTS.index(cell.part), cell.bits - 1] for cell in wanted]
    assert spearmanr(measured, found)[0] > 0.95
    if loss == "divergence":
        assert np.median(np.array(found) / measured) == pytest.approx(1, abs=0.5)


class Rectified(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.relu = nn.Conv2d(1, 4, 3), nn.Linear(64, 4), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.relu(self.second(self.relu(self.first(x)).flatten(1)))
        return answer


def test_in_place_operations_do_not_change_losses(tiny_task: ClassificationTask) -> None:
    images = tiny_task.splits["calibration"].take(torch.arange(40))[0]
    net = Rectified()
    losses = []
    for net.relu.inplace in (True, False):
        losses.append(fisher(quantized(net, images), images).losses)
    assert np.array_equal(*losses)
    assert losses[0].max() > 0


def test_the_same_seed_gives_the_same_losses_and_leaves_no_gradients(
    tiny_net: nn.Module, tiny_task: ClassificationTask
) -> None:
    images = tiny_task.splits["calibration"].take(torch.arange(40))[0]
    model = quantized(tiny_net, images)
    first, second, other = (fisher(model, images, seed=seed).losses for seed in (3, 3, 4))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
    assert all(parameter.grad is None for parameter in tiny_net.parameters())


def test_networks_that_reorder_images_have_losses_of_the_batch(tiny_task: ClassificationTask) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 4)

        def forward(self, x: Tensor) -> Tensor:
            rows = self.linear(x[:, 0].transpose(0, 1))  # [6, n, 4]
            return torch.as_tensor(rows).sum(dim=0)

    images = tiny_task.splits["calibration"].take(torch.arange(32))[0]
    losses = fisher(quantized(Mixed(), images), images).losses
    assert np.isfinite(losses).all()
    assert losses[0, 0, 1] > losses[0, 0, 5] > 0


def test_more_images_than_the_calibration_split_are_refused(tiny_net: nn.Module, tiny_task: ClassificationTask) -> None:
    images = tiny_task.splits["calibration"].take(torch.arange(40))[0]
    with pytest.raises(UserError, match="41 images asked of calibration, which has 40"):
        Sensitivities(TorchEngine(quantized(tiny_net, images)), tiny_task, images=41)
    assert PRIOR_IMAGES > 40


class Tokens(nn.Module):
    """Layers whose outputs have the images first, last, or together with the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 3, 3, padding=1, groups=1), nn.BatchNorm2d(3)
        self.tokens, self.mixed, self.last = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.tokens(self.norm(self.conv(x)).relu().flatten(2).mT)
        mixed = self.mixed(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])
        scores: Tensor = self.last(mixed.mean(dim=1))
        return scores


def test_corrections_restore_the_moments_of_every_channel() -> None:
    """The sums over channels give what correcting the whole output gives."""
    torch.manual_seed(0)
    net, inputs = Tokens().eval(), torch.randn(16, 2, 5, 4)
    net.norm(net.conv(inputs))
    model = quantized(net, inputs)
    found = fisher(model, inputs, is_corrected=True).losses
    expected = fisher_with(corrected_output, model, inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def fisher_with(corrected: Callable[..., Tensor], model: QuantizedModel, inputs: Tensor) -> FloatArray:
    class Slope:
        def __init__(self, probed: module.ProbedCall, output: Tensor, gradient: Tensor, *, images: int) -> None:
            self.probed, self.output, self.gradient, self.images = probed, output, gradient, images

        def __call__(self, changed: Tensor) -> Tensor:
            answered = corrected(self.probed, changed, self.output)
            return module._by_image((answered - self.output) * self.gradient, self.images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CorrectedSlope", Slope)
        return fisher(model, inputs, is_corrected=True).losses


def corrected_output(probed: module.ProbedCall, changed: Tensor, output: Tensor) -> Tensor:
    dims = [dim for dim in range(output.ndim) if dim != output.ndim - 1 - probed.call.operation.spatial_dims]
    (variance, mean), (wanted, target) = (
        torch.var_mean(each, dim=dims, correction=0, keepdim=True) for each in (changed, output)
    )
    gain = 1.0 if probed.eps is None else ((wanted + probed.eps) / (variance + probed.eps)).sqrt()
    return (changed - mean) * gain + target


class Various(nn.Module):
    """Layers whose changes follow from gradients: strided, depthwise, transposed, in one dimension, on tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.strided, self.depthwise = nn.Conv2d(2, 6, 3, stride=2, padding=1), nn.Conv2d(6, 6, 3, groups=6)
        self.grown, self.line = nn.ConvTranspose2d(6, 4, 2, stride=2), nn.Conv1d(4, 5, 3, dilation=2, bias=False)
        self.tokens, self.last = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        image = self.grown(self.depthwise(self.strided(x).relu()).relu()).relu()
        tokens = self.tokens(self.line(image.flatten(2)).relu().mT).relu()
        scores: Tensor = self.last(tokens.mean(dim=1))
        return scores


@pytest.mark.parametrize("is_corrected", [True, False])
def test_gradients_give_the_changes_of_forward_passes(is_corrected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(16, 2, 9, 8)
    net = Various()
    for weights in net.parameters():
        weights.data *= 3  # else later layers get nearly the same from all images, and sums cancel to rounding errors
    model = quantized(net, inputs)
    monkeypatch.setattr(gradient_slopes, "_VALUES_AT_ONCE", 50)  # several parts, the last of them smaller
    found = fisher(model, inputs, is_corrected=is_corrected).losses
    monkeypatch.setattr(module, "has_gradient_slopes", lambda *_, **__: False)
    np.testing.assert_allclose(found, fisher(model, inputs, is_corrected=is_corrected).losses, rtol=1e-3)
    assert (found > 0).all()


def test_layers_whose_changes_follow_from_gradients_are_not_run_at_every_width(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = torch.randn(16, 2, 9, 8)
    monkeypatch.setattr(module, "_forward_slopes", lambda *_, **__: pytest.fail("runs at every width"))
    assert (fisher(quantized(Various(), inputs), inputs, is_corrected=True).losses > 0).all()
