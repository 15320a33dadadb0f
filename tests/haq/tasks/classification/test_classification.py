import pytest
import torch
from torch import Tensor, nn

from haq.errors import UserError
from haq.tasks.classification import Accuracy, ClassificationTask, chance_warning
from haq.tasks.items import StoredSplit


class Numbered:
    """Item i is an input full of i; its label is i modulo 3."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]:
        return torch.full((1, 2, 2), float(index)), index % 3


def task(*, exact_classes: bool = True) -> ClassificationTask:
    splits = {"calibration": StoredSplit(Numbered()), "search": StoredSplit(Numbered())}
    return ClassificationTask(
        name="numbers", splits=splits, num_classes=3, facts={"seed": 0}, exact_classes=exact_classes
    )


def numbers(batches: object) -> list[int]:
    return [int(value) for inputs, _ in batches for value in inputs[:, 0, 0, 0]]  # type: ignore[attr-defined]


def test_accuracy_by_hand() -> None:
    metric = Accuracy()
    metric.update(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
    metric.update(torch.tensor([[0.1, 0.9]]), torch.tensor([1]))
    assert metric.compute() == pytest.approx(2 / 3)


def test_loss_is_mean_cross_entropy() -> None:
    loss = task().loss(torch.zeros(5, 4), torch.arange(5) % 4)
    assert loss.item() == pytest.approx(torch.log(torch.tensor(4.0)).item())


def test_batches_give_all_items_in_order() -> None:
    assert numbers(task().batches("search", batch_size=3)) == list(range(7))
    assert [len(targets) for _, targets in task().batches("search", batch_size=3)] == [3, 3, 1]


def test_missing_split_is_empty() -> None:
    assert task().size("train") == 0
    assert list(task().batches("train", batch_size=3)) == []


def test_shuffled_order_depends_on_generator_only() -> None:
    def order(seed: int) -> list[int]:
        return numbers(task().shuffled("search", batch_size=2, generator=torch.Generator().manual_seed(seed)))

    assert order(1) == order(1) != order(2)
    assert sorted(order(1)) == list(range(7))


def test_example_is_first_calibration_input() -> None:
    assert torch.equal(task().example(), torch.zeros(1, 1, 2, 2))


def linear(outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(4, outputs))


def test_networks_must_answer_with_the_classes_of_the_data() -> None:
    task().validate(linear(3))
    task(exact_classes=False).validate(linear(5))
    for outputs in (2, 5):
        with pytest.raises(UserError, match=f"has {outputs} outputs and numbers has 3 classes"):
            task().validate(linear(outputs))
    with pytest.raises(UserError, match=r"answers one item with \(1, 1, 2, 2\)"):
        task().validate(nn.Identity())


@pytest.mark.parametrize(
    ("accuracy", "num_classes", "n", "warned"),
    [
        (0.1, 10, 1000, True),  # the mean of guessing
        (0.0, 10, 1000, True),
        (0.15, 10, 1000, False),  # 5.3 standard deviations above it
        (0.15, 10, 100, True),  # 1.7
        (1.0, 2, 6, True),  # guessing does it once in 64
        (1.0, 2, 7, False),  # once in 128
    ],
)
def test_chance_is_what_guessing_reaches_once_in_a_hundred(
    accuracy: float, num_classes: int, n: int, warned: bool
) -> None:
    assert (chance_warning(accuracy, num_classes, n) is not None) is warned
