"""Attention kernels against NumPy in float64, on strided memory whose surroundings must stay as they are."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernels.compiler.attention_ir import MOST_STACK_BYTES, AttentionKernel, Mask, verify_attention
from kernels.compiler.attention_plan import cut
from kernels.compiler.attention_print import print_attention
from kernels.compiler.attention_reference import evaluate_attention
from kernels.compiler.compile import compile_kernel
from kernels.compiler.ir import IrError

GUARD = np.float32(-7.5e6)


def heads_inside(rows: int, heads: int, width: int, gap: int = 0) -> tuple[int, int, int, int]:
    """The strides of [batch, heads, rows, width] that lies as [batch, rows, heads, width]: a projection's."""
    step = heads * width + gap
    return rows * step, width, step, 1


def attention(leading=(2, 3), queries=5, keys=7, depth=6, width=4, gap=0, **fields) -> AttentionKernel:
    heads = leading[1]
    strides = [heads_inside(*sizes, gap) for sizes in ((queries, heads, depth), (keys, heads, depth))]
    strides += [heads_inside(*sizes, gap) for sizes in ((keys, heads, width), (queries, heads, width))]
    return AttentionKernel(leading, queries, keys, depth, width, *strides, depth**-0.5, **fields)


def inputs(kernel: AttentionKernel, rng) -> list[np.ndarray]:
    arrays = []
    for buffer in kernel.buffers:
        room = rng.standard_normal(buffer.elements) * (3 if buffer.name == "queries" else 1)
        arrays.append(room > -0.7 if buffer.dtype == "bool" else room.astype(np.float32))
    arrays[-1][:] = GUARD
    return arrays


def run(kernel, arrays, cache, threads=1) -> np.ndarray:
    compiled = compile_kernel(kernel, cache)
    room = np.full(arrays[-1].size + 32, GUARD)
    out = room[16:-16]
    compiled(*(array.ctypes.data for array in arrays[:-1]), out.ctypes.data, threads=threads)
    assert (room[:16] == GUARD).all() and (room[-16:] == GUARD).all()
    return out


def check(kernel, cache, arrays=None, threads=1, seed=0) -> np.ndarray:
    arrays = inputs(kernel, np.random.default_rng(seed)) if arrays is None else arrays
    want = [*arrays[:-1], np.full(arrays[-1].shape, float(GUARD))]
    evaluate_attention(kernel, want)
    got = run(kernel, arrays, cache, threads)
    np.testing.assert_allclose(got, want[-1], rtol=2e-6, atol=2e-6)
    return got


def mask_strides(kernel: AttentionKernel, kind: str) -> tuple[int, ...]:
    queries, keys, heads = kernel.queries, kernel.keys, kernel.leading[1]
    return {
        "row": (keys, 0, 0, 1),
        "square": (0, 0, keys, 1),
        "turned": (0, 0, 1, queries),
        "all": (heads * queries * keys, queries * keys, keys, 1),
        "sparse": (0, 0, 0, 3),
    }[kind]


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (24, 24, 32, 32), (50, 300, 5, 17)])
def test_results_are_those_of_float64(shape, kernel_cache):
    check(attention((1, 3), *shape), kernel_cache)


@pytest.mark.parametrize(
    ("kind", "layout"),
    [
        *(("add", layout) for layout in ("row", "square", "turned", "all", "sparse")),
        ("keep", "turned"),
        ("drop", "row"),
    ],
)
def test_a_mask_may_have_any_strides(kind, layout, kernel_cache):
    kernel = attention(queries=5, keys=16 if layout == "all" else 7)
    kernel = replace(kernel, mask=Mask(kind, mask_strides(kernel, layout), fill=-np.inf if layout == "row" else -2.5))
    check(kernel, kernel_cache)


def test_no_query_sees_what_comes_behind_it(kernel_cache):
    check(attention(queries=9, keys=9, causal=True), kernel_cache)
    check(attention(queries=9, keys=5, causal=True), kernel_cache)


def test_many_keys_are_looked_at_only_as_far_as_queries_see(kernel_cache):
    kernel = attention((1, 1), queries=300, keys=290, depth=8, width=64, causal=True)
    assert len({block.seen for block in cut(kernel).blocks}) > 2
    kernel = replace(kernel, mask=Mask("add", (0, 0, 290, 1)))
    check(kernel, kernel_cache)


@pytest.mark.parametrize("zero", [True, False])
def test_a_query_that_sees_nothing_gets_zero_or_nan(zero, kernel_cache):
    kernel = attention(queries=5, keys=7, masked_rows_are_zero=zero)
    kernel = replace(kernel, mask=Mask("add", mask_strides(kernel, "square")))
    arrays = inputs(kernel, np.random.default_rng(1))
    arrays[3] = arrays[3].reshape(5, 7)
    arrays[3][2] = -np.inf
    arrays[3][4, :5] = -np.inf
    got = check(kernel, kernel_cache, arrays).reshape(2, 5, 3, 4)
    assert (got[:, 2] == 0).all() if zero else np.isnan(got[:, 2]).all()
    assert np.isfinite(got[:, 4]).all()


def test_nan_and_infinity_spoil_their_own_row_alone(kernel_cache):
    kernel = attention()
    arrays = inputs(kernel, np.random.default_rng(2))
    queries = arrays[0].reshape(2, 5, 3, 6)
    queries[0, 1, 2, 3], queries[1, 4, 0, 0] = np.nan, np.inf
    with np.errstate(all="ignore"):
        got = check(kernel, kernel_cache, arrays).reshape(2, 5, 3, 4)
    assert np.isnan(got[0, 1, 2]).all() and np.isnan(got[1, 4, 0]).all()
    assert np.isnan(got).sum() == 8


@pytest.mark.parametrize("hidden", [-1e9, np.finfo(np.float32).min])
def test_a_row_that_an_added_number_hides_altogether_has_equal_weights(hidden, kernel_cache):
    kernel = attention(queries=5, keys=7)
    kernel = replace(kernel, mask=Mask("add", mask_strides(kernel, "square")))
    arrays = inputs(kernel, np.random.default_rng(8))
    arrays[3].reshape(5, 7)[2] = hidden
    got = check(kernel, kernel_cache, arrays).reshape(2, 5, 3, 4)
    np.testing.assert_allclose(got[:, 2], arrays[2].reshape(2, 7, 3, 4).mean(axis=1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["keep", "drop"])
def test_a_query_of_nan_whose_keys_are_all_replaced_gets_their_mean(kind, kernel_cache):
    kernel = attention(queries=5, keys=7)
    kernel = replace(kernel, mask=Mask(kind, mask_strides(kernel, "square"), fill=-1e9))
    arrays = inputs(kernel, np.random.default_rng(6))
    arrays[0].reshape(2, 5, 3, 6)[:, 2] = np.nan
    arrays[3][:] = kind == "keep"
    arrays[3].reshape(5, 7)[2] = kind == "drop"
    assert np.isfinite(check(kernel, kernel_cache, arrays)).all()


def test_large_scores_do_not_overflow(kernel_cache):
    kernel = attention(queries=3, keys=33)
    arrays = inputs(kernel, np.random.default_rng(3))
    arrays[0] *= 1e4
    check(kernel, kernel_cache, arrays)


def test_values_need_not_be_adjacent(kernel_cache):
    kernel = attention(keys=7, width=4)
    check(replace(kernel, value_strides=(1000, 100, 1, 7)), kernel_cache)


def test_memory_between_the_results_is_left_alone(kernel_cache):
    kernel = attention(gap=5)
    got = run(kernel, inputs(kernel, np.random.default_rng(4)), kernel_cache)
    step = 3 * 4 + 5
    rows = np.lib.stride_tricks.as_strided(got, (2 * 5 - 1, step), (4 * step, 4))
    assert (rows[:, 12:] == GUARD).all() and (rows[:, :12] != GUARD).all()


def test_threads_share_the_work(kernel_cache):
    kernel = attention((3, 2), queries=70, keys=70, depth=32, width=32)
    compiled = compile_kernel(kernel, kernel_cache)
    assert compiled.parallel, compiled.serial_reason
    one = check(kernel, kernel_cache, seed=5)
    for threads in (2, 3):
        np.testing.assert_array_equal(check(kernel, kernel_cache, threads=threads, seed=5), one)


def test_a_second_time_it_comes_from_the_cache(kernel_cache):
    kernel = attention()
    first, second = compile_kernel(kernel, kernel_cache), compile_kernel(kernel, kernel_cache)
    assert second.from_cache and second.path == first.path and second.source == first.source


@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_shape_mask_and_layout_gives_the_results_of_float64(data, kernel_cache):
    sizes = {name: data.draw(st.integers(1, 40), name) for name in ("queries", "keys", "depth", "width")}
    leading = (data.draw(st.integers(1, 2)), data.draw(st.integers(1, 3)))
    zero, causal = data.draw(st.booleans()), data.draw(st.booleans())
    kernel = attention(leading, **sizes, gap=data.draw(st.integers(0, 2)), masked_rows_are_zero=zero, causal=causal)
    kind = data.draw(st.sampled_from(["", "add", "keep", "drop"]))
    if kind:
        layout = data.draw(st.sampled_from(["row", "square", "turned", "all", "sparse"]))
        kernel = replace(kernel, mask=Mask(kind, mask_strides(kernel, layout)))
    check(kernel, kernel_cache, seed=data.draw(st.integers(0, 999)))


@pytest.mark.parametrize(
    "wrong", [{"keys": 0}, {"width": 5, "out_strides": (60, 4, 12, 1)}, {"out_strides": (60, 4, 12)}]
)
def test_a_broken_kernel_is_refused(wrong):
    with pytest.raises(IrError):
        verify_attention(replace(attention(), **wrong))


@pytest.mark.parametrize("number", [np.inf, np.nan, 1e39])
def test_numbers_that_are_none_in_float32_are_refused(number):
    with pytest.raises(IrError, match="no finite float32"):
        verify_attention(replace(attention(), scale=float(number)))
    with pytest.raises(IrError, match="where they are masked"):
        verify_attention(replace(attention(), mask=Mask("keep", (0, 0, 0, 1), fill=float(number))))


def test_results_that_are_apart_are_refused_in_words():
    with pytest.raises(IrError, match="results that are 2 elements apart"):
        verify_attention(replace(attention(), out_strides=(240, 8, 24, 2)))


def test_what_would_not_fit_the_stack_is_refused():
    kernel = attention((1, 1), queries=64, keys=9000, depth=64, width=64)
    assert cut(kernel).stack_bytes > MOST_STACK_BYTES
    with pytest.raises(IrError, match="stack"):
        print_attention(kernel, "kernel")


@given(st.integers(1, 5000), st.integers(1, 3000), st.integers(1, 200))
def test_the_blocks_of_rows_cover_the_queries(queries, keys, depth):
    kernel = attention((1, 1), queries, keys, depth, depth)
    for one in (kernel, replace(kernel, causal=True)):
        following = 0
        for block in cut(one).blocks:
            assert block.first == following and block.seen <= cut(one).row
            following += block.count * block.rows
            assert block.seen >= min(keys, following if one.causal else keys)
        assert following == queries
