"""Hessians of layer inputs, compared with the outputs of the layers."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from haq.errors import UserError
from haq.network.layers import trace
from haq.quantization import input_hessians as module
from haq.quantization.calibration_pass import calibrate
from haq.quantization.input_hessians import has_hessian

IMAGES = torch.randn(3, 4, 9, 8, generator=torch.Generator().manual_seed(0))
SIGNALS, TOKENS = IMAGES[:, :, 0], IMAGES.flatten(2).transpose(1, 2)
LAYERS: dict[str, tuple[nn.Module, Tensor]] = {
    "3x3": (nn.Conv2d(4, 5, 3, padding=1), IMAGES),
    "1x1": (nn.Conv2d(4, 5, 1), IMAGES),
    "strides": (nn.Conv2d(4, 5, (3, 2), stride=(2, 3), padding=(1, 0)), IMAGES),
    "dilated": (nn.Conv2d(4, 5, 3, padding=2, dilation=2), IMAGES),
    "same": (nn.Conv2d(4, 5, (4, 3), padding="same", dilation=(1, 2)), IMAGES),
    "valid": (nn.Conv2d(4, 5, 3, padding="valid"), IMAGES),
    "reflecting": (nn.Conv2d(4, 5, 3, padding=1, padding_mode="reflect"), IMAGES),
    "groups": (nn.Conv2d(4, 6, 3, groups=2), IMAGES),
    "depthwise": (nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=4), IMAGES),
    "depthwise, 5x5": (nn.Conv2d(4, 4, 5, padding=2, groups=4), IMAGES),
    "one dimension": (nn.Conv1d(4, 5, 3, stride=2, padding=1), SIGNALS),
    "one dimension, groups": (nn.Conv1d(4, 4, 3, padding="same", groups=4), SIGNALS),
    "tokens": (nn.Linear(4, 5), TOKENS),
    "linear": (nn.Linear(8, 5), SIGNALS[:, 0]),
}


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.twice, self.last = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.last(self.twice(torch.relu(self.twice(x))))
        return scores


def hessians(model: nn.Module, batches: list[Tensor]) -> dict[int, Tensor]:
    return calibrate(model, trace(model.eval(), batches[0][:1]), batches, with_hessians=True).hessians


@torch.no_grad()
def energy_of_outputs(layer: nn.Module, x: Tensor) -> Tensor:
    """Return the mean square of each output channel, without bias."""
    assert isinstance(layer.bias, Tensor)
    layer.bias.zero_()
    outputs = layer(x)
    channels = outputs.movedim(-1 if isinstance(layer, nn.Linear) else 1, 0)
    return channels.flatten(1).double().square().mean(dim=1)


def energy_by_hessian(weight: Tensor, hessian: Tensor) -> Tensor:
    """The bias, which is the last column, is left out."""
    hessian = hessian[:, :-1, :-1]
    rows = weight.detach().reshape(len(hessian), -1, hessian.shape[1]).double()
    return (rows @ hessian.double() * rows).sum(dim=2).flatten()


@pytest.mark.filterwarnings("ignore:Using padding='same' with even")
@pytest.mark.parametrize("name", LAYERS)
def test_hessians_give_output_energy(name: str) -> None:
    layer, x = LAYERS[name]
    found = hessians(nn.Sequential(layer), [x[:2], x[2:]])
    assert isinstance(layer.weight, Tensor)
    expected = energy_of_outputs(layer, x)
    torch.testing.assert_close(energy_by_hessian(layer.weight, found[0]), expected, rtol=1e-4, atol=0)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even")
@pytest.mark.parametrize("name", LAYERS)
def test_last_column_is_mean_input(name: str) -> None:
    """The mean output is computed from the last column."""
    layer, x = LAYERS[name]
    mean = hessians(nn.Sequential(layer), [x[:2], x[2:]])[0][:, -1]
    assert isinstance(layer.weight, Tensor)
    assert isinstance(layer.bias, Tensor)
    with torch.no_grad():
        layer.bias.zero_()
        outputs = layer(x).movedim(-1 if isinstance(layer, nn.Linear) else 1, 0).flatten(1).mean(dim=1)
    rows = layer.weight.detach().reshape(len(mean), -1, mean.shape[1] - 1)
    torch.testing.assert_close((rows @ mean[:, :-1, None]).flatten(), outputs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mean[:, -1], torch.ones(len(mean)))


@pytest.mark.parametrize("at_once", [1, 500, 1 << 24])
def test_positions_are_processed_in_chunks(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = LAYERS["groups"]
    expected = hessians(nn.Sequential(layer), [x])[0]
    monkeypatch.setattr(module, "_VALUES_AT_ONCE", at_once)
    torch.testing.assert_close(hessians(nn.Sequential(layer), [x])[0], expected)


def test_sampled_hessian_is_close_to_full_hessian(monkeypatch: pytest.MonkeyPatch) -> None:
    x = F.avg_pool2d(torch.randn(8, 4, 40, 40, generator=torch.Generator().manual_seed(0)), 3, stride=1)
    layer = nn.Sequential(nn.Conv2d(4, 5, 3))
    everything = hessians(layer, [x])[0]
    monkeypatch.setattr(module, "POSITIONS", 2000)
    sample = hessians(layer, [x])[0]
    assert not torch.equal(sample, everything)
    assert (sample - everything).norm() < 0.1 * everything.norm()


def test_sample_includes_all_images_and_is_irregular(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POSITIONS", 640)
    places = module._spread(64 * 100)
    assert places.unique().numel() == 640
    assert (places // 100).bincount(minlength=64).tolist() == pytest.approx([10] * 64, abs=2)
    assert (places % 100).unique().numel() > 90


def test_unsupported_layers_have_no_hessian(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.ConvTranspose2d(4, 6, 3), nn.Conv2d(6, 2, 1), nn.Flatten(), nn.Linear(220, 3))
    traced = trace(model, IMAGES[:1])
    assert [has_hessian(traced, layer) for layer in range(3)] == [False, True, True]
    monkeypatch.setattr(module, "LARGEST_COLUMNS", 100)
    assert [has_hessian(traced, layer) for layer in range(3)] == [False, True, False]
    assert hessians(Twice(), [torch.randn(4, 6)]).keys() == {2}
    tokens = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 2))
    assert hessians(tokens, [torch.arange(6).reshape(2, 3)]).keys() == {1}


def test_activations_that_cannot_be_squared_raise() -> None:
    with pytest.raises(UserError, match="inputs of layer '0' are too large to be squared"):
        hessians(nn.Sequential(nn.Conv2d(4, 5, 3)), [IMAGES, torch.full_like(IMAGES, 1e30)])
