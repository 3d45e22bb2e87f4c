"""Tier a: each kernel's own text, run by the CPU, against the float64 reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kernels import pointwise
from kernels.compiler.print_cuda import print_cuda
from kernels.cuda import kernel as cuda_kernel
from tests.cuda import pointwise_cases
from tests.cuda.case import SPECIALS, Case, check, guarded
from tests.cuda.cases import CASES, form_id


@pytest.mark.parametrize("case", CASES, ids=form_id)
def test_the_cpu_twin_matches_the_float64_reference(case: Case) -> None:
    problem = case.problem(case.sizes[-2])
    assert set(problem.sources) == set(case.bounds)
    for seed, source in enumerate(problem.sources.values()):
        check(case, problem, source, cuda_kernel.run_twin, seed)


def drawn(size: int) -> np.ndarray:
    values = guarded("float32", size)
    values[:] = np.random.default_rng().standard_normal(size)
    values[: len(SPECIALS)] = SPECIALS
    return np.random.default_rng().permuted(values, out=values)


def test_comparisons_and_nan_match_torch_exactly() -> None:
    size = 1003
    x, y, out = drawn(size), drawn(size), guarded("float32", size)
    flags = guarded("bool", size), guarded("bool", size)
    pointwise.twin(print_cuda(pointwise_cases.comparisons(size))["wide"], (x, y, out, *flags))
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    wanted = torch.where(a < b, torch.minimum(a, b), torch.maximum(a, b))
    torch.testing.assert_close(torch.from_numpy(out), wanted, rtol=0, atol=0, equal_nan=True)
    either = torch.isnan(a) | torch.isinf(b)
    assert flags[0].tobytes() == either.numpy().tobytes()
    assert flags[1].tobytes() == (~either & (a < b)).numpy().tobytes()


def test_rounding_signs_and_relu_match_torch_exactly() -> None:
    size = 1003
    x, outs = drawn(size), [guarded("float32", size) for _ in range(8)]
    pointwise.twin(print_cuda(pointwise_cases.rounding(size))["wide"], (x, *outs))
    for name, out in zip(("floor", "ceil", "round", "trunc", "sign", "abs", "neg", "relu"), outs, strict=True):
        wanted = getattr(torch, name)(torch.from_numpy(x))
        torch.testing.assert_close(torch.from_numpy(out), wanted, rtol=0, atol=0, equal_nan=True)


def test_wrapping_integers_and_casts_match_torch_exactly() -> None:
    rows = 37
    random = np.random.default_rng()
    wide, narrow, x = guarded("int64", 4 * rows), guarded("int32", 4 * rows), drawn(4 * rows)
    wide[:], narrow[:] = random.integers(-(2**62), 2**62, wide.size), random.integers(-(2**31), 2**31, narrow.size)
    outs = [guarded(dtype, 4 * rows) for dtype in ("int64", "int32", "int32", "int32", "float32")]
    pointwise.twin(print_cuda(pointwise_cases.integers(rows))["wide"], (wide, narrow, x, *outs))
    a, b, c = (torch.from_numpy(array.reshape(rows, 4)) for array in (wide, narrow, x))
    row, column = torch.arange(rows)[:, None], torch.arange(4)[None, :]
    wanted = (
        (a * 0x7FFFFFFFFFFFFFF1 * row) ^ torch.remainder(a, -3),
        b * torch.tensor(0x7FFFFFF1, dtype=torch.int32),
        torch.pow(b, column.to(torch.int32)),
        c.to(torch.int32),
        column.float() + b.float(),
    )
    for out, expected in zip(outs, wanted, strict=True):
        assert out.tobytes() == expected.contiguous().numpy().tobytes()
