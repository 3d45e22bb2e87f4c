"""The simulator itself: small kernels with shared memory, warps and grid barriers, right and wrong ones."""

from __future__ import annotations

import textwrap

import numpy as np
import pytest

from kernels.cuda.kernel import KernelSource
from tests.cuda.jobs import SimulateJob
from tests.cuda.toolchain_process import JobError, ToolchainProcess

pytestmark = pytest.mark.cuda_toolchain
ORDER_NAMES = ("ascending", "descending")
ORDERS = pytest.mark.parametrize("order", ORDER_NAMES)

REVERSE = """
    def kernel(a0, a1):
        tile = cuda.shared.array(8, float32)
        lane = cuda.threadIdx.x
        tile[lane] = load_float32(a0, cuda.grid(1))
        cuda.syncthreads()
        store_float32(a1, cuda.grid(1), tile[7 - lane])
"""
RUNNING_MAXIMUM = """
    def kernel(a0, a1):
        tile = cuda.shared.array(8, float32)
        lane = cuda.threadIdx.x
        tile[lane] = load_float32(a0, lane)
        cuda.syncthreads()
        for step in (1, 2, 4):
            other = tile[(lane + step) % 8]
            cuda.syncthreads()
            tile[lane] = max(tile[lane], other)
            cuda.syncthreads()
        store_float32(a1, lane, tile[lane])
"""
GRID_SUM = """
    def kernel(a0, a1):
        block = cuda.blockIdx.x
        if cuda.threadIdx.x == 0:
            store_float32(a1, block, load_float32(a0, block))
        cuda.cg.this_grid().sync()
        total = float32(0)
        for other in range(cuda.gridDim.x):
            total += load_float32(a1, other)
        cuda.cg.this_grid().sync()
        if cuda.threadIdx.x == 0:
            store_float32(a1, block, total)
"""


def launch(
    process: ToolchainProcess, text: str, arrays: tuple[np.ndarray, ...], blocks: int, threads: int, order: str
) -> np.ndarray:
    """Return the last array after the launch."""
    source = KernelSource("kernel", textwrap.dedent(text), "", (4,) * len(arrays), threads)
    return process.run(SimulateJob(source, arrays, blocks, threads, order))[-1]


def random(size: int) -> np.ndarray:
    return np.random.default_rng().standard_normal(size).astype(np.float32)


def unset(size: int) -> np.ndarray:
    return np.full(size, np.nan, np.float32)


@ORDERS
def test_a_barrier_shows_each_thread_what_the_others_wrote(simulating: ToolchainProcess, order: str) -> None:
    x = random(24)
    got = launch(simulating, REVERSE, (x, unset(24)), 3, 8, order)
    assert np.array_equal(got, x.reshape(3, 8)[:, ::-1].ravel())


@ORDERS
def test_a_missing_barrier_always_shows_as_nan(simulating: ToolchainProcess, order: str) -> None:
    text = REVERSE.replace("cuda.syncthreads()", "pass")
    got = launch(simulating, text, (random(24), unset(24)), 3, 8, order)
    # Half of the threads read what is not there yet; shared memory is poisoned anew for each block.
    assert np.isnan(got).sum() == 12


def test_a_missing_second_barrier_shows_in_one_of_the_orders(simulating: ToolchainProcess) -> None:
    x = np.arange(8, dtype=np.float32)[::-1].copy()
    lines = RUNNING_MAXIMUM.splitlines(keepends=True)
    last = max(k for k, line in enumerate(lines) if "syncthreads" in line)
    faulty = "".join(lines[:last] + lines[last + 1 :])
    right = [launch(simulating, RUNNING_MAXIMUM, (x, unset(8)), 1, 8, o) for o in ("ascending", "descending")]
    wrong = [launch(simulating, faulty, (x, unset(8)), 1, 8, o) for o in ("ascending", "descending")]
    assert all((got == 7).all() for got in right)
    assert wrong[0].tobytes() != wrong[1].tobytes()


def test_a_barrier_that_some_threads_skip_is_reported_at_once(simulating: ToolchainProcess) -> None:
    text = REVERSE.replace("cuda.syncthreads()", "if lane < 5:\n            cuda.syncthreads()")
    with pytest.raises(JobError, match="5 of 8 threads wait at the block barrier"):
        launch(simulating, text, (random(8), unset(8)), 1, 8, "ascending")


@ORDERS
def test_a_grid_barrier_joins_several_blocks(simulating: ToolchainProcess, order: str) -> None:
    x = np.arange(1, 6, dtype=np.float32)
    got = launch(simulating, GRID_SUM, (x, unset(5)), 5, 3, order)
    assert got.tolist() == [15.0] * 5


@ORDERS
def test_a_missing_grid_barrier_shows(simulating: ToolchainProcess, order: str) -> None:
    text = GRID_SUM.replace("cuda.cg.this_grid().sync()", "pass", 1)
    got = launch(simulating, text, (np.ones(5, np.float32), unset(5)), 5, 3, order)
    assert np.isnan(got).any()


@ORDERS
def test_shuffles_and_votes_work_on_whole_warps(simulating: ToolchainProcess, order: str) -> None:
    text = """
    def kernel(a0, a1):
        lane, full = cuda.laneid, 0xFFFFFFFF
        position = cuda.grid(1)
        value = load_float32(a0, position)
        total = value
        for bits in (16, 8, 4, 2, 1):
            total += cuda.shfl_xor_sync(full, total, bits)
        below = cuda.shfl_up_sync(full, value, 1)
        above = cuda.shfl_down_sync(full, value, 2)
        first = cuda.shfl_sync(full, value, 3)
        cuda.syncwarp()
        store_float32(a1, 8 * position, total)
        store_float32(a1, 8 * position + 1, below)
        store_float32(a1, 8 * position + 2, above)
        store_float32(a1, 8 * position + 3, first)
        store_float32(a1, 8 * position + 4, float32(cuda.ballot_sync(full, lane < 5)))
        store_float32(a1, 8 * position + 5, float32(cuda.any_sync(full, lane == 31)))
        store_float32(a1, 8 * position + 6, float32(cuda.all_sync(full, lane < 31)))
        store_float32(a1, 8 * position + 7, float32(cuda.syncthreads_count(lane == 0)))
    """
    x = np.random.default_rng().integers(-99, 99, 64).astype(np.float32)
    got = launch(simulating, text, (x, unset(512)), 1, 64, order).reshape(2, 32, 8)
    lanes, warps = np.arange(32), x.reshape(2, 32)
    for warp in range(2):
        assert (got[warp, :, 0] == warps[warp].sum()).all()
        assert np.array_equal(got[warp, :, 1], warps[warp][np.maximum(lanes - 1, 0)])
        assert np.array_equal(got[warp, :, 2], warps[warp][np.where(lanes < 30, lanes + 2, lanes)])
        assert (got[warp, :, 3] == warps[warp][3]).all()
        assert (got[warp, :, 4:] == [31, 1, 0, 2]).all()


def test_a_mask_that_leaves_out_lanes_is_refused(simulating: ToolchainProcess) -> None:
    text = "def kernel(a0):\n    store_float32(a0, cuda.laneid, cuda.shfl_sync(0xFF, float32(1), 0))\n"
    with pytest.raises(JobError, match="leaves out lanes"):
        launch(simulating, text, (unset(32),), 1, 32, "ascending")


def test_an_exception_names_its_block_and_thread(simulating: ToolchainProcess) -> None:
    text = REVERSE.replace("tile[7 - lane]", "tile[8 - lane]")
    with pytest.raises(JobError, match=r"block \(0, 0, 0\) thread \(0, 0, 0\): IndexError"):
        launch(simulating, text, (random(16), unset(16)), 2, 8, "ascending")


def test_a_float64_value_does_not_fit_a_float32_buffer(simulating: ToolchainProcess) -> None:
    text = "def kernel(a0):\n    store_float32(a0, 0, float64(1))\n"
    with pytest.raises(JobError, match="float64 value stored to a0"):
        launch(simulating, text, (unset(1),), 1, 1, "ascending")


def test_local_memory_starts_out_as_nan(simulating: ToolchainProcess) -> None:
    text = """
    def kernel(a0):
        mine = cuda.local.array(2, float32)
        mine[0] = float32(3)
        store_float32(a0, 0, mine[0])
        store_float32(a0, 1, mine[1])
    """
    got = launch(simulating, text, (np.zeros(2, np.float32),), 1, 1, "ascending")
    assert got[0] == 3 and np.isnan(got[1])


@ORDERS
def test_warp_sums_and_maxima_reach_every_lane(simulating: ToolchainProcess, order: str) -> None:
    text = """
    def kernel(a0, a1):
        value = load_float32(a0, cuda.grid(1))
        store_float32(a1, 2 * cuda.grid(1), warp_sum(value))
        store_float32(a1, 2 * cuda.grid(1) + 1, warp_max(value))
    """
    x = np.random.default_rng().integers(-99, 99, 96).astype(np.float32)
    x[70] = np.nan
    got = launch(simulating, text, (x, unset(192)), 3, 32, order).reshape(3, 32, 2)
    rows = x.reshape(3, 32)
    assert (got[:2, :, 0] == rows[:2].sum(axis=1)[:, None]).all()
    assert (got[:2, :, 1] == rows[:2].max(axis=1)[:, None]).all()
    assert np.isnan(got[2]).all()


COUNTED_GRID_SUM = """
    def kernel(a0, a1, a2, rounds):
        block = cuda.blockIdx.x
        phase = grid_phase(a2)
        value = load_float32(a0, block)
        for step in range(rounds):
            turn = (step & 1) * cuda.gridDim.x
            if cuda.threadIdx.x == 0:
                store_coherent_float32(a1, turn + block, value)
            phase = grid_barrier(a2, phase)
            value = float32(0)
            for other in range(cuda.gridDim.x):
                value += coherent_float32(a1, turn + other)
        if cuda.threadIdx.x == 0:
            store_float32(a0, block, value)
"""


def run_rounds(
    process: ToolchainProcess, text: str, rounds: int, counter: np.ndarray, order: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the values and the counter after a launch of five blocks, each beginning with 1."""
    source = KernelSource("kernel", textwrap.dedent(text), "", (4, 4, 4), 5, scalars=1, cooperative=True)
    arrays = (np.ones(5, np.float32), unset(10), counter)
    after = process.run(SimulateJob(source, arrays, 5, 3, order, scalars=(rounds,)))
    return after[0], after[2]


@ORDERS
@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_grid_barriers_need_no_reset_between_launches(simulating: ToolchainProcess, order: str, rounds: int) -> None:
    counter = np.zeros(1, np.uint32)
    for turn in (1, 2, 3):
        got, counter = run_rounds(simulating, COUNTED_GRID_SUM, rounds, counter, order)
        assert (got == 5**rounds).all()
        assert counter.tolist() == [0x80000000 * (turn * rounds % 2)]


@ORDERS
def test_a_missing_counted_grid_barrier_shows(simulating: ToolchainProcess, order: str) -> None:
    text = COUNTED_GRID_SUM.replace("phase = grid_barrier(a2, phase)", "pass")
    got, _ = run_rounds(simulating, text, 1, np.zeros(1, np.uint32), order)
    assert np.isnan(got).any()


@pytest.mark.parametrize("counter", [np.full(1, 7, np.uint32), np.zeros(1, np.int32)])
def test_a_grid_barrier_refuses_a_counter_that_is_not_its_own(
    simulating: ToolchainProcess, counter: np.ndarray
) -> None:
    with pytest.raises(JobError, match="the grid barrier"):
        run_rounds(simulating, COUNTED_GRID_SUM, 1, counter, "ascending")


def test_a_barrier_that_forgets_its_phase_is_reported(simulating: ToolchainProcess) -> None:
    text = COUNTED_GRID_SUM.replace("phase = grid_barrier", "ignored = grid_barrier")
    with pytest.raises(JobError, match="was given phase 0 where its counter says 2147483648"):
        run_rounds(simulating, text, 2, np.zeros(1, np.uint32), "ascending")


def test_a_block_that_overwrites_what_a_slower_one_still_reads_shows(simulating: ToolchainProcess) -> None:
    # One half for all rounds: right where all blocks go in step, wrong where one runs ahead.
    faulty = COUNTED_GRID_SUM.replace("(step & 1) * cuda.gridDim.x", "0")
    results = [run_rounds(simulating, faulty, 2, np.zeros(1, np.uint32), order)[0] for order in ORDER_NAMES]
    assert any((result != 25).any() for result in results)


def test_a_warp_that_overwrites_what_a_slower_one_still_reads_shows(simulating: ToolchainProcess) -> None:
    text = """
    def kernel(a0, a1):
        tile = cuda.shared.array(2, float32)
        warp = cuda.threadIdx.x // 32
        for step in range(3):
            if cuda.laneid == 0:
                tile[warp] = load_float32(a0, 2 * step + warp)
            cuda.syncthreads()
            store_float32(a1, 64 * step + cuda.threadIdx.x, tile[1 - warp])
    """
    x = random(6)
    for text_, wrong in ((text, True), (text.rstrip() + "\n            cuda.syncthreads()\n", False)):
        results = [launch(simulating, text_, (x, unset(192)), 1, 64, order) for order in ORDER_NAMES]
        expected = np.repeat(x.reshape(3, 2)[:, ::-1], 32)
        assert wrong == any(not np.array_equal(result, expected) for result in results)
