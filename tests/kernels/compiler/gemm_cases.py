"""Matrix products for the tests: compiled from printed source, run on guarded memory, computed again in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels.compiler.gemm import Plan, Product, Term, plan
from kernels.compiler.gemm_pack import packed, panels
from kernels.compiler.gemm_print import Epilogue, Into, Place, print_product
from kernels.compiler.source import Source

HEADER = """
import numba
from numpy import float32, float64

from kernels.compiler.gemm_tile import gemm_dots, gemm_tile
from kernels.compiler.gemm_transpose import gemm_transpose
from kernels.compiler.intrinsics import load_float32, stack, store_float32
from kernels.compiler.prelude import sigmoid_float32, tanh_float32
"""
GUARD = np.float32(-3.25e7)


def compiled(product: Product, chosen: Plan, to: Into | Epilogue, arguments: int, share=None, reverse=""):
    """The kernel: A and B of each term, then C and what else `to` uses, then begin and end where there is a share."""
    names = [f"b{k}" for k in range(arguments)] + (["begin", "end"] if share else [])
    operands = [(Place(f"b{2 * k}", 2 * k), Place(f"b{2 * k + 1}", 2 * k + 1)) for k in range(len(product.terms))]
    source = Source()
    signature = f"void({', '.join(['int64'] * len(names))})"
    source.line(f'@numba.njit("{signature}", error_model="numpy", boundscheck=False)')
    with source.block(f"def kernel({', '.join(names)}):"):
        definitions = print_product(source, "g0", product, chosen, operands, to, share, reverse)
        source.line("return")
    names = {}
    exec(compile("\n".join((HEADER, *definitions, source.text())), "<kernel>", "exec"), names)
    return names["kernel"]


@dataclass(frozen=True)
class Operand:
    """B [depth, groups, columns] of a term and how it lies: "rows" [K, G*N], "columns" [G*N, K], "packed", "odd"."""

    layout: str
    padding: int


def guarded(shape, strides, draw) -> tuple[np.ndarray, np.ndarray]:
    """Random numbers with these strides (in elements), and the memory in which all around and between is a guard."""
    extent = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True) if size)
    room = np.full(extent + 64, GUARD, np.float32)
    view = np.lib.stride_tricks.as_strided(room[32:], shape, [4 * stride for stride in strides])
    view[...] = draw(shape)
    return view, room


def strides_of(layout: str, depth: int, groups: int, columns: int, padding: int) -> tuple[int, int, int]:
    """The strides (k, group, column) of an unpacked B."""
    if layout == "rows":
        return groups * columns + padding, columns, 1
    if layout == "columns":
        return 1, columns * (depth + padding), depth + padding
    return 2, columns * 2 * (depth + padding), 2 * (depth + padding)


class Case:
    """One product with its arrays."""

    def __init__(self, rng, target, rows, columns, groups, terms, accumulate, spread=1, share=None, draw=None) -> None:
        draw = rng.standard_normal if draw is None else draw
        self.a, self.b, printed = [], [], []
        for depth, operand in terms:
            a_strides = (depth + operand.padding, 1) if operand.padding % 2 == 0 else (1, rows + operand.padding)
            if operand.layout == "columns":
                a_strides = (depth + operand.padding, 1)
            layout = "rows" if operand.layout == "packed" else operand.layout
            b_strides = strides_of(layout, depth, groups, columns, operand.padding)
            self.a.append(guarded((rows, depth), a_strides, draw)[0])
            self.b.append(guarded((depth, groups, columns), b_strides, draw)[0])
            printed.append(Term(depth, a_strides, None if operand.layout == "packed" else b_strides))
        self.product = Product(rows, columns, tuple(printed), groups)
        self.plan = plan(self.product, target)
        self.strides = (groups * columns * spread + 3, columns * spread, spread)
        self.c, self.room = guarded((rows, groups, columns), self.strides, draw)
        self.before = self.c.copy()
        self.accumulate = accumulate
        into = Into(Place(f"b{2 * len(terms)}", 2 * len(terms)), self.strides, accumulate)
        self.kernel = compiled(self.product, self.plan, into, 2 * len(terms) + 1, share)
        self.passed = [
            packed(b, panels(self.product, self.plan, k)) if self.product.terms[k].b is None else b
            for k, b in enumerate(self.b)
        ]

    def run(self, *share: int) -> np.ndarray:
        addresses = [array.ctypes.data for pair in zip(self.a, self.passed, strict=True) for array in pair]
        self.kernel(*addresses, self.c.ctypes.data, *share)
        return self.c

    def exact(self) -> np.ndarray:
        total = self.before.astype(np.float64) if self.accumulate else np.zeros(self.c.shape)
        for a, b in zip(self.a, self.b, strict=True):
            total = total + np.einsum("mk,kgn->mgn", a.astype(np.float64), b.astype(np.float64))
        return total

    def magnitude(self) -> np.ndarray:
        """Sums of absolute products: what the rounding errors of a sum are measured by."""
        total = np.abs(self.before.astype(np.float64)) if self.accumulate else np.zeros(self.c.shape)
        for a, b in zip(self.a, self.b, strict=True):
            total = total + np.einsum("mk,kgn->mgn", np.abs(a.astype(np.float64)), np.abs(b.astype(np.float64)))
        return total + np.finfo(np.float32).tiny

    def untouched(self) -> bool:
        """Whether nothing around or between the elements of C was written."""
        mask = np.ones(self.room.shape, bool)
        index = 32 + sum(
            stride * np.arange(size).reshape([-1 if k == axis else 1 for k in range(3)])
            for axis, (size, stride) in enumerate(zip(self.c.shape, self.strides, strict=True))
        )
        mask[index] = False
        return bool((self.room[mask] == GUARD).all())
