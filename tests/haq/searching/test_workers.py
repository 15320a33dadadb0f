"""Searches whose policies are evaluated by workers write the files of those without."""

import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from haq.config import search_config
from haq.execution.processes import Processes
from haq.execution.ray_cluster import RayCluster
from haq.experiment.inputs import Inputs
from haq.searching.search import search_configured
from haq.tasks.classification import ClassificationTask

FILES = ("policy.json", "quantizers.safetensors", "config.json")


def results(run: Path) -> tuple[Any, ...]:
    lines = map(json.loads, (run / "episodes.jsonl").read_text().splitlines())
    journal = [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
    summary = json.loads((run / "summary.json").read_text())
    return journal, {**summary, "seconds": None}, [(run / name).read_bytes() for name in FILES]


@pytest.mark.usefixtures("ray_cluster")
def test_processes_and_ray_give_the_files_of_a_single_process(
    tiny_net: nn.Module, held_out_task: ClassificationTask, tmp_path: Path
) -> None:
    config = search_config(
        model="TinyNet", data="blobs", agent="evolution", episodes=7, proposals=3, first_last_bits=None
    )
    inputs = Inputs(tiny_net, held_out_task)
    for name, workers in (("alone", None), ("processes", Processes(2)), ("ray", RayCluster())):
        search_configured(config, tmp_path / name, inputs=inputs, workers=workers)
    alone, processes, ray = (results(tmp_path / name) for name in ("alone", "processes", "ray"))
    assert processes == alone
    assert ray == alone
