"""Networks that answer otherwise have other keys."""

from collections import Counter
from copy import deepcopy

import pytest
import torch
from torch import nn

from haq.evaluation.engines.torch import TorchEngine
from haq.evaluation.fingerprint import fingerprint, probe_policies
from haq.network.layers import trace
from haq.quantization.options import QuantizerOptions
from haq.quantization.quantized_model import QuantizedModel
from haq.quantization.quantizers import Quantizers
from haq.tasks.classification import ClassificationTask


def engine(net: nn.Module, task: ClassificationTask, *, method: str = "mse", corrected: bool = True) -> TorchEngine:
    traced = trace(net, task.example())
    images = task.splits["calibration"].take(torch.arange(40))[0]
    quantizers = Quantizers(net, traced, lambda: [images], QuantizerOptions(method=method))  # type: ignore[arg-type]
    return TorchEngine(QuantizedModel(net, traced, quantizers), images[:16] if corrected else None)


def test_every_layer_takes_every_width_once() -> None:
    for layers in (1, 5, 8, 20):
        policies = probe_policies(layers)
        for part in (0, 1):
            for layer in range(layers):
                assert Counter(bits[part][layer] for bits in policies) == Counter(range(1, 9))


def test_keys_depend_on_what_is_answered_and_on_nothing_else(
    tiny_net: nn.Module, tiny_task: ClassificationTask
) -> None:
    inputs = tiny_task.splits["search"].take(torch.arange(40))[0]

    def key(
        net: nn.Module, *, method: str = "mse", corrected: bool = True, settings: str = "", data: bytes = b""
    ) -> str:
        made = engine(net.eval(), tiny_task, method=method, corrected=corrected)
        return fingerprint(made, inputs, layers=3, settings=(settings,), data=data)

    # Of a channel that ReLU nearly always cuts off: what changes in the outputs is at most rounding.
    other = deepcopy(tiny_net)
    with torch.no_grad():
        next(other.parameters())[1].mul_(1.01)
    keys = [
        key(tiny_net),
        key(other),
        key(tiny_net, method="max"),
        key(tiny_net, corrected=False),
        key(tiny_net, settings="x"),
        key(tiny_net, data=b"y"),
    ]
    assert len(set(keys)) == len(keys)
    assert key(deepcopy(tiny_net)) == keys[0]


def test_an_engine_is_probed_once(
    tiny_net: nn.Module, tiny_task: ClassificationTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Again where its weights changed."""
    inputs = tiny_task.splits["search"].take(torch.arange(40))[0]
    probed = []
    outputs = TorchEngine.runner
    monkeypatch.setattr(TorchEngine, "runner", lambda engine, bits: probed.append(bits) or outputs(engine, bits))
    made = engine(tiny_net.eval(), tiny_task)
    keys = {fingerprint(made, inputs, layers=3, settings=(), data=b"") for _ in range(3)}
    assert (len(keys), len(probed)) == (1, 8)
    with torch.no_grad():
        next(tiny_net.parameters()).mul_(1.5)
    assert fingerprint(made, inputs, layers=3, settings=(), data=b"") not in keys
    assert len(probed) == 16
