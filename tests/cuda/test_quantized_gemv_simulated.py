"""Tier b of the quantized products beyond the cases: any shape, number format and spread of the work, simulated."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.quantized.product import QuantizedProduct
from kernels.quantized.source import Tuning
from tests.cuda.case import Bounds, Case, check
from tests.cuda.quantized_gemv_cases import problem
from tests.cuda.toolchain_process import ToolchainProcess, simulated

pytestmark = pytest.mark.cuda_toolchain
FORMATS = st.sampled_from(
    (
        {"weights": "int8"},
        {"weights": "int8", "inputs": "int8"},
        {"weights": "int8", "inputs": "float16", "bias": True},
        {"weights": "codebook", "bias": True},
        {"weights": "codebook", "inputs": "bfloat16", "scope": "tensor"},
        {"weights": "codebook", "scope": "group", "group": 32},
        {"weights": "codebook", "scope": "group", "group": 256},
        {"weights": "codebook", "scope": "group", "group": 2048},
    )
)


@settings(max_examples=10, deadline=None)
@given(
    formats=FORMATS,
    rows=st.integers(1, 5),
    columns=st.integers(1, 1100),
    batch=st.integers(1, 2),
    tuning=st.builds(Tuning, st.sampled_from((1, 2)), st.sampled_from((1, 2, 4))),
    form=st.sampled_from(("wide", "scalar")),
    blocks=st.integers(1, 2),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_product_is_simulated_right(
    formats: dict[str, object],
    rows: int,
    columns: int,
    batch: int,
    tuning: Tuning,
    form: str,
    blocks: int,
    seed: int,
    simulating: ToolchainProcess,
) -> None:
    product = QuantizedProduct(rows, columns, batch, **formats)  # type: ignore[arg-type]
    drawn = problem(product, tuning)
    case = Case("random", lambda size: drawn, (1,), 1, {form: Bounds(255)}, specials=False)
    run = simulated(simulating, blocks, 32 * tuning.warps_per_row)
    check(case, drawn, drawn.sources[form], run, seed)
