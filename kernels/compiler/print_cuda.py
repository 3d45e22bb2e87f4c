"""Prints a region as a Numba-CUDA kernel: a scalar form, and a wide one of 128-bit accesses where that is possible."""

from __future__ import annotations

from kernels.compiler.ir import Region
from kernels.compiler.passes import simplify
from kernels.compiler.print_cuda_points import print_points
from kernels.compiler.print_cuda_rows import print_rows
from kernels.compiler.verify import verify
from kernels.cuda.kernel import KernelSource


def print_cuda(region: Region) -> dict[str, KernelSource]:
    """Return the region's kernel by form: "scalar" always, "wide" where 128-bit accesses are possible.

    A region with reductions gives a row kernel (print_cuda_rows.py), launched with `threads` threads a block.
    Raises IrError for an invalid region and for an op that has no CUDA text.
    """
    verify(region)
    region = simplify(region)
    return print_rows(region) if region.reduced else print_points(region)
