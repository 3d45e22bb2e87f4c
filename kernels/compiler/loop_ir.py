"""The IR of a loop over time: regions and matrix products that run once a trip, on memory that moves with the trip.

One trip of an LSTM, as an example: the product h[t-1] @ W into scratch, then one region that adds the input's share,
applies the gates, and stores c[t], h[t] and a copy of h[t] into the output.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from kernels.compiler.ir import Region


@dataclass(frozen=True, slots=True)
class LoopBuffer:
    """Memory handed to the loop by address. written: some statement stores into it."""

    name: str
    nbytes: int
    written: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """Where an operand begins in trip t: `offset + step * t + alternate * ((t + phase) & 1)` bytes into a buffer.

    value: the number of the value that lies there; -1 for memory that comes from outside or goes there.
    age:   how many trips ago that value was computed; None: before the first trip, once for all.
    """

    buffer: int
    offset: int = 0
    step: int = 0
    alternate: int = 0
    phase: int = 0
    value: int = -1
    age: int | None = 0

    def begin(self, trip: int) -> int:
        """Return the first byte in trip `trip`; the prologue is trip -1."""
        return self.offset + self.step * trip + self.alternate * ((trip + self.phase) & 1)


@dataclass(frozen=True, slots=True)
class Apply:
    """Run a region, each of its buffers beginning at a window."""

    region: Region
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class Term:
    """left [rows, depth] @ right [depth, columns], row and column strides in elements.

    packed: `right` lies in panels, as a Pack put it there, and right_strides say how it lay before.
    """

    depth: int
    left: Window
    left_strides: tuple[int, int]
    right: Window
    right_strides: tuple[int, int]
    packed: bool = False


@dataclass(frozen=True, slots=True)
class Product:
    """out [rows, columns] = the sum of the terms. The columns of `out` are contiguous; out_stride: row to row.

    groups: blocks of columns that are computed side by side; panel: columns of each in a full panel where they are
    given. Only the order of packed factors depends on them.
    """

    dtype: str
    rows: int
    columns: int
    terms: tuple[Term, ...]
    out: Window
    out_stride: int
    groups: int = 1
    panel: int | None = None


@dataclass(frozen=True, slots=True)
class Fused:
    """Products and the pointwise region that alone reads them, applied to each tile while it is hot.

    It computes what its parts compute one after the other, but leaves the memory of the products alone.
    """

    products: tuple[Product, ...]
    apply: Apply


@dataclass(frozen=True, slots=True)
class Pack:
    """Copy the right factor of one term of a product from `source` into panels at `out`, in the prologue."""

    product: Product
    term: int
    source: Window
    out: Window


Statement = Apply | Product | Fused | Pack


def parts(statement: Statement) -> tuple[Apply | Product | Pack, ...]:
    """Return the statements that one stands for, in order: the products and the region of a fused one."""
    return (*statement.products, statement.apply) if isinstance(statement, Fused) else (statement,)


@dataclass(frozen=True, slots=True)
class LoopProgram:
    """`prologue` once, as trip -1, then `body` for trips 0 to `trips` - 1, statement after statement."""

    trips: int
    buffers: tuple[LoopBuffer, ...]
    prologue: tuple[Apply | Pack, ...]
    body: tuple[Apply | Product | Fused, ...]

    def key(self) -> str:
        """Return a hash of everything that the generated code depends on (names excepted)."""
        sizes = tuple((buffer.nbytes, buffer.written) for buffer in self.buffers)
        statements = [_statement_key(statement) for statement in (*self.prologue, *self.body)]
        text = repr((self.trips, sizes, len(self.prologue), statements))
        return hashlib.sha256(text.encode()).hexdigest()[:24]


def _statement_key(statement: Statement) -> str:
    if isinstance(statement, Apply):
        return f"{statement.region.key()} {statement.windows!r}"
    if isinstance(statement, Fused):
        return f"{statement.products!r} {_statement_key(statement.apply)}"
    return repr(statement)
