"""Language modelling as a task: perplexity of a whole text, distances, states, and networks that do not fit."""

from math import exp, log
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from haq.errors import UserError
from haq.execution.networks import runner
from haq.network.models.language_models import RecurrentLanguageModel, TransformerLanguageModel
from haq.tasks.distances import distribution_distance, sequence_distance
from haq.tasks.language_modelling import LanguageModellingTask, Perplexity
from haq.tasks.loading import load_task
from haq.tasks.options import TaskOptions
from haq.tasks.predictions import predictions, score


@pytest.fixture(params=["lstm", "gru"])
def recurrent(request: pytest.FixtureRequest) -> RecurrentLanguageModel:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = RecurrentLanguageModel(request.param, 8, num_classes=13)
    for weight in model.parameters():
        weight.data.mul_(3)  # so that states matter
    return model.eval()


def loaded(folder: Path, model: nn.Module | None = None, query: str = "") -> LanguageModellingTask:
    task = load_task(f"text:{folder}?length=5{query}", model=model)
    assert isinstance(task, LanguageModellingTask)
    return task


@torch.no_grad()
def plain_perplexity(model: RecurrentLanguageModel, text: Tensor, *, segments: int, streams: int) -> float:
    """Perplexity of a text that is cut into streams, token by token."""
    loss, begin = 0.0, 0
    for stream in range(streams):
        length = 5 * (segments // streams + (stream < segments % streams))
        state = None
        for place in range(begin, begin + length):
            logits, state = model(text[place].view(1, 1), state)
            loss -= logits[0, 0].log_softmax(dim=0)[text[place + 1]].item()
        begin += length
    return exp(loss / begin)


@pytest.mark.parametrize("batch_size", [2, 3, 256])
def test_perplexity_is_that_of_a_plain_loop_over_the_text(
    tiny_text: Path, recurrent: RecurrentLanguageModel, batch_size: int
) -> None:
    task = loaded(tiny_text, recurrent, "&streams=3")
    report = task.splits["report"]
    expected = plain_perplexity(recurrent, report.text, segments=len(report), streams=3)
    assert score(runner(recurrent), task, "report", batch_size=batch_size) == pytest.approx(-expected, rel=1e-5)


@torch.no_grad()
def test_perplexity_of_the_test_text_is_that_of_one_loop_over_all_its_tokens(
    tiny_text: Path, recurrent: RecurrentLanguageModel
) -> None:
    task = loaded(tiny_text, recurrent)
    text = task.splits["report"].text
    assert (len(text) - 1) % 5
    logits, _ = recurrent(text[None, :-1], None)
    expected = exp(cross_entropy(logits[0], text[1:]).item())
    assert score(runner(recurrent), task, "report", batch_size=64) == pytest.approx(-expected, rel=1e-5)
    assert (task.streams("search"), task.streams("report")) == (32, 1)


def test_carried_states_change_the_perplexity(tiny_text: Path, recurrent: RecurrentLanguageModel) -> None:
    carried, reset = loaded(tiny_text, recurrent, "&streams=1"), loaded(tiny_text)
    first, second = (score(runner(recurrent), task, "report", batch_size=1) for task in (carried, reset))
    assert first != pytest.approx(second, rel=1e-4)


def test_inputs_have_the_state_of_the_batch_before(tiny_text: Path, recurrent: RecurrentLanguageModel) -> None:
    task = loaded(tiny_text, recurrent, "&streams=2")
    first, second, *_ = predictions(runner(recurrent), task, "search", batch_size=2)
    torch.testing.assert_close(second.inputs[1], first.outputs[1])


def test_networks_without_a_state_get_tokens_alone(tiny_text: Path) -> None:
    model = TransformerLanguageModel(num_classes=13, width=8, blocks=1, heads=2, context=8).eval()
    task = loaded(tiny_text, model)
    assert task.example().shape == (1, 5)
    assert task.streams("search") is None
    task.validate(model)


def test_perplexity_is_the_exponential_of_the_mean_loss_per_token() -> None:
    meter = Perplexity()
    meter.update((torch.tensor([[[0.0, 0.0, 0.0], [log(2.0), 0.0, 0.0]]]), None), torch.tensor([[1, 0]]))
    meter.update(torch.tensor([[[0.0, 0.0, 0.0]]]), torch.tensor([[2]]))
    assert meter.compute() == pytest.approx((3 * 2 * 3) ** (1 / 3))


def test_perplexities_of_diverged_networks_are_finite() -> None:
    meter = Perplexity()
    meter.update(torch.tensor([[[0.0, 1e6]]]), torch.tensor([[0]]))
    assert meter.compute() == pytest.approx(exp(100))


def test_each_position_has_a_distribution_of_its_own() -> None:
    outputs, reference = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    found = sequence_distance(outputs, reference)
    by_position = [distribution_distance(outputs[:, place], reference[:, place]) for place in range(3)]
    assert found.divergence.item() == pytest.approx(sum(each.divergence.item() for each in by_position) / 3, rel=1e-5)
    assert found.error.item() == pytest.approx(sum(each.error.item() for each in by_position))
    moved = sequence_distance(reference + torch.randn(2, 3, 1), reference)
    assert moved.divergence.item() == pytest.approx(0, abs=1e-5)


def test_distances_ignore_states(tiny_text: Path, recurrent: RecurrentLanguageModel) -> None:
    task, logits = loaded(tiny_text, recurrent), torch.randn(2, 5, 13)
    found = task.distance((logits, torch.zeros(2, 1)), (logits, torch.ones(2, 1)))
    assert (found.divergence.item(), found.error.item()) == pytest.approx((0, 0), abs=1e-5)


def test_another_vocabulary_is_named(tiny_text: Path) -> None:
    model = RecurrentLanguageModel("lstm", 4, num_classes=20).eval()
    with pytest.raises(UserError, match=r"a vocabulary of 20 tokens and text:.* has 13"):
        loaded(tiny_text, model)


def test_other_networks_are_refused(tiny_text: Path) -> None:
    with pytest.raises(UserError, match="does not run on one token"):
        loaded(tiny_text, nn.Conv2d(1, 1, 1))
    with pytest.raises(UserError, match=r"needs logits \[items, tokens, vocabulary\]"):
        loaded(tiny_text, nn.Sequential(nn.Embedding(13, 13), nn.Flatten()))


def test_states_need_items_first(tiny_text: Path) -> None:
    class LayersFirst(RecurrentLanguageModel):
        def forward(self, tokens: Tensor, state: object = None) -> tuple[Tensor, Tensor]:
            logits, _ = super().forward(tokens)
            return logits, torch.zeros(2, len(tokens), 8 if state is None else 9)

    model = LayersFirst("gru", 8, num_classes=13).eval()
    with pytest.raises(UserError, match=r"a state of shape \(2, 1, 9\) for one of \(2, 1, 8\)"):
        loaded(tiny_text, model).validate(model)


def test_runs_record_what_they_were_made_of(tiny_text: Path) -> None:
    description = dict(loaded(tiny_text).description())
    assert (description["vocabulary_size"], description["length"], description["level"]) == (13, 5, "word")
    assert description == loaded(tiny_text).description()
    other = load_task(f"text:{tiny_text}?length=5", options=TaskOptions(search_images=10)).description()
    assert other["splits"]["search"] != description["splits"]["search"]


def test_transforms_of_images_do_not_apply(tiny_text: Path) -> None:
    with pytest.raises(UserError, match="normalize, resize and crop do not apply"):
        load_task(f"text:{tiny_text}", options=TaskOptions(resize=8))
