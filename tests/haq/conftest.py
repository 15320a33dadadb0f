"""One finished search for all tests that only look at one, and a network and a task that cost nothing."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx.parser
import onnxruntime as ort
import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import mse_loss

import haq.cli.plot  # noqa: F401  before a test replaces what it imports
from haq.__main__ import main
from haq.errors import UserError
from haq.execution.networks import run_network
from haq.execution.structures import Structure, take
from haq.tasks.base import Batch, SplitName
from haq.tasks.classification import ClassificationTask
from haq.tasks.detection.task import DetectionTask, heads_of
from haq.tasks.distances import Distance, squared_distance
from haq.tasks.items import StoredSplit
from haq.tasks.language_modelling import LanguageModellingTask
from haq.tasks.loading import load_task
from haq.tasks.metrics import Metric
from tests.haq.cells import CellNet, Cells

IMAGES = ("--search-images", "60", "--report-images", "60", "--calibration-images", "64")
SMALL = (*IMAGES, "--budget", "0.4", "--episodes", "30", "--seed", "3")
"""A search of seconds."""


@pytest.fixture(scope="session")
def small_flags() -> tuple[str, ...]:
    return SMALL


@pytest.fixture(scope="session")
def finished_run(shared_run: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The folder of a small search on the digits that nobody interrupted. Copy it before you change it."""

    def search(path: Path) -> None:
        assert main(["search", *SMALL, "--out", str(path), "--quiet"]) == 0

    return shared_run("finished", search)


@pytest.fixture(scope="session")
def small_runs(finished_run: Path, shared_run: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A folder with a small run of each kind but a search. Copy what you change."""

    def make(folder: Path) -> None:
        images = ("--search-images", "50", "--report-images", "40", "--calibration-images", "64")
        searches = (*images, "--engine", "torch", "--quiet", "--budgets", "0.6")
        commands = {
            "finetune": (str(finished_run), "--epochs", "1", "--quiet"),
            "reconstruct": (str(finished_run), "--steps", "1", "--quiet"),
            "pareto": (*searches, "--agent", "random", "--prior", "none", "--episodes", "2"),
            "compare": (*searches, "--agents", "uniform,random", "--at", "2", "--seeds", "2"),
        }
        folder.mkdir(exist_ok=True)
        with patch("haq.reporting.plots.draw_missing", lambda _: None):
            for kind, flags in commands.items():
                assert main([kind, *flags, "--out", str(folder / kind)]) == 0

    return shared_run("pages", make)


@pytest.fixture(scope="session")
def has_exact_kernels() -> bool:
    """Whether onnxruntime adds products of 8-bit codes exactly; without VNNI it adds pairs in a saturating int16."""
    graph = "g (uint8[1, 64] a, int8[64, 8] b) => (int32[1, 8] c) { c = MatMulInteger (a, b) }"
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 18]> {graph}')
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"a": np.full((1, 64), 255, np.uint8), "b": np.full((64, 8), 127, np.int8)})
    return bool((found == 64 * 255 * 127).all())


class Blobs:
    """Random images [1, 6, 6] whose label is the brightest of four quarters."""

    def __init__(self, count: int, seed: int) -> None:
        self.images = torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
        quarters = self.images.unfold(2, 3, 3).unfold(3, 3, 3).mean(dim=(4, 5)).flatten(1)
        self.labels = quarters.argmax(dim=1).tolist()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]:
        return self.images[index], self.labels[index]


@pytest.fixture
def tiny_task() -> ClassificationTask:
    """40 images for each of calibration, search and report; four classes."""
    names: tuple[SplitName, ...] = ("calibration", "search", "report")
    splits = {name: StoredSplit(Blobs(40, seed)) for seed, name in enumerate(names)}
    return ClassificationTask(name="blobs", splits=splits, num_classes=4, facts={})


@pytest.fixture
def held_out_task(tiny_task: ClassificationTask) -> ClassificationTask:
    """The same with 15 images to select by."""
    return replace(tiny_task, splits={**tiny_task.splits, "selection": StoredSplit(Blobs(15, 7))})


class TinyNet(nn.Module):
    """Hands the mean of each quarter through three layers: right from the start, without training."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, stride=3, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.mix = nn.Conv2d(4, 8, 1)
        self.classifier = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.classifier(torch.relu(self.mix(torch.relu(self.bn(self.conv(x))))).flatten(1))
        return scores


@pytest.fixture
def tiny_net() -> TinyNet:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        net = TinyNet()
    with torch.no_grad():
        net.conv.weight[0], net.mix.weight[0], net.mix.bias[0] = 1 / 9, 0.0, 0.0
        net.mix.weight[0, 0] = 1.0
        net.classifier.weight.mul_(0.01)
        net.classifier.bias.zero_()
        for quarter in range(4):
            net.classifier.weight[quarter, quarter] = 5.0
    return net


REGRESSION_SIZES: Mapping[SplitName, int] = {
    "train": 64,
    "calibration": 32,
    "search": 40,
    "selection": 16,
    "report": 40,
}
RMSE = Metric(name="rmse", low=0.0, higher_is_better=False, items="drives")


class RootMeanSquare:
    """Meter of the root mean squared error of the first output."""

    def __init__(self) -> None:
        self._total, self._count = 0.0, 0

    def update(self, outputs: Structure, targets: Tensor) -> None:
        self._total += (outputs[0] - targets).square().sum().item()
        self._count += len(targets)

    def compute(self) -> float:
        return float((self._total / self._count) ** 0.5)


class Regression:
    """Predict the sum of two products from a position [n, 4] and a speed [n, 2]."""

    name = "motion"
    metric = RMSE

    def __init__(self) -> None:
        self._data: dict[SplitName, Batch] = {}
        for seed, (name, size) in enumerate(REGRESSION_SIZES.items()):
            generator = Generator().manual_seed(seed)
            inputs = {
                "position": torch.rand(size, 4, generator=generator),
                "speed": torch.rand(size, 2, generator=generator),
            }
            self._data[name] = inputs, inputs["position"].sum(dim=1) + 2 * inputs["speed"].sum(dim=1)

    def size(self, split: SplitName) -> int:
        return REGRESSION_SIZES.get(split, 0)

    def batches(self, split: SplitName, *, batch_size: int) -> Iterator[Batch]:
        return self._in_order(split, torch.arange(self.size(split)), batch_size)

    def shuffled(self, split: SplitName, *, batch_size: int, generator: Generator) -> Iterator[Batch]:
        return self._in_order(split, torch.randperm(self.size(split), generator=generator), batch_size)

    def _in_order(self, split: SplitName, order: Tensor, batch_size: int) -> Iterator[Batch]:
        for places in torch.split(order, batch_size) if len(order) else ():
            yield take(self._data[split], places)

    def example(self) -> Structure:
        return take(self._data["calibration"][0], slice(1))

    def prepare(self) -> None: ...

    def validate(self, model: nn.Module) -> None:
        with torch.no_grad():
            outputs = run_network(model, self.example())
        if not isinstance(outputs, tuple) or outputs[0].shape != (1,):
            raise UserError(f"{self.name} needs a tuple that begins with one prediction for each item")

    def loss(self, outputs: Structure, targets: Tensor) -> Tensor:
        return mse_loss(outputs[0], targets)

    def distance(self, outputs: Structure, reference: Structure) -> Distance:
        return squared_distance(outputs, reference)

    def meter(self) -> RootMeanSquare:
        return RootMeanSquare()

    def description(self) -> Mapping[str, Any]:
        return {"name": self.name}


class Motion(nn.Module):
    """Answers with a prediction [n] and hidden values in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 8), nn.Linear(2, 8), nn.Linear(8, 1)
        self.mix = nn.Linear(8, 8)
        with torch.no_grad():
            for layer, weight in ((self.first, 1.0), (self.second, 2.0), (self.last, 1 / 8)):
                layer.weight.fill_(weight)
            self.mix.weight.copy_(torch.eye(8))
            for layer in (self.first, self.second, self.mix, self.last):
                layer.bias.zero_()

    def forward(self, position: Tensor, speed: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        hidden = torch.relu(self.first(position) + self.second(speed))
        return self.last(torch.relu(self.mix(hidden))).squeeze(1), {"hidden": hidden}


@pytest.fixture(scope="session")
def regression() -> Regression:
    """A task with a dict of two tensors as inputs and a tuple as outputs."""
    return Regression()


@pytest.fixture(scope="session")
def motion() -> Motion:
    """A network that solves it exactly."""
    return Motion().eval()


@pytest.fixture(scope="session")
def cell_net() -> CellNet:
    """A detector that finds every object of `cells`."""
    return CellNet().eval()


@pytest.fixture(scope="session")
def cells(cell_net: CellNet) -> DetectionTask:
    """A detection task of small images."""
    return DetectionTask(
        name="cells",
        splits={name: StoredSplit(Cells(size, seed)) for seed, (name, size) in enumerate(REGRESSION_SIZES.items())},
        facts={},
        class_names=("red", "green"),
        heads=heads_of(cell_net),
    )


WORDS = ("the", "a", "cat", "dog", "bird", "sees", "hears", "likes", "small", "old", "red")
"""Words of the tiny text; with the end of a line and <unk> its vocabulary has 13 tokens."""


def sentence(generator: np.random.Generator) -> str:
    """A sentence in which the kind of a word follows from the one before it."""
    article, noun, verb, adjective = WORDS[:2], WORDS[2:5], WORDS[5:8], WORDS[8:]
    kinds = (article, adjective, noun, verb, article, noun)
    return " ".join(str(generator.choice(kind)) for kind in kinds)


@pytest.fixture(scope="session")
def tiny_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of text with some hundred words."""
    folder, generator = tmp_path_factory.mktemp("text"), np.random.default_rng(0)
    for part, lines in (("train", 120), ("valid", 60), ("test", 40)):
        text = [sentence(generator) for _ in range(lines)]
        text[0] = "the <unk> sees " + text[0]
        (folder / f"{part}.txt").write_text("\n".join(text) + "\n", encoding="utf-8")
    return folder


class Successor(nn.Module):
    """Predicts the only token that ever follows another; its state is the number of tokens so far."""

    def __init__(self, followers: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(20 * nn.functional.one_hot(followers).float())

    def forward(self, tokens: Tensor, count: Tensor | None = None) -> tuple[Tensor, Tensor]:
        before = torch.zeros(len(tokens), 1) if count is None else count
        return nn.functional.embedding(tokens, self.logits), before + tokens.shape[1]


@pytest.fixture(scope="session")
def cyclic_text(tmp_path_factory: pytest.TempPathFactory) -> LanguageModellingTask:
    """A task of which `successor` is certain."""
    folder = tmp_path_factory.mktemp("cyclic")
    for part in ("train", "valid", "test"):
        (folder / f"{part}.txt").write_text("a b c d\n" * 40, encoding="utf-8")
    found = load_task(f"text:{folder}?length=7", model=_successor())
    assert isinstance(found, LanguageModellingTask)
    return found


def _successor() -> Successor:
    return Successor(torch.tensor([1, 2, 3, 4, 0])).eval()


@pytest.fixture(scope="session")
def successor() -> Successor:
    """A network that knows `cyclic_text`."""
    return _successor()


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """A Ray cluster of two CPUs."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    # Other programs may fill the memory and the processors of this machine. Ray would end workers that are innocent,
    # and its workers, of low priority, would wait.
    settings = {"RAY_memory_monitor_refresh_ms": "0", "RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    with patch.dict(os.environ, settings):
        ray.init(
            address="local",
            num_cpus=2,
            num_gpus=0,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=100 * 2**20,
        )
    yield
    ray.shutdown()
