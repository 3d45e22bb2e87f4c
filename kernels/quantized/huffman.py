"""Huffman coding of codes and small integers: canonical codes of at most 15 bits, blocks that stand alone."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.quantized.huffman_steps import BLOCK, block_bytes, decode_blocks, encode_blocks
from kernels.quantized.row_tiles import over_rows

LONGEST = 15
_SYMBOLS = 256


class HuffmanError(ValueError):
    """Symbols that cannot be coded, or data that cannot be read; the message says what is wrong."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Coded symbols.

    count:   of symbols.
    lengths: uint8, of the code of each symbol in bits; 0 for one that does not occur. They are all the code there is.
    starts:  int64 [blocks + 1], the byte where each block of 65,536 symbols begins; the last is the end.
    data:    uint8, the blocks.
    """

    count: int
    lengths: NDArray[np.uint8]
    starts: NDArray[np.int64] = field(repr=False)
    data: NDArray[np.uint8] = field(repr=False)

    @property
    def bytes(self) -> int:
        """Return the bytes of all arrays."""
        return self.lengths.nbytes + self.starts.nbytes + self.data.nbytes


def encode(symbols: NDArray[np.integer], threads: int = 1) -> Encoded:
    """Return uint8 symbols, of any shape, as Huffman codes; int8 ones are taken as bytes (view them back).

    Raises HuffmanError for another dtype.
    """
    flat = _bytes_of(symbols)
    lengths = code_lengths(np.bincount(flat, minlength=1))
    blocks = -(-flat.size // BLOCK)
    sizes, starts = np.empty(blocks, np.int64), np.zeros(blocks + 1, np.int64)
    over_rows(lambda first, last: block_bytes(flat, lengths, sizes, first, last), blocks, threads)
    np.cumsum(sizes, out=starts[1:])
    data, codes = np.zeros(int(starts[-1]), np.uint8), canonical_codes(lengths)
    over_rows(lambda first, last: encode_blocks(flat, codes, lengths, starts, data, first, last), blocks, threads)
    return Encoded(flat.size, lengths, starts, data)


def decode(encoded: Encoded, threads: int = 1) -> NDArray[np.uint8]:
    """Return the symbols, [count].

    Raises HuffmanError for lengths that are no code, starts that do not lie in the data, or bits that are no symbols.
    """
    blocks = -(-encoded.count // BLOCK)
    _check(encoded, blocks)
    symbols, intact = np.empty(encoded.count, np.uint8), np.zeros(blocks, np.bool_)
    if blocks == 0:
        return symbols
    table, width = _table(encoded.lengths)
    over_rows(
        lambda first, last: decode_blocks(
            encoded.data, encoded.starts, table, width, symbols, intact, first, last
        ),
        blocks,
        threads,
    )  # fmt: skip
    if not intact.all():
        raise HuffmanError(f"block {int(np.argmin(intact))} of {blocks} is damaged; save the weights again")
    return symbols


def encoded_bytes(symbols: NDArray[np.integer]) -> int:
    """Return the bytes that encoding would take, without doing it (to within a byte a block)."""
    counts = np.bincount(_bytes_of(symbols), minlength=1)
    lengths = code_lengths(counts)
    blocks = -(-int(counts.sum()) // BLOCK)
    return int((counts * lengths).sum() + 7) // 8 + len(lengths) + 8 * (blocks + 1)


def code_lengths(counts: NDArray[np.integer], longest: int = LONGEST) -> NDArray[np.uint8]:
    """Return the best lengths of prefix codes of at most `longest` bits; 0 where a symbol never occurs.

    Source: Larmore and Hirschberg 1990, doi:10.1145/79147.79150 (package-merge).
    """
    lengths = np.zeros(len(counts), np.uint8)
    there = [int(symbol) for symbol in np.flatnonzero(counts)]
    if len(there) <= 1:
        lengths[there] = 1
        return lengths
    coins = sorted((int(counts[symbol]), (symbol,)) for symbol in there)
    packages: list[tuple[int, tuple[int, ...]]] = []
    for _ in range(longest):
        merged = list(heapq.merge(coins, packages, key=lambda item: item[0]))
        packages = [_joined(merged[k], merged[k + 1]) for k in range(0, len(merged) - 1, 2)]
    for _, symbols in packages[: len(there) - 1]:
        np.add.at(lengths, list(symbols), 1)
    return lengths


def canonical_codes(lengths: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return the code of each symbol: shorter ones first, then in the order of symbols."""
    codes, code, before = np.zeros(len(lengths), np.uint32), 0, 0
    for symbol in _in_order(lengths):
        code <<= int(lengths[symbol]) - before
        before = int(lengths[symbol])
        codes[symbol] = code
        code += 1
    return codes


def _joined(a: tuple[int, tuple[int, ...]], b: tuple[int, tuple[int, ...]]) -> tuple[int, tuple[int, ...]]:
    return a[0] + b[0], a[1] + b[1]


def _in_order(lengths: NDArray[np.uint8]) -> Iterable[int]:
    return (int(symbol) for symbol in np.lexsort((np.arange(len(lengths)), lengths)) if lengths[symbol])


def _table(lengths: NDArray[np.uint8]) -> tuple[NDArray[np.int64], int]:
    """Return for the next bits the symbol and the length of its code; what no code begins with stays 0."""
    width, codes = int(lengths.max()), canonical_codes(lengths)
    table = np.zeros(1 << width, np.int64)
    for symbol in _in_order(lengths):
        free = width - int(lengths[symbol])
        first = int(codes[symbol]) << free
        table[first : first + (1 << free)] = symbol + 256 * int(lengths[symbol])
    return table, width


def _bytes_of(symbols: NDArray[np.integer]) -> NDArray[np.uint8]:
    if symbols.dtype not in (np.uint8, np.int8):
        raise HuffmanError(f"symbols {symbols.dtype} cannot be coded; give uint8 or int8")
    return np.ascontiguousarray(symbols).view(np.uint8).reshape(-1)


def _check(encoded: Encoded, blocks: int) -> None:
    lengths, starts = encoded.lengths, encoded.starts
    wanted: list[tuple[str, NDArray[Any], Any]] = [
        ("lengths", lengths, np.uint8), ("starts", starts, np.int64), ("data", encoded.data, np.uint8)
    ]  # fmt: skip
    for name, array, dtype in wanted:
        if array.dtype != dtype or array.ndim != 1 or not array.flags.c_contiguous:
            raise HuffmanError(f"{name} {array.dtype} {list(array.shape)} cannot be read; give {np.dtype(dtype)} [n]")
    if encoded.count < 0 or len(starts) != blocks + 1 or int(starts[0]) != 0 or (np.diff(starts) < 0).any():
        raise HuffmanError(f"{len(starts)} starts do not go with {encoded.count} symbols; save the weights again")
    if int(starts[-1]) != encoded.data.size:
        raise HuffmanError(f"{encoded.data.size} bytes of codes, {int(starts[-1])} were written; the data is cut short")
    used = lengths[lengths > 0].astype(np.int64)
    if len(lengths) > _SYMBOLS or (lengths > LONGEST).any() or (1 << (LONGEST - used)).sum() > 1 << LONGEST:
        raise HuffmanError("the lengths of codes are no prefix code; save the weights again")
    if encoded.count and not len(used):
        raise HuffmanError(f"{encoded.count} symbols without a code; save the weights again")
