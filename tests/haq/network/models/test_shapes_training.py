"""The embedded detector."""

from pathlib import Path

import pytest
import torch
from torch import nn

from haq.network.models.shapes_detector import ShapesDetector
from haq.network.models.shapes_training import Recipe, train_shapes
from haq.network.zoo import build_model
from haq.tasks import TaskOptions, load_task
from haq.tasks.optional import ChanceTask

TINY = Recipe(images=64, epochs=1)


def test_training_and_cache_give_identical_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAQ_CACHE", str(tmp_path))
    first, cached = (train_shapes(recipe=TINY) for _ in range(2))
    (file,) = tmp_path.iterdir()
    assert file.name.startswith("shapes_detector-s0-")
    assert all(
        torch.equal(x, y) for x, y in zip(first.state_dict().values(), cached.state_dict().values(), strict=True)
    )
    assert not first.training


def test_network_has_sixteen_convolutions_five_of_them_depthwise() -> None:
    layers = [module for module in ShapesDetector().modules() if isinstance(module, nn.Conv2d)]
    assert len(layers) == 16
    assert sum(layer.groups > 1 for layer in layers) == 5
    assert sum(isinstance(module, nn.SiLU) for module in ShapesDetector().modules()) == 11


def test_an_untrained_network_fits_the_shapes_and_is_warned_of() -> None:
    model = build_model("shapes_detector")
    task = load_task("shapes", model=model, options=TaskOptions(search_images=8, report_images=4))
    assert isinstance(task, ChanceTask)
    task.validate(model)
    inputs, targets = next(task.batches("search", batch_size=4))
    meter = task.meter()
    with torch.no_grad():
        meter.update(model(inputs), targets)
    warning = task.chance_warning(meter.compute(), items=4)
    assert warning is not None
    assert "are the weights of this model loaded" in warning
