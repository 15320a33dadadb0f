import io
import os
import pickle
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from haq.errors import UserError
from haq.network.weight_files import load_weights, read_weights


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def save_npz(state: dict[str, Tensor], path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, **{name: value.numpy() for name, value in state.items()})  # type: ignore[arg-type]


def save_legacy(state: dict[str, Tensor], path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


WRITERS = {"zip": torch.save, "legacy": save_legacy, "safetensors": safetensors.torch.save_file, "npz": save_npz}


@pytest.mark.parametrize("kind", WRITERS)
def test_formats_are_recognized_by_content(tmp_path: Path, kind: str) -> None:
    source, target, path = small(), small(), tmp_path / "misleading.txt"
    WRITERS[kind](source.state_dict(), path)
    load_weights(target, path)
    for name, value in source.state_dict().items():
        torch.testing.assert_close(target.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model_state_dict": state, "optimizer": {}},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {f"module._orig_mod.{name}": value for name, value in state.items()},
    ],
)
def test_wrappers_and_prefixes_are_removed(tmp_path: Path, wrap: Any) -> None:
    state = small().state_dict()
    torch.save(wrap(state), tmp_path / "w")
    assert list(read_weights(tmp_path / "w")) == list(state)


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("HACKED",)


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_file_that_contains_code_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    WRITERS[kind]({"w": Hostile()}, tmp_path / "w")
    with pytest.raises(UserError, match=r"refused: the file wants to run code \((posix|nt).mkdir\); save a state_dict"):
        read_weights(tmp_path / "w")
    assert not (tmp_path / "HACKED").exists()


def test_pickles_in_npz_raise(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", w=np.array([Hostile()], dtype=object))
    with pytest.raises(UserError, match=r"w\.npz cannot be read .*allow_pickle"):
        read_weights(tmp_path / "w.npz")


def test_control_characters_of_a_file_do_not_reach_the_message(tmp_path: Path) -> None:
    torch.save(small().state_dict(), tmp_path / "good")
    with zipfile.ZipFile(tmp_path / "good") as good, zipfile.ZipFile(tmp_path / "w", "w") as file:
        for name in good.namelist():
            file.writestr(name, b"B\x00\x1b[31m" if name.endswith("byteorder") else good.read(name))
    with pytest.raises(UserError, match=r"Unknown endianness type: B\?\?\[31m") as error:
        read_weights(tmp_path / "w")
    assert str(error.value).isprintable()


def test_zip_bomb_raises(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.npy", b"\0" * 10_000_000)
    with pytest.raises(UserError, match="unpacks to 10000000 bytes, more than 100 times its size"):
        read_weights(tmp_path / "w")


def bytes_of(kind: str, folder: Path) -> bytes:
    WRITERS[kind](small().state_dict(), folder / "whole")
    return (folder / "whole").read_bytes()


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_files_raise_one_line_error(tmp_path: Path, kind: str, share: float) -> None:
    whole = bytes_of(kind, tmp_path)
    (tmp_path / "cut").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UserError, match="cut") as caught:
        read_weights(tmp_path / "cut")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", WRITERS)
def test_damaged_files_raise_user_error_only(tmp_path: Path, kind: str) -> None:
    whole, generator = bytes_of(kind, tmp_path), np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(whole)
        for place in generator.integers(len(damaged), size=8):
            damaged[place] = generator.integers(256)
        (tmp_path / "damaged").write_bytes(damaged)
        with suppress(UserError):
            read_weights(tmp_path / "damaged")


def pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    pickle.dump(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("content", [b"", b"nothing known", pickled({"w": 1}), pickled([1, 2]), b"\x80", b"PK\x03\x04"])
def test_files_of_unknown_format_raise(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(UserError, match=r"expected a torch archive|save a state_dict"):
        read_weights(tmp_path / "w")


def test_missing_files_and_folders_raise(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent does not exist"):
        read_weights(tmp_path / "absent")
    with pytest.raises(UserError, match="is a folder"):
        read_weights(tmp_path)


def test_torchscript_archive_raises(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w", "w") as archive:
        archive.writestr("net/code/__torch__.py", "")
        archive.writestr("net/data.pkl", "")
    with pytest.raises(UserError, match="TorchScript"):
        read_weights(tmp_path / "w")


def test_mismatches_are_listed_and_leave_model_unchanged(tmp_path: Path) -> None:
    model, other = small(), small().state_dict()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    other["0.weight"] = torch.zeros(2, 1, 5, 5)
    other["extra"] = other.pop("0.bias")
    torch.save(other, tmp_path / "w")
    with pytest.raises(UserError) as caught:
        load_weights(model, tmp_path / "w")
    assert str(caught.value).endswith(
        "does not fit the model: 1 missing: 0.bias; 1 not in the model: extra; "
        "1 of another shape: 0.weight 2x1x5x5 for 2x1x3x3"
    )
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_tied_weights_that_differ_in_the_file_are_refused(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    state = {name: value.clone() for name, value in model.state_dict().items()}
    torch.save(state, tmp_path / "tied")
    load_weights(model, tmp_path / "tied")
    torch.save({**state, "1.weight": state["1.weight"] + 1}, tmp_path / "untied")
    with pytest.raises(UserError, match=r"1 shared in the model but not in the file: 0\.weight and 1\.weight"):
        load_weights(model, tmp_path / "untied")
    assert torch.equal(model[0].weight, state["0.weight"])


def test_long_lists_of_mismatches_are_shortened(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(1)}, tmp_path / "w")
    with pytest.raises(UserError, match=r"6 missing: 0\.weight, 0\.bias, 1\.weight, \.\.\.;"):
        load_weights(small(), tmp_path / "w")


def test_weights_without_batch_counter_are_loaded(tmp_path: Path) -> None:
    state = small().state_dict()
    del state["1.num_batches_tracked"]
    torch.save(state, tmp_path / "w")
    load_weights(small(), tmp_path / "w")


def test_nan_raises(tmp_path: Path) -> None:
    state = small().state_dict()
    state["0.bias"] = torch.tensor([1.0, float("nan")])
    torch.save(state, tmp_path / "w")
    with pytest.raises(UserError, match=r"NaN or infinity in 0\.bias"):
        load_weights(small(), tmp_path / "w")


def quantized() -> Tensor:
    return torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: torch.ones(2).to_sparse(), "sparse"),
        (lambda: torch.ones(2, 2).to_sparse_csr(), "sparse"),
        (quantized, "quantized"),
        (lambda: torch.ones(2, dtype=torch.complex64), "complex"),
        (lambda: torch.ones(2, device="meta"), "without values"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_unsupported_tensor_kinds_raise(tmp_path: Path, make: Any, kind: str) -> None:
    torch.save({**small().state_dict(), "0.bias": make()}, tmp_path / "w")
    with pytest.raises(UserError, match=rf"no plain real ones: 0\.bias \({kind}\); save them dense"):
        load_weights(small(), tmp_path / "w")


@pytest.mark.parametrize("protocol", [2, 4])
def test_error_does_not_advise_unsafe_loading(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "w").write_bytes(pickle.dumps({"w": [1, slice(1, 2)]}, protocol=protocol)[:2] + b"\x97junk.")
    with pytest.raises(UserError) as caught:
        read_weights(tmp_path / "w")
    assert str(caught.value).endswith("w refused: not a plain state_dict (Unsupported operand 151); save a state_dict")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_irregular_file_has_its_own_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe is no regular file; give a file with weights"):
        read_weights(tmp_path / "pipe")


class Scaled(nn.Linear):
    """Layer with extra state that is not a tensor."""

    def __init__(self) -> None:
        super().__init__(3, 2)
        self.state: Any = {"largest": 1.0}

    def get_extra_state(self) -> Any:
        return self.state

    def set_extra_state(self, state: Any) -> None:
        self.state = state


def test_extra_state_is_optional(tmp_path: Path) -> None:
    layers = Scaled(), Scaled()
    source, target = map(nn.Sequential, layers)
    layers[0].state = {"largest": 7.0}
    torch.save(source.state_dict(), tmp_path / "w")
    load_weights(target, tmp_path / "w")
    assert layers[1].state == {"largest": 7.0}
    assert torch.equal(layers[1].weight, layers[0].weight)
    tensors = {name: value for name, value in source.state_dict().items() if isinstance(value, torch.Tensor)}
    safetensors.torch.save_file(tensors, tmp_path / "w.safetensors")
    load_weights(nn.Sequential(Scaled()), tmp_path / "w.safetensors")
    load_weights(nn.Sequential(nn.Linear(3, 2)), tmp_path / "w")


def test_lazy_network_is_loaded(tmp_path: Path) -> None:
    source, target = (nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(2)) for _ in range(2))
    inputs = torch.rand(5, 3)
    expected = source(inputs)
    torch.save(source.state_dict(), tmp_path / "w")
    load_weights(target, tmp_path / "w")
    assert torch.equal(target(inputs), expected)
    torch.save(nn.Sequential(nn.Linear(3, 4)).state_dict(), tmp_path / "w")
    incomplete = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(2))
    with pytest.raises(UserError, match=r"2 missing: 2\.weight, 2\.bias"):
        load_weights(incomplete, tmp_path / "w")


def test_infinite_mask_is_loaded(tmp_path: Path) -> None:
    network = nn.Linear(3, 2)
    network.register_buffer("mask", torch.full((2, 2), float("-inf")))
    torch.save(network.state_dict(), tmp_path / "w")
    load_weights(network, tmp_path / "w")
