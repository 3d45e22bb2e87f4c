"""Every kernel family's cases: one line a family.

To add a family: write kernels/FAMILY.py, whose kernels are KernelSource values (text for the device and the simulator,
host_text for the CPU twin, addresses as parameters); describe its cases in tests/cuda/FAMILY_cases.py as Case values
(buffers, sources, float64 reference, sizes, grids, bounds of the compiled code); name them below. The tests of all four
tiers, and the page docs/gpu-status.md, take them from here.
"""

from __future__ import annotations

from tests.cuda import (
    gather_cases,
    gather_strided_cases,
    loop_cases,
    pack_cases,
    pointwise_cases,
    quantized_gemm_cases,
    quantized_gemv_cases,
    recurrent_cases,
    row_reduction_cases,
    shared_cases,
    together_cases,
)
from tests.cuda.case import Case

CASES: tuple[Case, ...] = (
    *pointwise_cases.CASES,
    *shared_cases.CASES,
    *recurrent_cases.CASES,
    *loop_cases.CASES,
    *gather_cases.CASES,
    *gather_strided_cases.CASES,
    *pack_cases.CASES,
    *row_reduction_cases.CASES,
    *quantized_gemv_cases.CASES,
    *quantized_gemm_cases.CASES,
    *together_cases.CASES,
)
FORMS: tuple[tuple[Case, str], ...] = tuple((case, form) for case in CASES for form in case.bounds)


def form_id(value: object) -> str:
    """Return a parameter's name in pytest's listing."""
    return value.name if isinstance(value, Case) else str(value)
