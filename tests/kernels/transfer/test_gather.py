"""Gather and scatter: layouts, tables and host copies; the kernel's tiers are in tests/cuda."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.cuda import kernel as cuda_kernel
from kernels.cuda import support as cuda_support
from kernels.cuda.launch import ArgumentError
from kernels.cuda.support import CudaUnavailable
from kernels.transfer import gather
from kernels.transfer.gather import ArenaLauncher, ArenaPlan, copy_table
from kernels.transfer.host_copy import copy_on_host
from kernels.transfer.segment_table import HEADER, ROW, SegmentError, arena_offsets
from tests.cuda.case import assert_guards, guarded
from tests.kernels.device_stand_in import TABLE_ADDRESS, Recorder, device_array

COUNTS = st.lists(st.integers(0, 70) | st.integers(1000, 5000), max_size=12)


@settings(max_examples=40)
@given(COUNTS, st.sampled_from((16, 64, 256)))
def test_copies_in_an_arena_are_aligned_in_order_and_apart(counts: list[int], alignment: int) -> None:
    offsets, total = arena_offsets(counts, alignment)
    ends = [offset + count for offset, count in zip(offsets, counts, strict=True)]
    assert all(offset % alignment == 0 for offset in (*offsets, total))
    assert all(end <= begin for end, begin in zip(ends, (*offsets, total)[1:], strict=True))
    assert total - sum(counts) < alignment * max(len(counts), 1)


@settings(deadline=None, max_examples=40)
@given(COUNTS, st.lists(st.integers(0, 40), min_size=12, max_size=12))
def test_the_units_of_a_table_are_each_destinations_16_byte_cells(counts: list[int], gaps: list[int]) -> None:
    destinations = [sum(counts[:k]) + sum(gaps[: k + 1]) for k in range(len(counts))]
    table = copy_table([0] * len(counts), destinations, counts)
    rows = table[HEADER:].reshape(-1, ROW)
    cells = [len({byte // 16 for byte in range(d, d + c)}) for d, c in zip(destinations, counts, strict=True) if c]
    assert np.diff(rows[:, 0]).tolist() == cells
    assert table[:HEADER].tolist() == [len(cells), sum(cells)]


def placed(memory: np.ndarray, places: list[int], counts: list[int]) -> list[np.ndarray]:
    return [memory[place : place + count] for place, count in zip(places, counts, strict=True)]


@settings(deadline=None, max_examples=40)
@given(COUNTS, st.lists(st.integers(0, 40), min_size=12, max_size=12), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_host_tensors_come_back_from_an_arena_as_they_were(
    counts: list[int], gaps: list[int], parts: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    memory = random.integers(0, 256, sum(counts) + sum(gaps) + 1, dtype=np.uint8)
    places = [sum(counts[:k]) + sum(gaps[: k + 1]) for k in range(len(counts))]
    plan = ArenaPlan.of([memory.ctypes.data + place for place in places], counts)
    arena = np.full(plan.arena_bytes + 32, 0xDE, np.uint8)
    start = -arena.ctypes.data % 16
    for part in range(parts):
        plan.gather_on_host(arena.ctypes.data + start, part, parts)
    copies = placed(arena[start:], list(plan.offsets), counts)
    assert all(np.array_equal(*pair) for pair in zip(copies, placed(memory, places, counts), strict=True))
    before = memory.copy()
    for tensor in placed(memory, places, counts):
        tensor[:] = 0
    for part in range(parts):
        plan.scatter_on_host(arena.ctypes.data + start, part, parts)
    assert np.array_equal(memory, before)
    for copy in copies:
        copy[:] = 0xDE
    assert (arena == 0xDE).all(), "bytes between the copies were written"


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(st.integers(0, 90), st.integers(0, 900), st.integers(0, 20)), max_size=12),
    st.sampled_from((1, 2, 4, 16)),
    st.integers(0, 2**32 - 1),
)
def test_the_kernels_text_copies_any_segments_as_the_reference(
    segments: list[tuple[int, int, int]], step: int, seed: int
) -> None:
    counts = [count // step * step if step < 16 else count for count, _, _ in segments]
    sources = [source // step * step for _, source, _ in segments]
    destinations, end = [], 0
    for count, (_, _, gap) in zip(counts, segments, strict=True):
        end += gap * step + -(end + gap * step) % step
        destinations.append(end)
        end += count
    memory, target = guarded("uint8", 1000), guarded("uint8", end)
    memory[:] = np.random.default_rng(seed).integers(0, 256, memory.size)
    table = copy_table(sources, destinations, counts)
    wanted = gather.reference(table, memory, target)
    cuda_kernel.run_twin(gather.COPY, (table, memory, target))
    assert np.array_equal(target, wanted)
    assert_guards("target", target)


def test_parts_copied_by_threads_are_equal_whatever_the_sizes() -> None:
    counts = [1] * 300 + [100_000]
    memory = np.random.default_rng().integers(0, 256, sum(counts), dtype=np.uint8)
    starts = np.cumsum([0, *counts[:-1]])
    plan = ArenaPlan.of([memory.ctypes.data + int(start) for start in starts], counts)
    arenas = [np.zeros(plan.arena_bytes + 16, np.uint8) for _ in range(4)]
    bases = [arena.ctypes.data + -arena.ctypes.data % 16 for arena in arenas]
    threads = [threading.Thread(target=plan.gather_on_host, args=(bases[k], k, 4)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = np.zeros(plan.arena_bytes + 16, np.uint8)
    base = whole.ctypes.data + -whole.ctypes.data % 16
    plan.gather_on_host(base)
    views = [arena[base - arena.ctypes.data :][: plan.arena_bytes] for arena, base in zip(arenas, bases, strict=True)]
    total = np.bitwise_or.reduce(views)
    assert np.array_equal(total, whole[base - whole.ctypes.data :][: plan.arena_bytes])
    # The first 301 of 6551 units are one byte each: no part has all of the large tensor, none is without work.
    cells = [np.count_nonzero(view.reshape(-1, 16).any(axis=1)) for view in views]
    assert max(cells) - min(cells) < 40


def test_a_part_that_does_not_exist_is_refused() -> None:
    for part, parts in ((1, 1), (-1, 2), (0, 0)):
        with pytest.raises(SegmentError, match=f"part {part} of {parts} does not exist"):
            copy_on_host(copy_table([0], [0], [0]), 0, 0, part, parts)


@pytest.mark.parametrize(
    ("sources", "destinations", "counts", "message"),
    [
        ([0], [0, 16], [1, 1], "1 sources, 2 destinations and 2 sizes"),
        ([0, 0], [0, 16], [1, -1], "the size of segment 1 is -1"),
        ([0, -4], [0, 16], [1, 1], "the source of segment 1 is -4"),
        ([0, 2**63], [0, 16], [1, 1], "the source of segment 1 is"),
        ([0, 0, 0], [32, 0, 31], [8, 0, 2], "segments 0 and 2 overlap"),
        ([0, 0], [5, 5], [3, 3], "segments 0 and 1 overlap"),
    ],
)
def test_segments_that_cannot_be_moved_are_refused_in_one_line(
    sources: list[int], destinations: list[int], counts: list[int], message: str
) -> None:
    with pytest.raises(SegmentError, match=message) as refusal:
        copy_table(sources, destinations, counts)
    assert "\n" not in str(refusal.value)


def test_a_large_destination_that_covers_several_is_refused() -> None:
    with pytest.raises(SegmentError, match="overlap"):
        copy_table([0, 0, 0], [0, 10, 50], [100, 5, 5])


@pytest.mark.parametrize("alignment", [0, 8, 24, -16])
def test_an_arena_is_never_aligned_to_less_than_a_wide_access(alignment: int) -> None:
    with pytest.raises(SegmentError, match=f"not {alignment}"):
        arena_offsets([1], alignment)


def test_one_launch_serves_any_number_of_tensors_and_the_arena_may_change(recorder: Recorder) -> None:
    plan = ArenaPlan.of([10_000 * k + k for k in range(1, 900)], [40] * 899)
    launcher = ArenaLauncher(plan)
    launcher.prepare()
    assert len(recorder.uploads) == 2
    launcher.gather(device_array(plan.arena_bytes, address=512), 7)
    launcher.gather(1024, 0)
    launcher.scatter(device_array(plan.arena_bytes // 4, "<f4", 512, read_only=True), 7)
    tables = TABLE_ADDRESS, 2 * TABLE_ADDRESS
    assert recorder.launches == [
        (3, 256, "stream 7", (tables[0], 0, 512)),
        (3, 256, 0, (tables[0], 0, 1024)),
        (4, 256, "stream 7", (tables[1], 512, 0)),
    ]
    assert len(recorder.uploads) == 2, "a launch must not upload"


def test_a_large_copy_has_as_many_blocks_as_the_device_holds(recorder: Recorder) -> None:
    ArenaLauncher(ArenaPlan.of([4096], [1 << 30])).gather(512, 0)
    assert recorder.launches[0][0] == 2 * 8


def test_nothing_to_copy_launches_nothing(recorder: Recorder) -> None:
    launcher = ArenaLauncher(ArenaPlan.of([4096, 77], [0, 0]))
    launcher.gather(512, 0)
    launcher.scatter(512, 0)
    assert not recorder.launches


@pytest.mark.parametrize(
    ("arena", "message"),
    [
        (device_array(31), "buffer arena needs 32 elements, not 31"),
        (device_array(32, read_only=True), "buffer arena is written, but its array is read-only"),
        (device_array(32, address=264), "no multiple"),
        (520, "no multiple"),
        (np.zeros(32, np.uint8), "not ndarray"),
    ],
)
def test_an_arena_that_does_not_fit_is_refused(recorder: Recorder, arena: object, message: str) -> None:
    launcher = ArenaLauncher(ArenaPlan.of([4096, 8192], [16, 9]))
    with pytest.raises(ArgumentError, match=message) as refusal:
        launcher.gather(arena, 0)
    assert not recorder.launches and "\n" not in str(refusal.value)


@pytest.mark.skipif(cuda_support.describe().ready, reason="this machine has a GPU")
def test_without_a_device_the_launcher_says_what_is_missing() -> None:
    with pytest.raises(CudaUnavailable):
        ArenaLauncher(ArenaPlan.of([4096], [16])).prepare()


def test_the_reference_leaves_its_arguments_as_they_are() -> None:
    table = copy_table([1], [2], [3])
    sources, destinations = np.arange(9, dtype=np.uint8), np.zeros(9, np.uint8)
    assert gather.reference(table, sources, destinations).tolist() == [0, 0, 1, 2, 3, 0, 0, 0, 0]
    assert not destinations.any()
