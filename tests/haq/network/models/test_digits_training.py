from pathlib import Path

import pytest
import torch

from haq.network.models.digits_cnn import DigitsCNN
from haq.network.models.digits_training import Recipe, train_digits
from haq.tasks import load_task

SHORT = Recipe(epochs=1)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HAQ_CACHE", str(tmp_path))
    return tmp_path


def equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_training_and_cache_give_identical_weights(cache: Path) -> None:
    first, cached = (train_digits(recipe=SHORT) for _ in range(2))
    (file,) = cache.iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:100])  # damaged: trained again
    again = train_digits(recipe=SHORT)
    assert equal(first, cached)
    assert equal(first, again)
    assert file.read_bytes() == content


def test_seeds_and_recipes_have_separate_cache_files(cache: Path) -> None:
    first, other = train_digits(recipe=SHORT), train_digits(seed=1, recipe=SHORT)
    assert not equal(first, other)
    train_digits(recipe=Recipe(epochs=1, batch_size=128))
    assert len(list(cache.iterdir())) == 3


@pytest.mark.usefixtures("cache")
def test_caller_settings_are_restored() -> None:
    def settings() -> tuple[object, ...]:
        return torch.get_rng_state().tolist(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()

    before = settings()
    with torch.no_grad():
        model = train_digits(recipe=SHORT)
    assert settings() == before
    assert not model.training


def test_network_has_fifteen_layers_and_thirty_thousand_weights() -> None:
    layers = [module for module in DigitsCNN().modules() if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear))]
    assert len(layers) == 15
    assert sum(getattr(layer, "groups", 1) > 1 for layer in layers) == 4
    assert sum(layer.weight.numel() for layer in layers) == 29_712


def test_few_epochs_reach_accuracy(cache: Path) -> None:  # noqa: ARG001 - sets the cache
    task, model = load_task("digits"), train_digits(recipe=Recipe(epochs=5))
    metric = task.meter()
    with torch.no_grad():
        for inputs, targets in task.batches("report", batch_size=540):
            metric.update(model(inputs), targets)
    assert metric.compute() > 0.95
