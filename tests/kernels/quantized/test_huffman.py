"""Huffman coding: what goes in comes out, in nearly as few bits as the entropy, and damage is noticed."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.quantized.huffman import (
    LONGEST,
    Encoded,
    HuffmanError,
    canonical_codes,
    code_lengths,
    decode,
    encode,
    encoded_bytes,
)

DRAWN = np.random.default_rng()


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400))
def test_symbols_come_back(data: bytes) -> None:
    symbols = np.frombuffer(data, np.uint8)
    encoded = encode(symbols)
    assert np.array_equal(decode(encoded), symbols)
    assert abs(encoded_bytes(symbols) - encoded.bytes) <= 1


def test_many_blocks_come_back_on_several_threads_as_on_one() -> None:
    symbols = DRAWN.binomial(15, 0.5, size=(3, 65_537)).astype(np.uint8)
    encoded = encode(symbols, threads=3)
    assert len(encoded.starts) == 5
    assert np.array_equal(decode(encoded, threads=2), symbols.reshape(-1))
    assert np.array_equal(encode(symbols).data, encoded.data)


def test_signed_integers_come_back_as_bytes() -> None:
    values = DRAWN.integers(-128, 128, size=77).astype(np.int8)
    assert np.array_equal(decode(encode(values)).view(np.int8), values)


def test_bits_are_within_a_tenth_of_the_entropy() -> None:
    symbols = np.clip(np.rint(DRAWN.normal(size=50_000) * 2.6 + 7.5), 0, 15).astype(np.uint8)
    shares = np.bincount(symbols) / symbols.size
    entropy = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum()
    assert entropy <= 8 * encode(symbols).data.size / symbols.size <= entropy + 0.1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=256))
def test_codes_are_prefix_codes_of_bounded_length(counts: list[int]) -> None:
    lengths = code_lengths(np.array(counts))
    used = lengths[lengths > 0].astype(float)
    assert (lengths <= LONGEST).all()
    assert np.array_equal(lengths > 0, np.array(counts) > 0)
    assert (0.5**used).sum() == (1.0 if len(used) > 1 else 0.5 * len(used))
    words = [f"{canonical_codes(lengths)[s]:0{lengths[s]}b}" for s in np.flatnonzero(lengths)]
    assert not any(a != b and b.startswith(a) for a, b in zip(sorted(words), sorted(words)[1:], strict=False))


def test_lengths_are_the_best_where_the_bound_does_not_bind() -> None:
    assert code_lengths(np.array([5, 9, 12, 13, 16, 45])).tolist() == [4, 4, 3, 3, 3, 1]


def damaged(encoded: Encoded) -> list[Encoded]:
    lengths, starts = encoded.lengths.copy(), encoded.starts.copy()
    lengths[:] = 1
    starts[-1] += 1
    return [
        replace(encoded, data=encoded.data[:-1]),
        replace(encoded, lengths=lengths),
        replace(encoded, lengths=np.zeros(256, np.uint8)),
        replace(encoded, starts=starts),
        replace(encoded, starts=encoded.starts[::-1].copy()),
        replace(encoded, count=encoded.count + 9),
        replace(encoded, data=encoded.data.astype(np.int32)),
    ]


@pytest.mark.parametrize("kind", range(7))
def test_damage_is_an_error_in_one_line(kind: int) -> None:
    encoded = encode(DRAWN.binomial(15, 0.4, size=999).astype(np.uint8))
    with pytest.raises(HuffmanError) as caught:
        decode(damaged(encoded)[kind])
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=60), st.binary(max_size=40), st.integers(0, 300))
def test_hostile_data_never_reads_outside(lengths: bytes, data: bytes, count: int) -> None:
    hostile = Encoded(
        count,
        np.frombuffer(lengths, np.uint8) % 17,
        np.array([0, len(data)], np.int64)[: 1 + (count > 0)],
        np.frombuffer(data, np.uint8),
    )
    with contextlib.suppress(HuffmanError):
        assert len(decode(hostile)) == count


def test_other_dtypes_are_refused() -> None:
    with pytest.raises(HuffmanError, match="int64"):
        encode(np.arange(5))
