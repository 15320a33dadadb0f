"""Training of the embedded detector: about a minute on one core, deterministic, and cached."""

from dataclasses import dataclass

import torch
from torch import Generator

from haq.network.models.shapes_detector import ShapesDetector
from haq.network.models.trained_weights import load_or_train, reproducible
from haq.tasks.detection.augmentation import augment_images
from haq.tasks.detection.outputs import GroundTruth
from haq.tasks.detection.shapes import shapes_pools


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Hyperparameters of the training; `images` are the first of the train part."""

    images: int = 3000
    epochs: int = 8
    batch_size: int = 32
    peak_learning_rate: float = 0.01
    weight_decay: float = 0.01


def train_shapes(*, seed: int = 0, recipe: Recipe | None = None) -> ShapesDetector:
    """Return the embedded detector trained on the train part of the shapes, from the cache if it is there.

    The caller's random state, threads and determinism settings are unchanged.

    Args:
        seed: Seed of weights, order and augmentation.
        recipe: Hyperparameters; the defaults if None.

    Returns:
        The network in evaluation mode.
    """
    chosen = recipe or Recipe()
    with torch.random.fork_rng(devices=[]):
        model = ShapesDetector()
        load_or_train(
            model, "shapes_detector", seed=seed, recipe=chosen, train=lambda: _trained(seed, chosen).state_dict()
        )
    return model.eval()


def _trained(seed: int, recipe: Recipe) -> ShapesDetector:
    pool, _ = shapes_pools()
    items = [pool.read(index) for index in range(recipe.images)]
    torch.default_generator.manual_seed(seed)
    with reproducible():
        model = ShapesDetector()
        _fit(model, items, recipe, Generator().manual_seed(seed))
    return model


def _fit(
    model: ShapesDetector, items: list[tuple[torch.Tensor, GroundTruth]], recipe: Recipe, generator: Generator
) -> None:
    peak = recipe.peak_learning_rate
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=recipe.weight_decay)
    steps = len(items) // recipe.batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=recipe.epochs * steps)
    model.train()
    for _ in range(recipe.epochs):
        order = torch.randperm(len(items), generator=generator)[: steps * recipe.batch_size]
        for chosen in torch.split(order, recipe.batch_size):
            images, targets = zip(*(items[index] for index in chosen.tolist()), strict=True)
            inputs, moved = augment_images(torch.stack(images), targets, flips=True, generator=generator)
            loss = model.detection.loss(model(inputs), moved)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
