"""Two processes that learn together."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from haq.quantization.training.ranks import Ranks

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


def test_parts_of_a_batch_are_disjoint_and_whole() -> None:
    batch = torch.arange(7)
    parts = [Ranks(rank, 3).share(batch).tolist() for rank in range(3)]
    assert sorted(torch.tensor([each for part in parts for each in part]).tolist()) == batch.tolist()


def test_two_processes_end_with_the_same_network(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path)],
            stderr=subprocess.PIPE,
            text=True,
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=900)
        assert process.returncode == 0, errors[-2000:]
    first, second = (load_file(tmp_path / f"rank{rank}.safetensors") for rank in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert (tmp_path / "run" / "summary.json").is_file()
