"""Run products whose arrays end where readable memory ends: `python -m tests.kernels.compiler.gemm_at_the_edge`.

Prints the target and how many were right; a read or write past an end kills the process.
"""

import ctypes
import mmap
import sys

import numpy as np

from kernels.compiler.gemm import Product, Term, plan
from kernels.compiler.gemm_print import Into, Place
from kernels.compiler.gemm_target import host_target
from tests.kernels.compiler.gemm_cases import compiled

SIZES = ((1, 37, 21), (3, 17, 19), (5, 7, 33))


def at_the_end(values: np.ndarray, kept: list) -> np.ndarray:
    """A copy of the values whose last byte is the last one before memory that cannot be touched."""
    page = mmap.PAGESIZE
    size = -(-values.nbytes // page) * page
    memory = mmap.mmap(-1, size + page)
    kept.append(memory)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(start + size), ctypes.c_size_t(page), 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    copy = np.frombuffer(memory, np.float32, values.size, size - values.nbytes).reshape(values.shape)
    copy[...] = values
    return copy


def right(rows: int, columns: int, depth: int, layout: str, accumulate: bool, kept: list) -> bool:
    rng = np.random.default_rng(rows)

    def draw(*shape):
        return at_the_end(rng.standard_normal(shape).astype(np.float32), kept)

    a, c = draw(rows, depth), draw(rows, columns)
    b, strides = draw(depth, columns), (columns, 0, 1)
    if layout == "columns":
        b, strides = draw(columns, depth), (1, 0, depth)
    product = Product(rows, columns, (Term(depth, (depth, 1), strides),))
    before = c.astype(np.float64) if accumulate else 0.0
    kernel = compiled(product, plan(product), Into(Place("b2", 2), (columns, 0, 1), accumulate), 3)
    kernel(a.ctypes.data, b.ctypes.data, c.ctypes.data)
    exact = before + a.astype(np.float64) @ (b.T if layout == "columns" else b).astype(np.float64)
    return bool(np.abs(c - exact).max() < 1e-4)


def main() -> int:
    kept: list = []
    results = [right(*size, layout, layout == "rows", kept) for size in SIZES for layout in ("rows", "columns")]
    product = Product(4, 24, (Term(16, (16, 1), (24, 0, 1)),))
    (text,) = compiled(product, plan(product), Into(Place("b2", 2), (24, 0, 1)), 3).inspect_asm().values()
    print(host_target().name, sum(results), len(results), "fmaf" in text, flush=True)
    sys.stdout.flush()
    # Without a tidy end: the memory maps still have arrays on them.
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
