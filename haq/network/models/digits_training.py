"""Training of the embedded network: about ten seconds on one core, deterministic, and cached."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

from haq.network.models.digits_cnn import DigitsCNN
from haq.network.models.trained_weights import load_or_train, reproducible
from haq.tasks.classification.digits import digits_pools


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Hyperparameters of the training; `max_angle` in radians, `max_zoom` and `max_shift` relative to the image."""

    epochs: int = 20
    batch_size: int = 64
    peak_learning_rate: float = 0.01
    weight_decay: float = 0.01
    label_smoothing: float = 0.05
    max_angle: float = 0.15
    max_zoom: float = 0.1
    max_shift: float = 0.1


def train_digits(*, seed: int = 0, recipe: Recipe | None = None) -> DigitsCNN:
    """Return the embedded network trained on the first half of the digits, from the cache if it is there.

    The caller's random state, threads and determinism settings are unchanged.

    Args:
        seed: Seed of weights, order and augmentation.
        recipe: Hyperparameters; the defaults if None.

    Returns:
        The network in evaluation mode.
    """
    chosen = recipe or Recipe()
    with torch.random.fork_rng(devices=[]):
        model = DigitsCNN()
        load_or_train(model, "digits_cnn", seed=seed, recipe=chosen, train=lambda: _train(seed, chosen))
    return model.eval()


def _train(seed: int, recipe: Recipe) -> dict[str, Tensor]:
    pool, _ = digits_pools()
    images = torch.stack([pool.read(index)[0] for index in range(len(pool.keys))])
    labels = torch.as_tensor(np.asarray(pool.labels))
    torch.default_generator.manual_seed(seed)
    with reproducible():
        model = DigitsCNN()
        _fit(model, images, labels, recipe=recipe, generator=Generator().manual_seed(seed))
    return model.state_dict()


def _fit(model: nn.Module, images: Tensor, labels: Tensor, *, recipe: Recipe, generator: Generator) -> None:
    peak = recipe.peak_learning_rate
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=recipe.weight_decay)
    steps = len(labels) // recipe.batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=recipe.epochs * steps)
    model.train()
    for _ in range(recipe.epochs):
        order = torch.randperm(len(labels), generator=generator)[: steps * recipe.batch_size]
        for chosen in torch.split(order, recipe.batch_size):
            outputs = model(_jitter(images[chosen], recipe, generator))
            loss = cross_entropy(outputs, labels[chosen], label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()


def _jitter(images: Tensor, recipe: Recipe, generator: Generator) -> Tensor:
    """Rotate, zoom and shift each image at random."""
    angle, zoom, shift_x, shift_y = 2 * torch.rand(4, len(images), generator=generator) - 1
    angle, scale = recipe.max_angle * angle, 1 + recipe.max_zoom * zoom
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rows = [cos, -sin, recipe.max_shift * shift_x, sin, cos, recipe.max_shift * shift_y]
    grid = affine_grid(torch.stack(rows, dim=1).view(-1, 2, 3), list(images.shape), align_corners=False)
    return grid_sample(images, grid, align_corners=False)
