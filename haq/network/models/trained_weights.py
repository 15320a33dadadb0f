"""Weights of embedded networks, trained on first use and cached."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from haq.files import write_atomically
from haq.runs.cache import cache_dir

Train = Callable[[], dict[str, Tensor]]
"""Function that trains a network and returns its state."""


def load_or_train(model: nn.Module, name: str, *, seed: int, recipe: object, train: Train) -> None:
    """Give a network its trained weights, from the cache if they are there.

    Args:
        model: Network; its weights are replaced.
        name: Name of the network, for the file in the cache.
        seed: Seed of the training.
        recipe: Hyperparameters, whose `repr` distinguishes files in the cache.
        train: Training; its result depends on the network, the seed and the recipe alone.
    """
    path = cache_dir() / f"{name}-s{seed}-{_fingerprint(model, recipe)}.safetensors"
    try:
        state = load(path.read_bytes())
    except (FileNotFoundError, SafetensorError):  # not trained yet, or damaged
        content = save(train())
        write_atomically(path, content)
        state = load(content)
    model.load_state_dict(state)


@contextmanager
def reproducible() -> Iterator[None]:
    """Use one thread and deterministic kernels inside the context.

    Yields:
        None.
    """
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    try:
        with torch.enable_grad():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


def _fingerprint(model: nn.Module, recipe: object) -> str:
    """Return a hash of everything that the trained weights depend on, except the processor."""
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    return hashlib.sha256(repr((recipe, shapes, str(torch.__version__))).encode()).hexdigest()[:12]
