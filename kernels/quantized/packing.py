"""The one packed layout of 4-bit codes and 8-bit integers, for the GPU's 128-bit loads and for CPU kernels alike.

A row is padded with zeros to whole vectors of 16 bytes: 32 codes or 16 integers. 32 neighbouring vectors are a tile,
one vector for each lane of a warp; the last tile of a row has as many vectors as are left. Columns go to the vectors of
a tile in groups of four: the first group to vector 0, the next to vector 1, and so on round and round. So when each
lane has loaded its vector, the lanes' first groups together are neighbouring columns, and their inputs one coalesced
128-bit load a lane. Bytes are little-endian, the lower column in the lower bits.

Example, 4 bits, 64 columns: a tile of two vectors; vector 0 holds columns 0-3, 8-11, 16-19, …, vector 1 columns
4-7, 12-15, 20-23, …. A sum over columns does not care: a CPU kernel permutes its inputs once by `column_order`
and takes the weights as they lie.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

VECTOR_BITS = 128
WORDS_PER_VECTOR = VECTOR_BITS // 32
TILE_VECTORS = 32
GROUP = 4


class PackingError(ValueError):
    """Values or words that do not fit the layout; the message names what was given and what is needed."""


@dataclass(frozen=True, slots=True)
class Packing:
    """How a row of small integers lies in 32-bit words.

    bits:    4 for codes 0 to 15, 8 for integers -128 to 127.
    columns: of a row, at least 1.
    """

    bits: int
    columns: int

    def __post_init__(self) -> None:
        if self.bits not in (4, 8):
            raise PackingError(f"{self.bits} bits cannot be packed; use 4 for codes or 8 for integers")
        if self.columns < 1:
            raise PackingError(f"a row of {self.columns} columns cannot be packed; give at least 1")

    @property
    def vector_columns(self) -> int:
        """Return how many columns one vector holds."""
        return VECTOR_BITS // self.bits

    @property
    def vectors(self) -> int:
        """Return the vectors of a row, the last one padded."""
        return -(-self.columns // self.vector_columns)

    @property
    def full_tiles(self) -> int:
        """Return the tiles of 32 vectors in a row."""
        return self.vectors // TILE_VECTORS

    @property
    def last_vectors(self) -> int:
        """Return the vectors of the smaller tile behind the full ones, 0 where there is none."""
        return self.vectors % TILE_VECTORS

    @property
    def words(self) -> int:
        """Return the 32-bit words of a row."""
        return WORDS_PER_VECTOR * self.vectors

    def column_order(self) -> NDArray[np.int64]:
        """Return the column at each stored position, [words * 32 / bits]; those from `columns` on are padding."""
        tiles = [TILE_VECTORS] * self.full_tiles + [self.last_vectors] * (self.last_vectors > 0)
        orders, first = [], 0
        for vectors in tiles:
            size = vectors * self.vector_columns
            columns = first + np.arange(size, dtype=np.int64)
            orders.append(columns.reshape(-1, vectors, GROUP).swapaxes(0, 1).ravel())
            first += size
        return np.concatenate(orders)

    def pack(self, values: NDArray[np.integer]) -> NDArray[np.uint32]:
        """Return integer values [rows, columns] as words [rows, words].

        Raises PackingError for another shape or dtype, or a value that does not fit the bits.
        """
        self._check_values(values)
        padded = np.zeros((len(values), self.vectors * self.vector_columns), np.uint8)
        padded[:, : self.columns] = values.astype(np.int8).view(np.uint8)
        stored = _take_groups(padded, self._group_order())
        if self.bits == 4:
            stored = stored[:, 0::2] | stored[:, 1::2] << np.uint8(4)
        return stored.view("<u4").astype(np.uint32, copy=False)

    def unpack(self, words: NDArray[np.uint32]) -> NDArray[np.integer]:
        """Return words [rows, words] as values [rows, columns]: uint8 codes or int8 integers.

        Raises PackingError for another shape or dtype.
        """
        if words.ndim != 2 or words.shape[1] != self.words or words.dtype != np.uint32:
            shape = f"{words.dtype} {list(words.shape)}"
            raise PackingError(
                f"{shape} cannot be unpacked; give uint32 [rows, {self.words}] for {self.columns} columns"
            )
        stored = np.ascontiguousarray(words).astype("<u4", copy=False).view(np.uint8)
        if self.bits == 4:
            stored = np.stack([stored & np.uint8(15), stored >> np.uint8(4)], axis=-1).reshape(
                len(words), 8 * self.words
            )
        padded = _take_groups(stored, np.argsort(self._group_order()))
        values = np.ascontiguousarray(padded[:, : self.columns])
        return values if self.bits == 4 else values.view(np.int8)

    def _group_order(self) -> NDArray[np.int64]:
        """Return the group of four columns at each stored place."""
        return self.column_order()[::GROUP] // GROUP

    def _check_values(self, values: NDArray[np.integer]) -> None:
        if values.ndim != 2 or values.shape[1] != self.columns or values.dtype.kind not in "iu":
            shape = f"{values.dtype} {list(values.shape)}"
            raise PackingError(f"{shape} cannot be packed; give integers [rows, {self.columns}]")
        low, high = (0, 15) if self.bits == 4 else (-128, 127)
        wrong = np.flatnonzero((values < low) | (values > high))
        if wrong.size:
            row, column = divmod(int(wrong[0]), self.columns)
            value = values[row, column]
            raise PackingError(
                f"the value {value} at [{row}, {column}] does not fit {self.bits} bits; use {low} to {high}"
            )


def _take_groups(values: NDArray[np.uint8], groups: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the groups of four of each row in another order; four bytes move at once."""
    words = np.ascontiguousarray(values).view(np.uint32)
    return np.take(words, groups, axis=1).view(np.uint8)
