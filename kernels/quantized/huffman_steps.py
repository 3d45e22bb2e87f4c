"""The compiled steps of Huffman coding: bits lie from the highest of each byte on, every block begins at a byte."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

BLOCK = 1 << 16
"""Symbols of a block: blocks are coded and read independently, on several threads."""
_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "boundscheck": False}


@numba.njit(**_OPTIONS)
def block_bytes(symbols: Any, lengths: Any, sizes: Any, first: Any, last: Any) -> None:
    """Write the bytes that each of the blocks [first, last) will take."""
    for block in range(first, last):
        bits = np.int64(0)
        for index in range(block * BLOCK, min((block + 1) * BLOCK, symbols.size)):
            bits += lengths[symbols[index]]
        sizes[block] = (bits + 7) >> 3


@numba.njit(**_OPTIONS)
def encode_blocks(symbols: Any, codes: Any, lengths: Any, starts: Any, data: Any, first: Any, last: Any) -> None:
    """Write the codes of the blocks [first, last), each from its start on."""
    for block in range(first, last):
        place, held, count = starts[block], np.uint64(0), np.uint64(0)
        for index in range(block * BLOCK, min((block + 1) * BLOCK, symbols.size)):
            symbol = symbols[index]
            held = held << np.uint64(lengths[symbol]) | np.uint64(codes[symbol])
            count += np.uint64(lengths[symbol])
            while count >= np.uint64(8):
                count -= np.uint64(8)
                data[place] = np.uint8(held >> count & np.uint64(255))
                place += 1
        if count > np.uint64(0):
            data[place] = np.uint8(held << (np.uint64(8) - count) & np.uint64(255))


@numba.njit(**_OPTIONS)
def decode_blocks(
    data: Any, starts: Any, table: Any, width: Any, symbols: Any, intact: Any, first: Any, last: Any
) -> None:
    """Write the symbols of the blocks [first, last) and whether each ended where the next begins.

    table [2**width]: for the next `width` bits the symbol, plus 256 times the length of its code; 0 for none.
    """
    mask = np.uint64((1 << width) - 1)
    for block in range(first, last):
        place, end = starts[block], starts[block + 1]
        held, count, missing = np.uint64(0), np.int64(0), np.int64(0)
        valid = True
        for index in range(block * BLOCK, min((block + 1) * BLOCK, symbols.size)):
            while count < width:
                held <<= np.uint64(8)
                if place < end:
                    held |= np.uint64(data[place])
                    place += 1
                else:
                    missing += 8
                count += 8
            entry = table[np.int64(held >> np.uint64(count - width) & mask)]
            length = np.int64(entry >> 8)
            symbols[index] = np.uint8(entry & 255)
            count -= length
            if length == 0:
                valid = False
        # what is left are the bits that fill up the last byte, and bytes of zeros that were never there
        unread = count - missing
        intact[block] = valid and place == end and 0 <= unread < 8
