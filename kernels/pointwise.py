"""The pointwise family: a fused elementwise region as a CUDA kernel, its CPU twin and its float64 reference.

The kernels are printed from a region (kernels/compiler/print_cuda_points.py).
"""

from __future__ import annotations

from kernels.region_launch import RegionLauncher as Launcher
from kernels.region_launch import reference, twin

__all__ = ["Launcher", "reference", "twin"]
