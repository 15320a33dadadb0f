import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haq.exporters.c.packing import pack, stored_bits
from haq.exporters.integer.network import Codes


@given(bits=st.integers(1, 8), seed=st.integers(0, 99), count=st.integers(0, 70))
def test_packed_codes_come_back_and_take_no_more_bits_than_needed(bits: int, seed: int, count: int) -> None:
    codes = np.random.default_rng(seed).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), count).astype(np.int8)
    stream = pack(codes, bits)
    assert len(stream) == -(-count * bits // 8)
    assert (unpacked(stream, bits, count) == codes).all()


def unpacked(stream: bytes, bits: int, count: int) -> Codes:
    """Return the codes of a stream."""
    found = np.unpackbits(np.frombuffer(stream, np.uint8), bitorder="little")[: count * bits].reshape(count, bits)
    sign = found[:, -1:].repeat(8 - bits, axis=1)
    return np.packbits(np.concatenate([found, sign], axis=1), axis=1, bitorder="little").reshape(-1).view(np.int8)


def test_lowest_bits_come_first() -> None:
    assert pack(np.array([1, -2, 3, -4], dtype=np.int8), 4).hex() == "e1c3"


@pytest.mark.parametrize(
    ("codes", "bits", "expected"),
    [([-8, 7], 4, 4), ([8, 0], 4, 5), ([-1, 0], 1, 1), ([0, 1], 1, 2), ([0, 0], 3, 3), ([-128, 127], 8, 8)],
)
def test_codes_that_do_not_fit_are_stored_with_more_bits(codes: list[int], bits: int, expected: int) -> None:
    assert stored_bits(np.array(codes, dtype=np.int8), bits) == expected
