"""The row reductions: softmax, norms, sums and the like as one CUDA kernel, its CPU twin and its float64 reference.

The kernels are printed from a region whose trailing axes are reduced (kernels/compiler/print_cuda_rows.py): a team of
threads keeps a row in registers between its reductions, so that it is read once and written once.
"""

from __future__ import annotations

from kernels.region_launch import RegionLauncher as Launcher
from kernels.region_launch import reference, twin

__all__ = ["Launcher", "reference", "twin"]
