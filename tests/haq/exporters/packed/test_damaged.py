"""Packed files from anybody: thousands of damaged ones are refused in one line or loaded, and nothing else happens."""

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from haq.config import search_config
from haq.errors import UserError
from haq.experiment.artifact import load_artifact
from haq.experiment.inputs import Inputs
from haq.exporters.deployable import make_deployable
from haq.exporters.formats import ExportOptions
from haq.exporters.packed.exporter import PackedExporter
from haq.exporters.packed.header import KEY, Header, digest_of
from haq.exporters.packed.model import packed_model
from haq.exporters.packed.reading import parse_packed
from haq.layer_bits import uniform_bits
from haq.network.layers import trace_layers
from haq.policy import Policy
from haq.tasks.classification import ClassificationTask

STRANGE: tuple[Any, ...] = (
    None,
    -1,
    0,
    2**40,
    2**70,
    1.5,
    "",
    "x",
    [],
    {},
    [1, 2],
    True,
    "conv.weight",
    1e308,
    [[]] * 9,
)


@pytest.fixture
def content(tiny_net: nn.Module, tiny_task: ClassificationTask) -> bytes:
    """A sound file of a small network."""
    layers = uniform_bits(trace_layers(tiny_net, tiny_task.example()), w_bits=3, a_bits=4)
    policy = Policy(model="net", hardware="bismo-edge", objective="size", layers=layers)
    config = search_config(hardware="bismo-edge", engine="torch")
    network = make_deployable(load_artifact(policy, config, inputs=Inputs(tiny_net, tiny_task)))
    return PackedExporter().build(network, ExportOptions()).main


def is_loaded(content: bytes, model: nn.Module, lines: list[str]) -> bool:
    """Load a file; return False, and note the message, if it was refused."""
    try:
        packed_model(model, parse_packed(content))
    except UserError as error:
        lines.append(str(error))
        return False
    return True


def damaged(content: bytes, count: int) -> Iterator[bytes]:
    chance = random.Random(0)
    for number in range(count):
        changed = bytearray(content)
        place = chance.randrange(len(changed))
        if number % 4 == 0:
            del changed[place:]
        elif number % 4 == 1:
            changed[place:place] = chance.randbytes(chance.randrange(1, 40))
        else:
            for _ in range(chance.randrange(1, 4)):
                changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        yield bytes(changed)


def test_damaged_bytes_are_refused(content: bytes, tiny_net: nn.Module) -> None:
    lines: list[str] = []
    assert is_loaded(content, tiny_net, lines)
    assert sum(is_loaded(each, tiny_net, lines) for each in damaged(content, 3000)) < 10
    assert not [line for line in lines if "\n" in line]


def test_a_file_that_was_forged_with_a_valid_digest_is_refused_or_loaded(content: bytes, tiny_net: nn.Module) -> None:
    chance = random.Random(0)
    header, tensors = json.loads(parse_packed(content).header.to_json()), load(content)
    lines: list[str] = []
    assert not all(is_loaded(_forged(header, tensors, chance), tiny_net, lines) for _ in range(1000))
    assert not [line for line in lines if "\n" in line]


def _forged(header: dict[str, Any], tensors: dict[str, Tensor], chance: random.Random) -> bytes:
    """Return a file in which one value of the header, or one tensor, is replaced by a strange one."""
    changed, kept = json.loads(json.dumps(header)), dict(tensors)
    if chance.random() < 0.3:
        name = chance.choice(sorted(kept))
        shape = chance.choice([(), (0,), (1,), (3, 5), tuple(kept[name].shape)])
        kept[name] = torch.full(shape, float("nan")).to(chance.choice([torch.float32, torch.int32, torch.bool]))
        kept[chance.choice([name, "bn.bias", "conv.output.bias", "bn.running_mean:1.mean", "x:y.mean"])] = kept.pop(
            name
        )
    else:
        _replace(changed, chance)
    try:
        parsed = Header.model_validate(changed)
    except ValueError:
        return save(kept, metadata={KEY: json.dumps(changed)})
    changed["digest"] = digest_of(parsed, kept)
    return save(kept, metadata={KEY: json.dumps(changed)})


def _replace(node: Any, chance: random.Random) -> None:
    """Replace one value of a JSON document in place."""
    keys = list(node) if isinstance(node, dict) else range(len(node))
    key = chance.choice(list(keys))
    if isinstance(node[key], dict | list) and node[key] and chance.random() < 0.9:
        _replace(node[key], chance)
    elif chance.random() < 0.1 and isinstance(node, dict):
        del node[key]
    else:
        node[key] = chance.choice(STRANGE)


def test_sizes_are_checked_before_memory_is_allocated(content: bytes, tiny_net: nn.Module) -> None:
    header, tensors = json.loads(parse_packed(content).header.to_json()), load(content)
    header["layers"][0]["shape"] = [2**40]
    header["digest"] = digest_of(Header.model_validate(header), tensors)
    assert not is_loaded(save(tensors, metadata={KEY: json.dumps(header)}), tiny_net, [])
