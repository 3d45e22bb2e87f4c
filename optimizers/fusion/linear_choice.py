"""A product with its region against the library's product followed by the region as a kernel of its own."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import torch

from kernels.compiler.compile import compile_kernel
from kernels.compiler.product_ir import ProductKernel
from optimizers.fusion.alternatives import KERNEL, Alternative, timed
from optimizers.fusion.graph import ITEM_BYTES
from optimizers.fusion.timing import Comparison, compare

NAME = "library product"
_BUDGET_SECONDS = 0.05


def library_product(kernel: ProductKernel, addresses: Sequence[int], ours: Callable[[], Any]) -> Alternative:
    """Return what the library's product was measured to take in the place of ours, its region being a kernel too.

    addresses: of the memory that each buffer of the kernel has in `ours`, a call of it. The product alone is timed
    first: where it takes longer than ours with the region, no region needs to be compiled.
    """
    product, sums = _product(kernel, addresses)
    alone = _compare(ours, product)
    if kernel.copied is not None:
        return _answer(alone, "")
    if alone.ratio <= 1.0:
        return _answer(alone, " before its region is applied")
    region = compile_kernel(kernel.region, threads=1).entry
    others = list(addresses[2:])
    others.insert(kernel.sums, sums.data_ptr())

    def both() -> None:
        product()
        region(*others)

    return _answer(_compare(ours, both), ", its region applied afterwards")


def _compare(ours: Callable[[], Any], library: Callable[[], Any]) -> Comparison:
    return compare(ours, library, budget_seconds=_BUDGET_SECONDS, block_seconds=0.0005)


def _answer(comparison: Comparison, when: str) -> Alternative:
    kept = comparison.ratio > 1.0
    reason = "" if kept else f"the kernel is faster than the library's product{when}"
    return timed(NAME, comparison, kept, reason, against=KERNEL)


def _product(kernel: ProductKernel, addresses: Sequence[int]) -> tuple[Callable[[], Any], torch.Tensor]:
    """Return a call of the library on the kernel's own factors, and the memory of its result."""
    left, right = (
        _memory(address, buffer.elements) for address, buffer in zip(addresses[:2], kernel.buffers[:2], strict=True)
    )
    a = left.as_strided((kernel.rows, kernel.depth), kernel.left_strides)
    b = right.as_strided((kernel.depth, kernel.columns), kernel.right_strides)
    out = torch.empty(kernel.rows, kernel.columns)
    return lambda: torch.mm(a, b, out=out), out


def _memory(address: int, elements: int) -> torch.Tensor:
    raw = (ctypes.c_char * (elements * ITEM_BYTES["float32"])).from_address(address)
    return torch.frombuffer(raw, dtype=torch.float32)
