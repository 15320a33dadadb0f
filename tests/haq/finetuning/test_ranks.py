"""Two processes that learn together."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from haq.errors import UserError
from haq.quantization.training.ranks import Ranks, joined

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import sys
from pathlib import Path
from safetensors.torch import save_file
import haq
import os

folder = Path(sys.argv[1])
result = haq.finetune(
    policy=(4, 4), epochs=1, batch_size=128, norm_images=128, out=folder / "run",
    search_images=50, report_images=50, calibration_images=64,
)
state = {name: value.contiguous() for name, value in result.network.state_dict().items()}
save_file(state, folder / f"rank{os.environ['RANK']}.safetensors")
"""


def in_two_processes(script: str, *arguments: str) -> list[subprocess.CompletedProcess[str]]:
    """Run a script as torchrun would start it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    ended = []
    for process in processes:
        output, errors = process.communicate(timeout=900)
        assert process.returncode == 0, errors[-2000:]
        ended.append(subprocess.CompletedProcess(process.args, process.returncode, output, errors))
    return ended


def test_parts_of_a_batch_are_disjoint_and_whole() -> None:
    batch = torch.arange(7)
    parts = [Ranks(rank, 3).share(batch).tolist() for rank in range(3)]
    assert sorted(torch.tensor([each for part in parts for each in part]).tolist()) == batch.tolist()


def test_batches_that_processes_cannot_share_equally_are_refused() -> None:
    Ranks(0, 3).require_equal_shares(6)
    with pytest.raises(UserError, match=r"3 processes cannot share batches of 7 .* multiple of 3"):
        Ranks(0, 3).require_equal_shares(7)


def test_parameters_without_a_gradient_are_refused_in_several_processes_only() -> None:
    network = nn.ModuleDict({"used": nn.Linear(2, 1, bias=False), "unused": nn.Linear(2, 1, bias=False)})
    network["used"](torch.ones(1, 2)).sum().backward()
    Ranks(0, 1).require_gradients(network)
    with pytest.raises(UserError, match=r"unused\.weight takes no part"):
        Ranks(0, 2).require_gradients(network)


@pytest.mark.parametrize(("size", "reason"), [("2", "RANK, MASTER_ADDR, MASTER_PORT is not set"), ("0", "no number")])
def test_an_incomplete_environment_is_refused(size: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
        if size == "0":
            monkeypatch.setenv(name, "1")
    with pytest.raises(UserError, match=reason), joined("cpu"):
        pass


GRADIENTS = """
import torch
from torch import nn
from haq.quantization.training.ranks import joined

def print_gradient():  # a wrapped network that outlives its process group can abort the end of the interpreter
    with joined("cpu") as ranks:
        network = nn.Linear(3, 1)
        nn.init.ones_(network.weight)
        nn.init.zeros_(network.bias)
        batch = torch.arange(12.0).view(4, 3)
        wrapped = ranks.wrap(network)
        wrapped(ranks.share(batch)).square().mean().backward()
        print(ranks.is_first, network.weight.grad.flatten().tolist())

print_gradient()
"""


def test_gradients_are_those_of_the_whole_batch() -> None:
    """Rows sum to 3, 12, 21, 30: the gradient is the mean of twice the sum times the row."""
    outputs = [run.stdout.split(" ", 1) for run in in_two_processes(GRADIENTS)]
    assert [first for first, _ in outputs] == ["True", "False"]
    expected = torch.tensor([[3.0, 12, 21, 30]]).mul(2) @ torch.arange(12.0).view(4, 3) / 4
    for _, gradient in outputs:
        assert json.loads(gradient) == pytest.approx(expected[0].tolist())


def test_two_processes_end_with_the_same_network(tmp_path: Path) -> None:
    in_two_processes(SCRIPT, str(tmp_path))
    first, second = (load_file(tmp_path / f"rank{rank}.safetensors") for rank in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert (tmp_path / "run" / "summary.json").is_file()
