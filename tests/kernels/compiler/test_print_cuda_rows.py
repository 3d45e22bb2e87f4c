"""How rows are spread over CUDA threads, and what the printed text holds to."""

from __future__ import annotations

import re

import pytest

from kernels.compiler.ir import IrError, Region
from kernels.compiler.passes import simplify
from kernels.compiler.print_cuda import print_cuda
from kernels.compiler.print_cuda_online import online_pairs
from kernels.compiler.print_cuda_plan import LARGEST_TEAM, RowPlan, row_plans
from kernels.compiler.print_cuda_rows import print_plan
from kernels.compiler.print_cuda_schedule import schedule
from tests.cuda.row_reduction_cases import (
    counts,
    layer_norm,
    log_softmax,
    middle_mean,
    residual_layer_norm,
    rms_norm,
    row_maximum,
    softmax,
)
from tests.kernels.compiler.regions import Builder

MANY = 10_000


def plans(region: Region) -> dict[str, RowPlan]:
    return row_plans(simplify(region))


@pytest.mark.parametrize(("length", "team"), [(1, 1), (2, 2), (5, 8), (31, 32), (33, 32), (1001, 32)])
def test_short_rows_share_a_warp(length: int, team: int) -> None:
    assert plans(row_maximum(length, MANY))["scalar"] == RowPlan(team, 1, True)


def test_longer_rows_take_a_block_and_the_longest_are_read_again() -> None:
    assert plans(softmax(1024, MANY))["wide"] == RowPlan(32, 4, True)
    assert plans(softmax(4096, MANY))["wide"] == RowPlan(128, 4, True)
    assert plans(softmax(12288, MANY))["wide"] == RowPlan(LARGEST_TEAM, 4, True)
    assert plans(softmax(50256, MANY))["wide"] == RowPlan(LARGEST_TEAM, 4, False)


def test_few_rows_are_shared_by_more_threads() -> None:
    assert plans(softmax(1024, 16))["wide"] == RowPlan(128, 4, True)


@pytest.mark.parametrize("length", [1, 2, 3, 33, 767, 1000, 4095, 12288, 16384, 50257, 1_000_003])
@pytest.mark.parametrize("rows", [1, 7, MANY])
def test_no_thread_keeps_more_than_its_registers_hold(length: int, rows: int) -> None:
    for build in (softmax, residual_layer_norm):
        for plan in plans(build(length, rows)).values():
            if plan.resident:
                elements = -(-length // (plan.team * plan.lanes)) * plan.lanes
                assert elements <= 32 and plan.team <= LARGEST_TEAM


def test_wide_accesses_need_rows_that_start_on_the_16_byte_grid() -> None:
    assert set(plans(softmax(1000, 8))) == {"scalar", "wide"}
    assert set(plans(softmax(1001, 8))) == {"scalar"}
    # one row begins where the buffer does; its last element is taken alone
    assert set(plans(softmax(1001, 1))) == {"scalar", "wide"}
    assert set(plans(rms_norm(1000, 8))) == {"scalar", "wide"}


def test_memory_that_runs_across_the_rows_is_read_by_neighbouring_threads() -> None:
    plan = plans(middle_mean(512, 64))["scalar"]
    assert (plan.across, plan.block) == (8, 512)
    assert plans(middle_mean(512, 1000))["scalar"].across == 32
    assert not plans(middle_mean(512, 64)).get("wide")


def test_a_row_is_read_once_and_written_once() -> None:
    region = layer_norm(768, MANY)
    text = print_cuda(region)["wide"].text
    assert len(re.findall(r"read_float32x4\(a0", text)) == 768 // 128
    assert len(re.findall(r"store_float32x4\(a3", text)) == 768 // 128
    assert "cuda.local" not in text and "[" not in text


def test_a_row_too_long_to_keep_is_read_twice() -> None:
    for build in (softmax, layer_norm, log_softmax):
        text = print_cuda(build(50256, 8))["wide"].text
        assert len(re.findall(r"(read|load)_float32x4\(a0", text)) == 2


def test_a_sum_of_squares_around_something_else_than_the_mean_takes_a_walk_of_its_own() -> None:
    for share, walks in ((1 / 50256, 1), (1 / 50255, 2)):
        b = Builder(3, 50256, reduced=1)
        x = b.load(b.buffer(3 * 50256), 50256, 1)
        centred = b.value("sub", x, b.value("mul", b.value("reduce_sum", x), b.constant(share)))
        b.output(b.value("reduce_sum", b.value("mul", centred, centred)), 1, 0, elements=3)
        assert len(schedule(b.region(), False, online_pairs(b.region(), lanes=4)).walks) == walks
        assert not online_pairs(b.region(), lanes=1)


def test_every_float_literal_is_typed() -> None:
    for region in (layer_norm(33, 5), log_softmax(50257, 5), counts(9, 3)):
        for source in print_cuda(region).values():
            assert not re.search(r"(?<!float32\()(?<![\w.])-?\d+\.\d", source.text), source.text


def test_memory_that_is_updated_in_place_is_not_read_as_unchanging() -> None:
    text = print_cuda(residual_layer_norm(40, 3))["wide"].text
    assert "load_float32x4(a0" in text and "read_float32x4(a0" not in text and "read_float32x4(a1" in text


def test_an_update_in_place_comes_last_where_rows_are_read_again() -> None:
    region = simplify(residual_layer_norm(40, 3))
    assert [walk.stores for walk in schedule(region, resident=True).walks] == [(0,), (), (1,)]
    assert [walk.stores for walk in schedule(region, resident=False).walks] == [(), (), (0, 1)]


def test_shared_memory_is_not_reused_before_all_have_read_it() -> None:
    # with one reduction a row, nothing else keeps the next row's results from overwriting this one's
    for region, barriers in ((row_maximum(5000, 9), 2), (softmax(5000, 9), 2), (layer_norm(5000, 9), 2)):
        text = print_cuda(region)["wide"].text
        assert text.count("cuda.syncthreads()") == barriers
    assert print_cuda(row_maximum(5000, 9))["wide"].text.rstrip().splitlines()[-2].strip() == "cuda.syncthreads()"


def test_a_row_value_is_updated_in_place_after_all_members_read_it() -> None:
    b = Builder(3, 40, reduced=1)
    memory = b.buffer(3, written=True)
    old = b.load(memory, 1, 0)
    total = b.value("add", old, b.value("reduce_sum", b.load(b.buffer(120), 40, 1)))
    b.store(total, b.buffer(3, written=True, same_as=memory), 1, 0)
    lines = [line.strip() for line in print_cuda(b.region())["wide"].text.splitlines()]
    assert lines.index("cuda.syncwarp()") < lines.index("if member == 0:")
    block = print_plan(simplify(b.region()), RowPlan(64, 1, True)).text
    assert block.count("cuda.syncthreads()") == 3


def test_an_op_without_text_is_refused() -> None:
    b = Builder(3, 5, reduced=1)
    x = b.load(b.buffer(15, "int32"), 5, 1)
    b.output(b.value("reduce_sum", b.value("div", x, x)), 1, 0, elements=3)
    with pytest.raises(IrError, match="div"):
        print_cuda(b.region())


def test_an_unrolled_kernel_stays_short_enough_to_compile() -> None:
    b = Builder(MANY, 1024, reduced=1)
    x = b.load(b.buffer(MANY * 1024), 1024, 1)
    for k in range(60):
        x = b.value("add", b.value("mul", x, b.constant(0.5 + k)), x)
    b.output(b.value("sub", x, b.value("reduce_max", x)), 1024, 1, elements=MANY * 1024)
    for source in print_cuda(b.region()).values():
        assert source.text.count("\n") < 2000
