"""`haq train`: truncated back-propagation, the schedule, the weights that are kept, and what is refused."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from haq.__main__ import main
from haq.errors import UserError
from haq.network.models import language_models
from haq.network.models.language_models import RecurrentLanguageModel, TransformerLanguageModel
from haq.network.weight_files import read_weights
from haq.network.zoo import load_model
from haq.quantization.training.dropout import set_dropout
from haq.tasks.loading import load_task
from haq.training.config import TrainingConfig, training_config
from haq.training.train import Training


def small(**settings: object) -> RecurrentLanguageModel:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return RecurrentLanguageModel("lstm", 8, num_classes=13, **settings)  # type: ignore[arg-type]


def trained(folder: Path, model: nn.Module, **settings: object) -> tuple[list[float], list[float]]:
    """Scores and learning rates of all epochs."""
    task = load_task(f"text:{folder}?length=5", model=model.eval())
    training = Training(model, task, config=training_config(batch_size=8, **settings), seed=0)
    results = list(training.run())
    return [each.search_accuracy for each in results], [each.lr for each in results]


def test_training_finds_the_structure_of_a_text(tiny_text: Path) -> None:
    scores, _ = trained(tiny_text, small(dropout=0.0), epochs=6, lr=0.02)
    assert scores[-1] > scores[0]
    assert scores[-1] > -6  # of 13 words, two or three can follow


def test_sgd_learns_too(tiny_text: Path) -> None:
    scores, rates = trained(tiny_text, small(dropout=0.0), optimizer="sgd", lr=2.0, epochs=4)
    assert scores[-1] > scores[0]
    assert rates[0] == 2


def test_the_rate_is_divided_where_the_score_does_not_improve(tiny_text: Path) -> None:
    scores, rates = trained(tiny_text, small(), optimizer="sgd", lr=1e-30, epochs=3, plateau_factor=10)
    assert scores[0] == scores[1] == scores[2]
    assert rates == pytest.approx([1e-30, 1e-30, 1e-31])


def test_equal_seeds_train_equal_weights(tiny_text: Path) -> None:
    models = [small(), small()]
    for model in models:
        trained(tiny_text, model, epochs=1)
    assert all(torch.equal(*pair) for pair in zip(*(model.parameters() for model in models), strict=True))


def test_training_carries_the_state_over_batches(tiny_text: Path) -> None:
    class Recorder(RecurrentLanguageModel):
        def forward(self, tokens, state=None):  # type: ignore[no-untyped-def]
            outputs, after = super().forward(tokens, state)
            if self.training:
                states.append((state[0], after[0].detach()))
            return outputs, after

    states: list[tuple[torch.Tensor, torch.Tensor]] = []
    trained(tiny_text, Recorder("lstm", 8, num_classes=13), epochs=1)
    assert not states[0][0].any()
    assert all(torch.equal(after, before) for (_, after), (before, _) in pairwise(states))


def test_a_network_that_diverges_is_named(tiny_text: Path) -> None:
    model = small()
    model.decoder.bias.data.fill_(float("inf"))
    with pytest.raises(UserError, match="the loss became nan in step 1; lower --lr"):
        trained(tiny_text, model, epochs=1)


def test_dropout_is_set_everywhere() -> None:
    model = small()
    set_dropout(model, 0.25)
    assert (model.dropout.p, model.rnn.dropout) == (0.25, 0.25)
    transformer = TransformerLanguageModel(num_classes=5, width=4, blocks=1, heads=2)
    others = nn.Sequential(transformer, nn.MultiheadAttention(4, 2, dropout=0.5))
    set_dropout(others, 0.25)
    assert transformer.blocks[0].attention.dropout.p == others[1].dropout == 0.25


@pytest.fixture
def tiny_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hidden layers of eight units."""
    monkeypatch.setattr("haq.network.zoo.BUILT_IN", {**load_tiny()})


def load_tiny() -> dict[str, tuple[object, tuple[int, ...]]]:
    def build(*, num_classes: int = 100) -> nn.Module:
        return RecurrentLanguageModel("lstm", 8, num_classes=num_classes, tied=True)

    return {"lstm_300:tied": (build, (language_models.STEPS,))}


@pytest.mark.usefixtures("tiny_models")
def test_the_command_writes_weights_that_load(
    tiny_text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = f"text:{tiny_text}?length=5", tmp_path / "lstm.safetensors"
    flags = ["train", "--model", "lstm_300:tied", "--data", data, "--epochs", "2", "--out", str(out), "--quiet"]
    assert main([*flags, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["metric"] == "perplexity"
    assert len(document["epochs"]) == 2
    assert document["search_accuracy"] == max(each["search_accuracy"] for each in document["epochs"])
    assert list(tmp_path.iterdir()) == [out]
    weights = read_weights(out)
    assert torch.equal(weights["decoder.weight"], weights["embedding.weight"])
    model = load_model("lstm_300:tied", weights=out)
    assert model.decoder.weight is model.embedding.weight
    assert model.decoder.out_features == 13
    assert main([*flags, "--weights", str(out)]) == 0
    assert "perplexity: search split" in capsys.readouterr().out


@pytest.mark.usefixtures("tiny_models")
def test_wrong_flags_are_refused(tiny_text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["train", "--model", "lstm_300:tied", "--data", f"text:{tiny_text}"]
    for extra, message in (
        (["--out", str(tmp_path)], "is no file in an existing folder"),
        (["--out", str(tmp_path / "a.safetensors"), "--lr", "-1"], "--lr -1.0: input should be greater than 0"),
    ):
        assert main([*flags, *extra]) == 2
        assert message in capsys.readouterr().err


def test_a_network_that_does_not_run_on_the_data_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.safetensors"
    assert main(["train", "--model", "cifar_resnet20", "--data", "digits", "--out", str(out), "--quiet"]) == 2
    assert "the model does not run on an input of shape (1, 1, 16, 16)" in capsys.readouterr().err
    assert not out.exists()


def test_image_networks_are_trained_too() -> None:
    task = load_task("digits")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))
    training = Training(model, task, config=TrainingConfig(epochs=2, lr=0.01), seed=0)
    assert [each.search_accuracy > 0.5 for each in training.run()][-1]
