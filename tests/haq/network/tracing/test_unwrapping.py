"""Networks inside of torch's wrappers."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import haq.network.zoo
from haq.errors import UserError
from haq.network.layers import trace
from haq.network.tracing.unwrapping import unwrapped


def compiled(module: nn.Module) -> nn.Module:
    wrapped: nn.Module = torch.compile(module, backend="eager")
    return wrapped


def compiled_in_place(module: nn.Module) -> nn.Module:
    module.compile(backend="eager")
    return module


@pytest.mark.parametrize("wrap", [compiled, compiled_in_place, nn.DataParallel], ids=lambda wrap: wrap.__name__)
def test_wrapped_networks_have_layers_of_inner_network(wrap: type) -> None:
    inner = nn.Sequential(nn.Linear(4, 4), wrap(nn.Sequential(nn.ReLU(), nn.Linear(4, 3))))
    network = unwrapped(wrap(inner))
    traced = trace(network, torch.zeros(1, 4))
    assert [layer.name for layer in traced.layers] == ["0", "1.1"]
    assert traced.layers[1].input_tensors == (1,)
    assert {id(each) for each in network.parameters()} == {id(each) for each in inner.parameters()}


def test_unwrapping_leaves_wrapped_network_unchanged() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.DataParallel(compiled(nn.Linear(4, 3))), compiled_in_place(nn.ReLU()))
    before = [type(module) for module in model.modules()]
    network = unwrapped(model)
    assert [type(module) for module in model.modules()] == before
    assert model[2]._compiled_call_impl is not None
    assert [type(module) for module in network.modules()] == [nn.Sequential, nn.Linear, nn.Linear, nn.ReLU]


def test_network_compiled_in_place_is_copied_without_its_compiled_call() -> None:
    model = compiled_in_place(nn.Linear(4, 3))
    network = unwrapped(model)
    assert network._compiled_call_impl is None
    assert network.weight is model.weight


def test_network_without_wrappers_is_returned_itself() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU()))
    assert unwrapped(model) is model


def test_module_used_twice_is_copied_once() -> None:
    shared = compiled(nn.Linear(4, 4))
    network = unwrapped(nn.Sequential(shared, nn.ReLU(), shared))
    assert network[0] is network[2]


def exported() -> nn.Module:
    program: nn.Module = torch.export.export(nn.Sequential(nn.Linear(4, 4)), (torch.zeros(2, 4),)).module()
    return program


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("model", "named"),
    [
        (lambda: torch.jit.script(nn.Sequential(nn.Linear(4, 4))), "the model is a TorchScript module"),
        (lambda: torch.jit.trace(nn.Linear(4, 4), torch.zeros(1, 4)), "the model is a TorchScript module"),
        (exported, "the model is an exported program"),
        (lambda: nn.Sequential(nn.ReLU(), exported()), "1, a part of the model, is an exported program"),
    ],
)
def test_scripted_and_exported_networks_raise(
    model: Callable[[], nn.Module], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(haq.network.zoo, "call_user_code", lambda _, **__: model())
    with pytest.raises(UserError, match=r"give the nn\.Module that it was made from") as caught:
        haq.network.zoo.build_model("mine:network")
    assert str(caught.value).startswith(named)


class Quiet(nn.Sequential):
    """Network whose `train` returns None, as overrides often do."""

    def train(self, mode: bool = True) -> None:  # type: ignore[override]
        super().train(mode)


def test_train_method_may_return_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(haq.network.zoo, "call_user_code", lambda _, **__: Quiet(nn.Dropout(), nn.Linear(4, 4)))
    model = haq.network.zoo.build_model("mine:network")
    assert not model.training
    assert [layer.name for layer in trace(model, torch.zeros(1, 4)).layers] == ["1"]


class CallsCompiled(nn.Module):
    """Network that calls its layer through a compiled function."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.function = torch.compile(lambda x: self.layer(x).relu(), backend="eager")

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.function(x)
        return result


def test_compiled_function_runs_eagerly() -> None:
    traced = trace(CallsCompiled(), torch.zeros(1, 4))
    assert [(layer.name, layer.input_tensors) for layer in traced.layers] == [("layer", (0,))]
    assert traced.heads == ("layer",)
