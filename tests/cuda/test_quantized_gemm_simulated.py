"""Tier b of products with small batches beyond the cases: any shape, batch, codebook and spread, simulated."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.quantized.activation_bytes import INPUTS, ActivationBytes
from kernels.quantized.gemm_shape import ACTIVATIONS, ByteRows, SmallGemm, tiles_of
from tests.cuda.case import Bounds, Case, check
from tests.cuda.quantized_gemm_cases import bytes_problem, problem
from tests.cuda.toolchain_process import ToolchainProcess, simulated

pytestmark = pytest.mark.cuda_toolchain
WEIGHTS = st.sampled_from((("int8", "row"), ("codebook", "row"), ("codebook", "tensor")))
FORM = st.sampled_from(("wide", "scalar"))


@settings(max_examples=6, deadline=None)
@given(
    weights=WEIGHTS,
    rows=st.integers(1, 35),
    columns=st.integers(1, 300),
    batch=st.integers(1, 20),
    epilogue=st.tuples(st.booleans(), st.sampled_from(ACTIVATIONS)),
    warps=st.sampled_from((1, 2)),
    form=FORM,
    seed=st.integers(0, 2**32 - 1),
)
def test_any_product_is_simulated_right(
    weights: tuple[str, str],
    rows: int,
    columns: int,
    batch: int,
    epilogue: tuple[bool, str],
    warps: int,
    form: str,
    seed: int,
    simulating: ToolchainProcess,
) -> None:
    product = SmallGemm(rows, columns, tiles_of(batch), *weights, *epilogue)
    drawn = problem(product, batch, warps)
    case = Case("random", lambda size: drawn, (1,), 1, {form: Bounds(255)}, specials=False)
    check(case, drawn, drawn.sources[form], simulated(simulating, 1, 32 * warps), seed)


@settings(max_examples=5, deadline=None)
@given(
    columns=st.integers(1, 1100),
    bits=st.sampled_from((4, 8)),
    inputs=st.sampled_from(INPUTS),
    form=FORM,
    seed=st.integers(0, 2**32 - 1),
)
def test_any_rows_become_the_same_bytes_in_the_simulator(
    columns: int, bits: int, inputs: str, form: str, seed: int, simulating: ToolchainProcess
) -> None:
    drawn = bytes_problem(ActivationBytes(ByteRows(columns, bits), inputs), 2)
    case = Case("random", lambda size: drawn, (1,), 1, {form: Bounds(255)}, specials=False)
    check(case, drawn, drawn.sources[form], simulated(simulating, 1, 64), seed)
