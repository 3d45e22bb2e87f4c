"""The arrays of a compressed weight as a file holds them: unpacked when they are first asked for, or never.

A product reads panels and an embedding reads packed rows where they lie, in a memory map if need be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import RecordError
from kernels.quantized.cpu_reference import codebooks, codes_of, integer_weights
from kernels.quantized.cpu_rows import unpacked_rows
from kernels.quantized.cpu_weights import PreparedWeights
from optimizers.quantization.compressed import CODEBOOK, GROUPED_CODEBOOK, INT8, INT8_WEIGHT_ONLY, from_tables


class RowArrays(Mapping[str, NDArray[Any]]):
    """Codes and centroids of codebooks, from packed rows [rows, bytes], int8 tables and their scales."""

    def __init__(
        self, rows: NDArray[np.uint8], tables: NDArray[np.int8], scales: NDArray[np.float32], columns: int, bits: int
    ) -> None:
        self.rows, self.tables, self.scales = rows, tables, scales
        self._columns, self._bits = columns, bits
        self._found: dict[str, NDArray[Any]] = {}

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._found:
            if name == "codes":
                self._found[name] = unpacked_rows(self.rows, self._columns, self._bits)
            elif name == "centroids":
                self._found[name] = from_tables(self.tables, self.scales)
            else:
                raise KeyError(name)
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(("codes", "centroids"))

    def __len__(self) -> int:
        return 2


class PanelArrays(Mapping[str, NDArray[Any]]):
    """Arrays of a weight that lies as the panels of a product.

    books: of codebooks, 1 where all rows share one, else as many as there are rows.
    """

    def __init__(self, method: str, prepared: PreparedWeights, bits: int, books: int) -> None:
        self.prepared, self._method, self._bits, self._books = prepared, method, bits, books
        self._found: dict[str, NDArray[Any]] = {}

    def __getitem__(self, name: str) -> NDArray[Any]:
        if not self._found:
            self._found = dict(self._unpacked())
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES[self._method])

    def __len__(self) -> int:
        return len(NAMES[self._method])

    def _unpacked(self) -> Iterator[tuple[str, NDArray[Any]]]:
        weights = self.prepared
        if self._method in (INT8, INT8_WEIGHT_ONLY):
            yield "values", integer_weights(weights)
            yield "scales", np.array(weights.arrays[1][: weights.rows], np.float32)
            return
        codes = codes_of(weights)
        if int(codes.max()) >> self._bits:
            raise RecordError(f"a code of {int(codes.max())} where {self._bits} bits should be; the file is corrupt")
        tables, scales = codebooks(weights)
        tables, scales = tables[: self._books, :, : 1 << self._bits], scales[: self._books]
        centroids = from_tables(tables, scales)
        yield "codes", codes
        yield "centroids", centroids if self._method == GROUPED_CODEBOOK else centroids[:, 0]


NAMES: Mapping[str, tuple[str, ...]] = {
    INT8: ("values", "scales"),
    INT8_WEIGHT_ONLY: ("values", "scales"),
    CODEBOOK: ("codes", "centroids"),
    GROUPED_CODEBOOK: ("codes", "centroids"),
}
"""By compressed form that can lie as panels: its arrays."""
