"""Fine-tuning inside the episode of a search."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import haq
from haq.config import search_config
from haq.errors import UserError
from haq.evaluation.engines.finetuned import EpisodeEngine, FinetunedEngine
from haq.evaluation.evaluator import Evaluator
from haq.evaluation.protocols import Engine
from haq.experiment.preparation import prepare_network
from haq.network.layers import trace
from haq.policy import PolicyBits
from haq.quantization.training.initialization import Initializer
from haq.quantization.training.learner import DivergedError, Learner
from haq.quantization.training.network import start_network
from haq.tasks.classification import ClassificationTask

FEW, MANY = ((8, 2, 2, 2, 8), (8, 2, 2, 2, 8)), ((8,) * 5, (8,) * 5)


def engine_of(model: nn.Module, task: ClassificationTask, **settings: object) -> EpisodeEngine:
    config = search_config(episode_finetune_steps=4, calibration_images=48, **settings)
    engine = prepare_network(config, model=model, task=task).engine
    assert isinstance(engine, EpisodeEngine)
    return engine


def test_the_float_network_stays_as_it_was(small_net: nn.Module, quarters: ClassificationTask) -> None:
    before = {name: value.clone() for name, value in small_net.state_dict().items()}
    gradients = [parameter.requires_grad for parameter in small_net.parameters()]
    engine = engine_of(small_net, quarters)
    inputs = next(quarters.batches("search", batch_size=48))[0]
    with torch.no_grad():
        floats = engine.runner(None)(inputs)
        tuned = engine.runner(FEW)(inputs)
        assert torch.equal(engine.runner(None)(inputs), floats)
    assert not torch.equal(tuned, floats)
    assert all(torch.equal(value, before[name]) for name, value in small_net.state_dict().items())
    assert [parameter.requires_grad for parameter in small_net.parameters()] == gradients
    assert all(parameter.grad is None for parameter in small_net.parameters())


def test_the_order_of_policies_does_not_matter(small_net: nn.Module, quarters: ClassificationTask) -> None:
    inputs = next(quarters.batches("search", batch_size=48))[0]
    answers = []
    for order in ((FEW, MANY), (MANY, FEW)):
        engine = engine_of(small_net, quarters)
        with torch.no_grad():
            answers.append({bits: engine.runner(bits)(inputs) for bits in order})
    assert all(torch.equal(answers[0][bits], answers[1][bits]) for bits in (FEW, MANY))


def test_another_seed_draws_other_batches(small_net: nn.Module, quarters: ClassificationTask) -> None:
    inputs = next(quarters.batches("search", batch_size=48))[0]
    with torch.no_grad():
        first, second = (engine_of(small_net, quarters, seed=seed).runner(FEW)(inputs) for seed in (0, 1))
    assert not torch.equal(first, second)


def test_steps_are_counted_as_images(small_net: nn.Module, quarters: ClassificationTask) -> None:
    engine = engine_of(small_net, quarters)
    assert engine.images_per_policy == 4 * 64 * (3 + 1) + 256  # forward, twice as much back, and the teacher
    evaluator = Evaluator(engine, quarters, "search")
    before = evaluator.forward_images
    evaluator.evaluate(*FEW)
    assert evaluator.forward_images - before == 48 + engine.images_per_policy


def test_diverging_policy_is_evaluated_as_initialized(
    small_net: nn.Module, quarters: ClassificationTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = next(quarters.batches("search", batch_size=48))[0]
    engine, steps = engine_of(small_net, quarters), []

    def diverge(learner: Learner, *_: object) -> None:
        with torch.no_grad():
            for parameter in learner.network.parameters():
                parameter.fill_(torch.nan)
        steps.append(learner)
        raise DivergedError("no number")

    monkeypatch.setattr(Learner, "step", diverge)
    with torch.no_grad():
        assert engine.runner(FEW)(inputs).isfinite().all()
        assert not torch.equal(engine.runner(FEW)(inputs), engine.runner(None)(inputs))
    assert len(steps) == 1


def test_quantizers_alone_leave_the_weights(small_net: nn.Module, quarters: ClassificationTask) -> None:
    engine = engine_of(small_net, quarters, episode_finetune="quantizers")
    engine.runner(FEW)
    assert engine._tuned is not None
    state = engine._tuned[1].model.state_dict()
    for name, value in small_net.state_dict().items():
        assert torch.equal(value, state[name]) is ("running" not in name and "num_batches" not in name)


def test_a_few_steps_help_two_bits() -> None:
    accuracy = {}
    for steps in (0, 12):
        config = search_config(
            episode_finetune_steps=steps, corrections="none", rounding="nearest", engine="torch", search_images=200
        )
        network = prepare_network(config)
        evaluator = Evaluator(network.engine, network.task, "search")
        count = len(network.priced.layers)
        accuracy[steps] = evaluator.evaluate((8, *[2] * (count - 2), 8), (8, *[4] * (count - 2), 8)).accuracy
    assert accuracy[12] > accuracy[0] + 0.2


def test_what_cannot_be_fine_tuned_is_named(tiny_net: nn.Module, tiny_task: ClassificationTask) -> None:
    config = search_config(episode_finetune_steps=1)
    with pytest.raises(UserError, match="--episode-finetune-steps needs a train split, which blobs does not have"):
        prepare_network(config, model=tiny_net, task=tiny_task)
    with pytest.raises(UserError, match="use --quantizer linear"):
        prepare_network(search_config(episode_finetune_steps=1, quantizer="kmeans"))
    with pytest.raises(UserError, match="use --engine torch"):
        prepare_network(search_config(episode_finetune_steps=1, engine="onnxruntime"))


def test_a_search_with_it(small_net: nn.Module, quarters: ClassificationTask, tmp_path: Path) -> None:
    settings = {"episodes": 2, "calibration_images": 48, "agent": "random"}
    results = [
        haq.search(small_net, quarters, out=tmp_path / name, episode_finetune_steps=2, **settings)
        for name in ("one", "two")  # type: ignore[arg-type]
    ]
    journals = [(tmp_path / name / "episodes.jsonl").read_text() for name in ("one", "two")]
    lines = [[json.loads(line) for line in journal.splitlines()] for journal in journals]
    assert [each["accuracy"] for each in lines[0]] == [each["accuracy"] for each in lines[1]]
    assert results[0].summary.accuracy == results[1].summary.accuracy


def engine_named(name: str, model: nn.Module, task: ClassificationTask) -> Engine:
    if name == "episodes":
        return engine_of(model, task)
    images = next(task.batches("calibration", batch_size=48))[0]
    if name == "finetuned":
        initializer = Initializer(model, trace(model, images[:1]), lambda: [images], shift="learned")
        return FinetunedEngine(model, start_network(model, initializer, FEW).eval(), FEW)
    config = search_config(engine=name, calibration_images=48, rounding="nearest")
    return prepare_network(config, model=model, task=task).engine


@pytest.mark.parametrize(
    ("name", "others"),
    [("torch", (MANY, None)), ("onnxruntime", (MANY, None)), ("episodes", (MANY, None)), ("finetuned", (None,))],
)
def test_an_answer_keeps_its_bits_when_others_are_asked_for(
    name: str, others: tuple[PolicyBits | None, ...], small_net: nn.Module, quarters: ClassificationTask
) -> None:
    inputs = next(quarters.batches("search", batch_size=48))[0]
    engine = engine_named(name, small_net, quarters)
    with torch.no_grad():
        few = engine.runner(FEW)
        expected = few(inputs)
        networks = [engine.runner(bits) for bits in others]
        assert torch.equal(few(inputs), expected)
        assert not any(torch.equal(network(inputs), expected) for network in networks)
        assert torch.equal(few(inputs), expected)
