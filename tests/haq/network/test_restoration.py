"""Running a policy leaves the network unchanged: bytes, objects, hooks, modes and outputs."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_modules

from haq.network.layers import trace
from haq.network.models.digits_cnn import DigitsCNN
from haq.quantization.quantized_model import QuantizedModel
from haq.quantization.quantizers import Quantizers


class Shared(nn.Module):
    """One convolution used twice, a batch norm in training mode between, a recurrent layer and attention on top."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Dropout()
        self.again = self.conv
        self.lstm = nn.LSTM(3, 4, batch_first=True, bidirectional=True)
        self.mix = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.again(self.drop(self.norm(self.conv(x))))
        sequence, _ = self.lstm(y.flatten(2).transpose(1, 2))
        scores: Tensor = self.head(self.mix(sequence, sequence, sequence)[0].mean(dim=1))
        return scores


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "digits": (DigitsCNN, (2, 1, 16, 16)),
    "shared": (Shared, (2, 3, 4, 4)),
}


def add_habits(model: nn.Module) -> None:
    """Hooks of every sort, a module in another mode, a frozen parameter and a gradient."""
    module: Any  # torch has no types for all of these
    for module in (model, list(model.modules())[-1]):
        module.register_forward_pre_hook(lambda _module, _inputs: None)
        module.register_forward_hook(lambda _module, _inputs, _output: None)
        module.register_full_backward_hook(lambda _module, _inputs, _outputs: None)
        module.register_state_dict_pre_hook(lambda _module, _prefix, _keep: None)
        module.register_state_dict_post_hook(lambda _module, _state, _prefix, _metadata: None)
        module.register_load_state_dict_pre_hook(lambda *_: None)
    next(module for module in model.modules() if isinstance(module, nn.Conv2d)).train()
    first, *_, last = model.parameters()
    first.requires_grad = False
    last.grad = torch.ones_like(last)


def contents(model: nn.Module) -> dict[str, Any]:
    """Return bytes by name, the objects of each module, and torch's global hooks."""
    found: dict[str, Any] = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        found[f"tensor {name}"] = (tensor.detach().numpy().tobytes(), tensor.requires_grad, id(tensor.grad))
    for name, module in model.named_modules():
        found |= {f"{name}.{key}": identity(value) for key, value in vars(module).items()}
    return found | {key: identity(value) for key, value in vars(torch_modules).items() if key.startswith("_global_")}


def identity(value: Any) -> Any:
    return (id(value), [(key, id(item)) for key, item in value.items()]) if isinstance(value, Mapping) else id(value)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


@pytest.mark.parametrize("name", NETWORKS)
def test_network_is_unchanged_after_quantized_run(name: str) -> None:
    build, shape = NETWORKS[name]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model, x = build().eval(), torch.rand(shape)
        add_habits(model)
        before, outputs = contents(model), model(x)
        traced = trace(model, x[:1])
        quantized = QuantizedModel(model, traced, Quantizers(model, traced, lambda: [x]))
        count = len(traced.layers)
        quantized.set_bits([(2, 3, None, 8)[layer % 4] for layer in range(count)], [4] * count)
        assert not torch.equal(quantized(x), outputs)
        del quantized
        assert torch.equal(model(x), outputs)
    assert differences(before, contents(model)) == []


def test_snapshot_detects_smallest_change() -> None:
    model = DigitsCNN().eval()
    before = contents(model)
    last = list(model.modules())[-1]
    last.register_forward_hook(lambda _module, _inputs, _output: None)
    last.training = True
    with torch.no_grad():
        last.get_parameter("bias")[0].neg_()
    changed = {name.rpartition(".")[2] for name in differences(before, contents(model))}
    assert changed == {"_forward_hooks", "training", "bias"}
