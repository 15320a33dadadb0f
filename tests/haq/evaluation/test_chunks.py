"""Running a network on a few items at a time."""

import torch
from torch import Tensor

from haq.evaluation.chunks import CHUNK_VALUES, chunk_size, in_chunks


class Watched:
    """Doubles; remembers how many items it saw."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        return 2 * x[:, :3]


def test_chunks_are_as_large_as_allowed_and_keep_their_order() -> None:
    network = Watched()
    inputs = torch.arange(7.0)[:, None].expand(7, CHUNK_VALUES // 3)
    assert torch.equal(in_chunks(network, inputs), 2 * inputs[:, :3])
    assert network.seen == [3, 3, 1]


def test_structured_inputs_and_outputs_are_cut_and_joined() -> None:
    x, y = torch.arange(5.0)[:, None].expand(5, CHUNK_VALUES // 2), torch.arange(5.0)
    found = in_chunks(lambda inputs: (inputs["y"], {"x": inputs["x"][:, 0]}), {"x": x, "y": y})
    assert found[0].tolist() == found[1]["x"].tolist() == [0, 1, 2, 3, 4]
    assert chunk_size({"x": x, "y": y}) == 1


def test_small_batches_and_too_large_items_stay_whole() -> None:
    network = Watched()
    in_chunks(network, torch.ones(50, 4))
    in_chunks(network, torch.ones(1, 1).expand(2, CHUNK_VALUES + 1))
    assert network.seen == [50, 1, 1]
