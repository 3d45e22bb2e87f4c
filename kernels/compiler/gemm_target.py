"""What a processor's vector registers allow the inner loops of matrix products."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite.binding as llvm
from numba.core import config

settings: Any = config


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of vector registers.

    width: float32 lanes of a register; sums: the most accumulators that LLVM keeps in registers beside the factors;
    fused: it has a multiply-add with one rounding; note: what a report should say of it, empty if nothing.
    """

    name: str
    width: int
    sums: int
    fused: bool
    note: str = ""


AVX512 = Target("avx512", 16, 24, True)
AVX2 = Target("avx2", 8, 12, True)
NEON = Target("neon", 4, 24, True)
PORTABLE = Target(
    "portable", 4, 8, False, "no vector multiply-add is known for this processor: matrix products use 4 lanes, unfused"
)


def target_of(architecture: str, features: Mapping[str, bool]) -> Target:
    """Return the target of a processor: its architecture as LLVM names it, and LLVM's features (name -> present)."""
    if features.get("avx512f"):
        return AVX512
    if features.get("avx2") and features.get("fma"):
        return AVX2
    return NEON if architecture.startswith(("aarch64", "arm64")) else PORTABLE


@cache
def host_target() -> Target:
    """Return the target that Numba compiles for in this process: the host, or what NUMBA_CPU_FEATURES says."""
    architecture = llvm.get_process_triple().split("-")[0]
    if settings.CPU_FEATURES:
        flags = settings.CPU_FEATURES.split(",")
        return target_of(architecture, {flag[1:]: flag.startswith("+") for flag in flags})
    if settings.CPU_NAME and llvm.get_host_cpu_name() != settings.CPU_NAME:
        return PORTABLE
    return target_of(architecture, llvm.get_host_cpu_features())
