"""Convolutions: compiled kernels against tap-by-tap sums in float64, between guards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.compiler.compile import compile_kernel
from kernels.compiler.convolution_ir import Axis, ConvolutionKernel, verify_convolution
from kernels.compiler.convolution_print import PARALLEL_FLOPS, print_convolution
from kernels.compiler.convolution_reference import evaluate_convolution
from kernels.compiler.gemm_target import AVX2, NEON, PORTABLE
from kernels.compiler.ir import IrError

GUARD = np.float32(-3.25e7)


def axis(extent: int, window: int, step: int = 1, padding: int = 0, dilation: int = 1) -> Axis:
    return Axis(
        extent, window, step, padding, dilation, (extent + 2 * padding - dilation * (window - 1) - 1) // step + 1
    )


def convolution(
    batch: int, groups: int, inputs: int, results: int, rows: Axis, columns: Axis, last: bool = False, gap: int = 0
) -> ConvolutionKernel:
    """With dense memory, but for `gap` elements behind each pixel; last: of the weights too channels are last."""
    wide, out = groups * inputs + gap, groups * results + gap
    taps = rows.window * columns.window
    weight = (taps * inputs, 1, columns.window * inputs, inputs) if last else (inputs * taps, taps, columns.window, 1)
    return ConvolutionKernel(
        batch, groups, inputs, results, rows, columns,
        (rows.extent * columns.extent * wide, columns.extent * wide, wide),
        weight,
        (rows.results * columns.results * out, columns.results * out, out),
    )  # fmt: skip


def run(call, kernel: ConvolutionKernel, seed: int = 0) -> None:
    """Run it between guards, on an image with NaN in its gaps; compare with float64."""
    rng = np.random.default_rng(seed)
    image_buffer, weight_buffer, out_buffer = kernel.buffers
    image, weight = (rng.normal(size=b.elements).astype(np.float32) for b in (image_buffer, weight_buffer))
    used = np.zeros(image.size, bool)
    shape = (kernel.batch, kernel.rows.extent, kernel.columns.extent, kernel.groups * kernel.inputs)
    np.lib.stride_tricks.as_strided(used, shape, (*kernel.image_strides, 1))[...] = True
    image[~used] = np.nan
    room = np.full(out_buffer.elements + 34, GUARD)
    inside = room[17:-17]
    call(image.ctypes.data, weight.ctypes.data, inside.ctypes.data)
    expected = evaluate_convolution(kernel, image, weight)
    strides = [4 * step for step in (*kernel.out_strides, 1)]
    found = np.lib.stride_tricks.as_strided(inside, expected.shape, strides)
    assert np.max(np.abs(found - expected)) <= 2e-6 * max(1.0, np.max(np.abs(expected)))
    found[...] = GUARD
    assert np.all(room == GUARD), "memory outside the results was touched"


@pytest.mark.parametrize(
    "kernel",
    [
        convolution(2, 19, 1, 1, axis(7, 3, 2, 1), axis(9, 5, 1, 2)),
        convolution(1, 33, 1, 1, axis(3, 7, 1, 3), axis(2, 7, 1, 3), gap=3),
        convolution(2, 3, 5, 7, axis(9, 3, 2, 1), axis(8, 2, 1, 0), gap=5),
        convolution(1, 2, 40, 70, axis(5, 3, 1, 1), axis(13, 3, 1, 1), last=True),
        convolution(1, 1, 300, 18, axis(4, 3, 1, 2, 2), axis(4, 3, 1, 2, 2)),
        convolution(1, 1, 1, 1, axis(1, 5, 1, 2), axis(1, 5, 1, 2)),
        convolution(1, 1, 3, 20, axis(2, 2, 3, 5), axis(2, 2, 3, 5)),
    ],
)
def test_a_convolution_is_its_sum_of_products_and_touches_nothing_else(kernel: ConvolutionKernel, tmp_path) -> None:
    verify_convolution(kernel)
    compiled = compile_kernel(kernel, tmp_path)
    run(compiled.entry, kernel)
    again = compile_kernel(kernel, tmp_path)
    assert again.from_cache and again.source == compiled.source


@pytest.mark.parametrize("kernel", [convolution(2, 48, 1, 1, axis(40, 5, 1, 2), axis(41, 5, 1, 2)),
                                    convolution(1, 3, 16, 16, axis(16, 3, 1, 1), axis(16, 3, 1, 1))])  # fmt: skip
def test_threads_give_the_same_results(kernel: ConvolutionKernel, tmp_path) -> None:
    assert torch.get_num_threads() >= 1  # torch brings the pool
    assert kernel.flops >= PARALLEL_FLOPS
    compiled = compile_kernel(kernel, tmp_path)
    assert compiled.parallel, compiled.serial_reason
    for threads in (2, 3):
        run(lambda *addresses, threads=threads: compiled(*addresses, threads=threads), kernel)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 3), st.integers(0, 6), st.integers(1, 3))
def test_taps_are_those_that_meet_the_image(extent, window, step, padding, dilation) -> None:
    if extent + 2 * padding < dilation * (window - 1) + 1:
        return
    found = axis(extent, window, step, padding, dilation)
    for place in range(found.results):
        first, end = found.taps(place)
        meets = [k for k in range(window) if 0 <= place * step - padding + k * dilation < extent]
        assert list(range(first, end)) == meets


@pytest.mark.parametrize("target", [AVX2, NEON, PORTABLE])
@pytest.mark.parametrize("kernel", [convolution(1, 9, 1, 1, axis(5, 3, 1, 1), axis(7, 3, 1, 1)),
                                    convolution(1, 2, 9, 11, axis(5, 3, 1, 1), axis(7, 3, 1, 1))])  # fmt: skip
def test_kernels_for_other_processors_compute_the_same(kernel: ConvolutionKernel, target, tmp_path) -> None:
    text = print_convolution(kernel, "kernel", target=target).text
    path = tmp_path / f"convolution_{target.name}_{kernel.inputs}.py"
    path.write_text(text.replace("cache=True, ", ""))
    space: dict[str, object] = {}
    exec(compile(path.read_text(), str(path), "exec"), space)
    run(space["kernel"], kernel)


def test_kernels_that_break_a_rule_are_refused() -> None:
    fine = convolution(1, 2, 3, 4, axis(5, 3), axis(5, 3))
    verify_convolution(fine)
    from dataclasses import replace

    for broken in (
        replace(fine, groups=0),
        replace(fine, rows=replace(fine.rows, step=0)),
        replace(fine, out_strides=(72, 24, 7)),
        replace(fine, image_strides=(-1, 30, 6)),
    ):
        with pytest.raises(IrError):
            verify_convolution(broken)
