import sys
from pathlib import Path

import pytest
import torch

from haq.errors import UserError
from haq.execution.user_code import call_user_code, caller_kept

MODULE = """
import torch
def fine(): return 42
def broken(): raise KeyError("two\\nlines")
def needs(argument): return argument
def off():
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"mine_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


def test_callable_in_current_folder_is_called(module: str) -> None:
    before = list(sys.path)
    assert call_user_code(f"{module}:fine") == 42
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", r"mine_\d+:broken raised KeyError: 'two\\nlines'"),
        ("needs", r"mine_\d+:needs raised TypeError: .*argument"),
        ("absent", r"cannot import mine_\d+:absent \(AttributeError: .*absent"),
    ],
)
def test_failures_raise_one_line_error(module: str, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        call_user_code(f"{module}:{name}")
    assert "\n" not in str(caught.value)


def test_missing_module_error_names_searched_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"No module named 'nowhere_to_be_found'.*looked in {tmp_path}"):
        call_user_code("nowhere_to_be_found:net")


def test_call_restores_torch_state(module: str) -> None:
    call_user_code(f"{module}:off")
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32


def test_caller_settings_are_ignored_and_restored() -> None:
    torch.set_default_device("meta")
    try:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            with caller_kept(None):
                made = torch.ones(1, requires_grad=True) * 2
                assert (made.requires_grad, made.device.type) == (True, "cpu")
                assert not torch.is_autocast_enabled("cpu")
            assert torch.is_inference_mode_enabled()
            assert torch.is_autocast_enabled("cpu")
        assert torch.zeros(1).device.type == "meta"
    finally:
        torch.set_default_device(None)
