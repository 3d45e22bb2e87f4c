"""Row reductions: the CPU twin at real row lengths against float64 and torch, and the launcher's choices."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kernels.compiler.ir import Region
from kernels.compiler.passes import simplify
from kernels.compiler.print_cuda import print_cuda
from kernels.compiler.print_cuda_plan import RowPlan
from kernels.compiler.print_cuda_rows import print_plan
from kernels.cuda.launch import ArgumentError
from kernels.row_reduction import Launcher, reference, twin
from tests.cuda.case import guarded
from tests.cuda.row_reduction_cases import (
    layer_norm,
    log_softmax,
    masked_softmax,
    middle_mean,
    residual_layer_norm,
    rms_norm,
    row_maximum,
    softmax,
)
from tests.kernels.compiler.regions import Builder
from tests.kernels.device_stand_in import Recorder


def drawn(region: Region, random: np.random.Generator) -> list[np.ndarray]:
    """Return an array for each buffer, in-place buffers sharing theirs."""
    arrays: list[np.ndarray] = []
    for buffer in region.buffers:
        if buffer.same_as is not None:
            arrays.append(arrays[buffer.same_as])
            continue
        array = guarded(buffer.dtype, buffer.elements)
        numbers = random.standard_normal(buffer.elements)
        array[:] = numbers > -1 if buffer.dtype == "bool" else numbers
        arrays.append(array)
    return arrays


@pytest.mark.parametrize(
    ("build", "length"),
    [
        (softmax, 1), (layer_norm, 31), (rms_norm, 1000), (masked_softmax, 1024), (residual_layer_norm, 12288),
        (log_softmax, 50257), (layer_norm, 50256), (middle_mean, 4099),
    ],
)  # fmt: skip
def test_the_twin_matches_float64_at_real_row_lengths(build: Callable[[int, int], Region], length: int) -> None:
    region = build(length, 3)
    arrays = drawn(region, np.random.default_rng(length))
    wanted = reference(region, arrays)
    sources = print_cuda(region)
    twin(sources.get("wide", sources["scalar"]), arrays)
    for buffer, array, expected in zip(region.buffers, arrays, wanted, strict=True):
        if buffer.written:
            scale = max(1.0, float(np.abs(expected).max()))
            np.testing.assert_allclose(array, expected, rtol=4e-6, atol=2e-6 * scale)


SPECIAL_ROWS = [
    [-np.inf] * 8,
    [np.inf, 1, 2, 3, 4, 5, 6, 7],
    [np.nan, 1, 2, 3, 4, 5, 6, 7],
    [-np.inf, 1, -np.inf, 3e38, -3e38, 0.0, -0.0, 1e-40],
    [1, 2, 3, 4, 5, 6, 7, np.nan],
    [100, -100, 88.5, -88.5, 3, 2, 1, 0],
    [-np.inf, -np.inf, -np.inf, -np.inf, -np.inf, -np.inf, -np.inf, 5],
]
PLANS = {
    "sub-warp": RowPlan(2, 4, True),
    "warp": RowPlan(32, 1, True),
    "read-again": RowPlan(2, 4, False),
    "block": RowPlan(64, 1, False),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_softmax_of_special_rows_is_as_torch_has_it(plan: RowPlan) -> None:
    x, out = guarded("float32", 8 * len(SPECIAL_ROWS)), guarded("float32", 8 * len(SPECIAL_ROWS))
    x[:] = np.array(SPECIAL_ROWS, np.float32).ravel()
    rows = torch.from_numpy(x.copy()).reshape(-1, 8)
    twin(print_plan(simplify(softmax(8, len(SPECIAL_ROWS))), plan), (x, out))
    got = torch.from_numpy(out).reshape(-1, 8)
    torch.testing.assert_close(got, torch.softmax(rows, 1), rtol=1e-6, atol=1e-38, equal_nan=True)


def test_extremes_of_special_rows_are_as_torch_has_them() -> None:
    x = guarded("float32", 8 * len(SPECIAL_ROWS))
    x[:] = np.array(SPECIAL_ROWS, np.float32).ravel()
    most, least = guarded("float32", len(SPECIAL_ROWS)), guarded("float32", len(SPECIAL_ROWS))
    twin(print_cuda(row_maximum(8, len(SPECIAL_ROWS)))["wide"], (x, most, least))
    rows = torch.from_numpy(x).reshape(-1, 8)
    torch.testing.assert_close(torch.from_numpy(most), rows.amax(1), rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(torch.from_numpy(least), rows.amin(1), rtol=0, atol=0, equal_nan=True)


def test_layer_norm_is_as_torch_has_it() -> None:
    region = layer_norm(100, 7)
    arrays = drawn(region, np.random.default_rng())
    arrays[0][100:200] = 5.0  # no deviation at all
    arrays[0][250] = np.inf
    twin(print_cuda(region)["wide"], arrays)
    x, weight, bias, out = (torch.from_numpy(array) for array in arrays[:4])
    wanted = torch.nn.functional.layer_norm(x.reshape(7, 100), (100,), weight, bias)
    torch.testing.assert_close(out.reshape(7, 100), wanted, rtol=2e-5, atol=2e-5, equal_nan=True)


def test_a_long_sum_loses_no_more_than_a_tree_does() -> None:
    b = Builder(1_000_003, reduced=1)
    b.output(b.value("reduce_sum", b.load(b.buffer(1_000_003), 1)), 0, elements=1)
    x, out = guarded("float32", 1_000_003), guarded("float32", 1)
    x[:] = np.random.default_rng().random(x.size)
    twin(print_cuda(b.region())["wide"], (x, out))
    assert abs(out[0] - x.astype(np.float64).sum()) < 1e-6 * out[0]


def test_integers_wrap_as_in_torch() -> None:
    b = Builder(5, 37, reduced=1)
    x = b.load(b.buffer(185, "int32"), 37, 1)
    for op in ("reduce_sum", "reduce_prod"):
        b.output(b.value(op, x), 1, 0, elements=5)
    values, total, product = guarded("int32", 185), guarded("int32", 5), guarded("int32", 5)
    values[:] = np.random.default_rng().integers(-(2**31), 2**31, 185)
    twin(print_cuda(b.region())["scalar"], (values, total, product))
    rows = torch.from_numpy(values).reshape(5, 37)
    assert torch.equal(torch.from_numpy(total), rows.sum(1, dtype=torch.int32))
    assert torch.equal(torch.from_numpy(product), rows.prod(1, dtype=torch.int32))


def test_a_block_has_the_threads_of_its_plan_and_the_grid_is_capped(recorder: Recorder) -> None:
    Launcher(softmax(40, 3)).launch((256, 4096), 0)
    Launcher(softmax(12288, 3)).launch((256, 1 << 20), 0x7F)
    Launcher(softmax(12288, 10_000)).launch((256, 1 << 30), 0)
    # 16 threads a row of 40, 512 a row of 12288, of which 4 blocks fill a multiprocessor
    assert [launch[:3] for launch in recorder.launches] == [(1, 128, 0), (3, 512, "stream 127"), (8, 512, 0)]


def test_weights_that_are_read_once_a_row_need_no_wide_alignment(recorder: Recorder) -> None:
    b = Builder(3, 8, reduced=1)
    x, scale = b.load(b.buffer(24), 8, 1), b.load(b.buffer(3), 1, 0)
    b.output(b.value("mul", b.value("sub", x, b.value("reduce_max", x)), scale), 8, 1, elements=24)
    launcher = Launcher(b.region())
    assert launcher.launch((256, 516, 1024), 0) == "wide"
    assert launcher.launch((260, 512, 1024), 0) == "scalar"


def test_an_argument_that_does_not_fit_is_refused_by_name(recorder: Recorder) -> None:
    interface = {"data": (512, False), "shape": (119,), "typestr": "<f4", "strides": None, "version": 2}
    short = SimpleNamespace(__cuda_array_interface__=interface)
    with pytest.raises(ArgumentError, match="buffer t1 needs 120 elements, not 119"):
        Launcher(softmax(40, 3)).launch((256, short), 0)
    with pytest.raises(ArgumentError, match="1 arguments for 2 buffers"):
        Launcher(softmax(40, 3)).launch((256,), 0)
    assert not recorder.launches
