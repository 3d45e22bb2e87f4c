"""Which kernel of quantized products a processor can run, and why it is the portable one where it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
from numba.core import config

settings: Any = config

CAP = "HOTBENCH_CPU_FEATURES"
"""Environment variable: features that may be used, separated by commas; for tests, and to rule a kernel out."""


@dataclass(frozen=True, slots=True)
class KernelNeeds:
    """A kernel's name and the features (by LLVM's names) without which it cannot run."""

    name: str
    features: tuple[str, ...]


_BYTES = ("avx512f", "avx512bw", "avx512vl")
INT8_KERNEL = KernelNeeds("avx512-vnni", (*_BYTES, "avx512vnni"))
CODEBOOK_KERNEL = KernelNeeds("avx512-vnni-lookup", (*_BYTES, "avx512vnni"))
BFLOAT16_KERNEL = KernelNeeds("avx512-bf16", (*_BYTES, "avx512bf16"))
WEIGHT_ONLY_KERNEL = KernelNeeds("avx512", ("avx512f",))
LOOKUP_KERNEL = KernelNeeds("avx512-lookup", ("avx512f",))
PORTABLE = "portable"


def choose(needs: KernelNeeds, features: Mapping[str, bool] | None = None) -> tuple[str, str]:
    """Return the kernel's name and nothing, or "portable" and in one line why."""
    present = host_features() if features is None else features
    missing = [name for name in needs.features if not present.get(name)]
    if not missing:
        return needs.name, ""
    return PORTABLE, f"the processor has no {', '.join(missing)}: a portable kernel, much slower, takes its place"


def host_features() -> Mapping[str, bool]:
    """Return the features that Numba compiles for and that HOTBENCH_CPU_FEATURES (if set) allows."""
    flags: str | None = settings.CPU_FEATURES
    if flags:
        present = {flag[1:]: flag.startswith("+") for flag in flags.split(",")}
    else:
        present = dict(llvm.get_host_cpu_features())
    allowed = os.environ.get(CAP)
    if allowed is None:
        return present
    names = {name.strip() for name in allowed.split(",")}
    return {name: there and name in names for name, there in present.items()}
