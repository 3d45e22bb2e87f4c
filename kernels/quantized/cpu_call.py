"""Products with weights at given addresses: what a framework's op calls, with as little as possible in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kernels.quantized.cpu_compile import CompiledFamily, shared_pool
from kernels.quantized.cpu_features import choose
from kernels.quantized.cpu_product import PARALLEL_WEIGHTS, family_named
from kernels.quantized.cpu_source import MOST_LOOKED_UP
from kernels.quantized.cpu_store import depth_of, layout, needs_of, numbers_of
from kernels.quantized.cpu_tile import COLUMNS


@dataclass(frozen=True, slots=True, eq=False)
class ProductCall:
    """Products with the weights at some addresses. It does not hold the weights' memory: the caller does.

    kernel, reason: as of PreparedWeights. table: for compiled code, at `address`.
    """

    kind: str
    rows: int
    columns: int
    kernel: str
    reason: str
    depth: int
    address: int
    family: CompiledFamily
    table: NDArray[np.int64] = field(repr=False)
    _zeros: NDArray[np.float32] = field(repr=False)
    _entry: Callable[..., None] = field(repr=False)

    def workspace_bytes(self, rows: int, threads: int = 1) -> int:
        """Return the bytes of scratch memory, at a multiple of 64, that a product of so many rows needs."""
        quantised = (rows * (self.depth + 8) + 63) // 64 * 64
        unpacks = self.kind == "codebook" and rows > MOST_LOOKED_UP
        return quantised + (threads * COLUMNS * self.depth if unpacks else 0)

    def __call__(
        self,
        x: int,
        rows: int,
        out: int,
        workspace: int,
        activation: int = 0,
        bias: int = 0,
        threads: int = 1,
    ) -> None:
        """Compute out = activation(x W^T + bias) for rows at addresses, none between the rows of either.

        Nothing is checked. activation: a number of cpu_epilogue.ACTIVATIONS. workspace: of workspace_bytes.
        """
        columns, outputs = self.columns, self.rows
        if threads > 1 and rows * columns * outputs >= PARALLEL_WEIGHTS:
            arguments = (self.address, x, columns, rows, out, outputs, activation, bias, 0, 0, workspace)
            self.family.run(arguments, threads)
        else:
            self._entry(self.address, x, columns, rows, out, outputs, activation, bias, 0, 0, workspace)


def product_call(kind: str, rows: int, columns: int, group: int | None, addresses: tuple[int, ...]) -> ProductCall:
    """Return the products with weights [rows, columns] whose arrays of cpu_store.layout lie at the addresses.

    Raises WeightsError as `layout` does.
    """
    wanted = layout(kind, rows, columns, group)
    if len(addresses) != len(wanted):
        raise ValueError(f"{kind} weights have {len(wanted)} arrays, {', '.join(wanted)}; {len(addresses)} are given")
    kernel, reason = choose(needs_of(kind))
    depth, panels = depth_of(kind, columns), -(-rows // COLUMNS)
    zeros = np.zeros(panels * COLUMNS, np.float32)
    numbers = numbers_of(kind, columns, group)
    sizes = (rows, columns, depth, panels)
    parts = (*addresses[:3], zeros.ctypes.data, *sizes, *addresses[3:4], *numbers, *addresses[4:])
    table = np.array(parts, np.int64)
    family = family_named(kind, kernel)
    address = table.ctypes.data
    return ProductCall(kind, rows, columns, kernel, reason, depth, address, family, table, zeros, family.entry)


def serial_reason() -> str:
    """Return why products run on one thread whatever is asked for; "" where they don't."""
    found = shared_pool()
    return found if isinstance(found, str) else ""
