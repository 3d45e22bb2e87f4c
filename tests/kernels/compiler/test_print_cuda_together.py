"""Independent kernels as one: what fits a launch, names that don't meet, the blocks of each part."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.compiler.ir import IrError
from kernels.compiler.passes import simplify
from kernels.compiler.print_cuda import print_cuda
from kernels.compiler.print_cuda_plan import RowPlan
from kernels.compiler.print_cuda_rows import print_plan
from kernels.compiler.print_cuda_together import block_threads, print_together
from kernels.cuda.kernel import KernelSource
from kernels.cuda.launch import ArgumentError
from kernels.region_group_launch import GroupLauncher, block_ends
from tests.cuda.pointwise_cases import gelu, long_chain
from tests.cuda.row_reduction_cases import softmax
from tests.kernels.device_stand_in import Recorder

POINTS = print_cuda(long_chain(64))["wide"]


def rows(team: int, across: int = 0) -> KernelSource:
    return print_plan(simplify(softmax(64, 3)), RowPlan(team, 1, True, across))


def test_blocks_are_as_large_as_the_parts_need_them() -> None:
    assert block_threads([POINTS, POINTS]) == 128
    assert block_threads([POINTS, rows(32)]) == 128
    assert block_threads([POINTS, rows(64), rows(16)]) == 64
    assert block_threads([rows(512), rows(512)]) == 512
    assert block_threads([rows(64), rows(128)]) is None
    # A part that was printed for blocks of 128 may need more registers than a thread of 512 has.
    assert block_threads([POINTS, rows(512)]) is None


def test_kernels_that_do_not_fit_one_launch_are_refused_in_words() -> None:
    with pytest.raises(IrError, match="kernels with blocks of 64, 128 threads do not fit one launch"):
        print_together([rows(64), rows(128)])
    with pytest.raises(IrError, match="a kernel with numbers or a grid barrier of its own"):
        print_together([POINTS, replace(POINTS, cooperative=True)])


def test_each_name_of_a_part_has_its_number_and_the_grid_is_asked_for_once() -> None:
    source = print_together([POINTS, print_cuda(gelu(65))["scalar"], rows(64)])
    assert source.scalars == 2 and source.threads == 64 and source.exact_threads
    assert source.text.startswith("def together(a0_p0, a1_p0, a2_p0, a3_p0, a0_p1, a1_p1, a0_p2, a1_p2, end0, end1):")
    assert source.text.count("cuda.blockIdx.x") == 1 and "cuda.grid" not in source.text.replace("cuda.gridDim", "")
    assert source.alignment == (*POINTS.alignment, 4, 4, 4, 4)


def test_one_kernel_alone_is_all_blocks() -> None:
    assert print_together([POINTS]).scalars == 0


@given(needed=st.lists(st.integers(1, 5000), min_size=1, max_size=8), capacity=st.integers(1, 4000))
def test_every_part_has_a_block_and_all_fit_where_they_can(needed: list[int], capacity: int) -> None:
    ends = block_ends(needed, capacity)
    blocks = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    assert all(1 <= share <= wanted for share, wanted in zip(blocks, needed, strict=True))
    assert ends[-1] < capacity + len(needed)
    if sum(needed) <= capacity:
        assert blocks == needed


def test_a_launch_gives_each_part_its_blocks(recorder: Recorder) -> None:
    launcher = GroupLauncher([POINTS, rows(64)])
    launcher.prepare()
    launcher.launch((256,) * 6, 0)
    # 16 groups of four points are one block, three rows have a block each.
    assert recorder.launches == [(4, 64, 0, (256,) * 6 + (1,))]
    with pytest.raises(ArgumentError, match="no multiple of its element's size"):
        launcher.launch((260,) * 6, 0)
