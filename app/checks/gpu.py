"""Every check of a GPU and of transfers, in the order in which they matter; needs no web package."""

from __future__ import annotations

from collections.abc import Callable

from app.checks.check import Check, guarded
from app.checks.driver import check_driver, check_peers
from app.checks.frameworks import check_kernels, check_numba_cuda, check_torch
from app.checks.machine import Machine
from app.checks.profiling import check_cupti, check_nvml
from app.checks.ucx import check_ucx

CHECKS: tuple[tuple[str, Callable[[Machine], Check]], ...] = (
    ("cuda driver", check_driver),
    ("torch cuda", check_torch),
    ("numba-cuda", check_numba_cuda),
    ("cuda kernels", check_kernels),
    ("cupti", check_cupti),
    ("nvml", check_nvml),
    ("peer access", check_peers),
    ("ucx", check_ucx),
)


def examine_gpu(machine: Machine | None = None) -> tuple[Check, ...]:
    """Return every check; one that itself fails says so, and the others go on."""
    examined = machine or Machine()

    def examine(name: str, check: Callable[[Machine], Check]) -> Check:
        return guarded(name, lambda: check(examined))

    return tuple(examine(name, check) for name, check in CHECKS)
