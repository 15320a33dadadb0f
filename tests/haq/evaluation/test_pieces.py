"""A few items at a time give what all at once give."""

import torch
from torch import Tensor

from haq.evaluation.pieces import INPUTS_AT_ONCE, in_pieces


class Watched:
    """Doubles; remembers how many items it saw."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        return 2 * x[:, :3]


def test_pieces_are_as_large_as_may_be_and_keep_their_order() -> None:
    network = Watched()
    inputs = torch.arange(7.0)[:, None].expand(7, INPUTS_AT_ONCE // 3)
    assert torch.equal(in_pieces(network, inputs), 2 * inputs[:, :3])
    assert network.seen == [3, 3, 1]


def test_a_small_batch_and_an_item_too_large_stay_whole() -> None:
    network = Watched()
    in_pieces(network, torch.ones(50, 4))
    in_pieces(network, torch.ones(1, 1).expand(2, INPUTS_AT_ONCE + 1))
    assert network.seen == [50, 1, 1]
