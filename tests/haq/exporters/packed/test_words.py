"""Packing of codes into words, against the definition and against compressed-tensors."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from haq.exporters.packed import words as words_module
from haq.exporters.packed.words import pack, row_shape, unpack, word_count

SHAPES = ((64, 32, 3, 3), (24, 1, 3, 3), (7, 5), (10, 64), (1, 1))


def random_codes(shape: tuple[int, ...], bits: int, seed: int = 0) -> "np.ndarray[tuple[int, ...], np.dtype[np.int8]]":
    low, high = -(1 << bits - 1), 1 << bits - 1
    return np.random.default_rng(seed).integers(low, high, size=shape).astype(np.int8)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_unpacking_restores_codes_that_fill_words_without_gaps(bits: int, shape: tuple[int, ...]) -> None:
    codes = random_codes(shape, bits)
    words = pack(codes, bits)
    assert words.size == word_count(codes.size, bits) == -(-codes.size * bits // 32)
    assert (unpack(words, bits, shape) == codes).all()


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_words_are_those_of_compressed_tensors(bits: int, shape: tuple[int, ...]) -> None:
    helpers = pytest.importorskip("compressed_tensors.compressors.pack_quantized.helpers")
    codes = random_codes(shape, bits)
    rows = row_shape(shape, bits)
    expected = helpers.pack_to_int32(torch.from_numpy(codes.reshape(rows)), bits)
    assert torch.equal(torch.from_numpy(pack(codes, bits)), expected)
    assert torch.equal(
        helpers.unpack_from_int32(expected, bits, torch.Size(rows)).flatten(), torch.from_numpy(codes.ravel())
    )


@given(st.integers(1, 8), st.integers(1, 200), st.integers(0, 100))
def test_any_number_of_codes_is_restored(bits: int, count: int, seed: int) -> None:
    codes = random_codes((count,), bits, seed)
    assert (unpack(pack(codes, bits), bits, (count,)) == codes).all()


def test_large_tensors_are_packed_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = random_codes((1000,), 3)
    at_once = pack(codes, 3)
    monkeypatch.setattr(words_module, "_CODES_AT_ONCE", 64)
    assert (pack(codes, 3) == at_once).all()
    assert (unpack(at_once, 3, (1000,)) == codes).all()
