"""Weights in panels: the order in which the tiles of a product read them, so that they come as one stream.

A packed B [depth, groups, columns] is, panel after panel, `panel` columns of each group: [depth, groups, panel]. The
last panel has the columns that are left, rounded up to whole vectors; what is added is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.compiler.gemm import Plan, Product
from kernels.compiler.ir import IrError

ALIGNMENT = 64
"""Bytes that the address of packed weights should be a multiple of: a vector across two cache lines costs two loads."""


@dataclass(frozen=True, slots=True)
class Panels:
    """The layout of one packed B."""

    depth: int
    groups: int
    columns: int
    panel: int
    width: int

    @property
    def full(self) -> int:
        """Return the number of full panels."""
        return self.columns // self.panel

    @property
    def last(self) -> int:
        """Return the columns of the last panel as they are stored; 0 if there is none."""
        return rounded(self.columns % self.panel, self.width)

    @property
    def stride(self) -> int:
        """Return the elements of one full panel."""
        return self.depth * self.groups * self.panel

    @property
    def elements(self) -> int:
        """Return the elements in all."""
        return self.full * self.stride + self.depth * self.groups * self.last


def rounded(columns: int, width: int) -> int:
    """Return the columns rounded up to whole vectors."""
    return -(-columns // width) * width


def panels(product: Product, chosen: Plan, term: int = 0) -> Panels:
    """Return the layout of a term's B under a plan of tiles."""
    own = product.terms[term]
    return Panels(own.depth, product.span(own)[1], product.columns, chosen.panel, chosen.target.width)


def pack(b: npt.NDArray[Any], layout: Panels, out: npt.NDArray[np.float32]) -> None:
    """Fill `out`, of layout.elements float32, with b [depth, groups, columns] (any strides) in panels."""
    shape = (layout.depth, layout.groups, layout.columns)
    if b.shape != shape or out.shape != (layout.elements,) or out.dtype != np.float32:
        raise IrError(
            f"cannot pack {b.shape} into {out.dtype}{out.shape}; give {shape} and float32({layout.elements},)"
        )
    whole = layout.full * layout.panel
    body = out[: layout.full * layout.stride].reshape(layout.full, layout.depth, layout.groups, layout.panel)
    split_up = b[:, :, :whole].reshape(layout.depth, layout.groups, layout.full, layout.panel)
    body[...] = split_up.transpose(2, 0, 1, 3)
    if layout.last:
        tail = out[layout.full * layout.stride :].reshape(layout.depth, layout.groups, layout.last)
        tail[:, :, layout.columns - whole :] = 0.0
        tail[:, :, : layout.columns - whole] = b[:, :, whole:]


def packed(b: npt.NDArray[Any], layout: Panels) -> npt.NDArray[np.float32]:
    """Return b [depth, groups, columns] in panels, at an address that is a multiple of ALIGNMENT."""
    room = np.empty(layout.elements + ALIGNMENT // 4, np.float32)
    start = -room.ctypes.data // 4 % (ALIGNMENT // 4)
    out = room[start : start + layout.elements]
    pack(b, layout, out)
    return out
