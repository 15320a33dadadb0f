"""Packing of weights, which can be undone and has the bytes that size budgets count."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from haq.exporters.integer.network import code_bits
from haq.exporters.tflite.storage import lookup_table, pack_indices, pack_int4
from hardware_sim.weight_storage import TABLE_HEADER_BYTES, storage_bytes

WIDTHS = st.integers(1, 7)


@given(st.lists(st.integers(-8, 7), min_size=1, max_size=40))
def test_int4_codes_can_be_unpacked(codes: list[int]) -> None:
    packed = pack_int4(np.array(codes, np.int8))
    halves = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1).astype(np.int8)
    assert np.where(halves > 7, halves - 16, halves)[: len(codes)].tolist() == codes
    assert packed.size == storage_bytes(len(codes), 4, "int4")


@given(WIDTHS, st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_indices_into_the_table_give_the_codes(w_bits: int, seed: int, count: int) -> None:
    codes = _random(w_bits, seed, count)
    shift = 8 - w_bits
    packed, table = pack_indices(codes, w_bits), lookup_table(w_bits, shift)
    bits = np.unpackbits(packed)[: count * w_bits].reshape(count, w_bits)
    indices = bits @ (1 << np.arange(w_bits)[::-1])
    assert table[TABLE_HEADER_BYTES:].view(np.int8)[indices].tolist() == (codes << shift).tolist()
    assert packed.size + table.size == storage_bytes(count, w_bits, "table")


@given(WIDTHS, st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_codes_need_no_more_bits_than_their_width(w_bits: int, seed: int, count: int) -> None:
    codes = _random(w_bits, seed, count)
    bits = code_bits(codes)
    assert 1 <= bits <= w_bits
    assert -(2 ** (bits - 1)) <= codes.min()
    assert codes.max() < 2 ** (bits - 1)


def _random(w_bits: int, seed: int, count: int) -> NDArray[np.int8]:
    high = 2 ** (w_bits - 1)
    return np.random.default_rng(seed).integers(-high, high, count).astype(np.int8)
