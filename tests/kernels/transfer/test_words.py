"""Words that threads wait for, loops over a C library, and sums that go to several places."""

from __future__ import annotations

import ctypes
import threading

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.transfer import mean, progress, words


def test_who_waits_sees_the_word_and_all_that_was_stored_before_it():
    memory, seen = np.zeros(1001, np.int64), []

    def wait() -> None:
        goal = 0
        while goal < 50:
            goal += 1
            while words.wait_briefly(memory.ctypes.data, goal) < goal:
                pass
            seen.append(int(memory[1:].min()) >= goal)

    reader = threading.Thread(target=wait)
    reader.start()
    for number in range(1, 51):
        memory[1:] = number
        words.set_word(memory.ctypes.data, number)
    reader.join()
    assert seen == [True] * 50


def test_a_word_that_is_not_set_is_returned_as_it_is():
    memory = np.full(1, 7, np.int64)
    assert words.wait_briefly(memory.ctypes.data, 8) == 7
    assert words.read_word(memory.ctypes.data) == 7
    assert words.wait_briefly(memory.ctypes.data, 7) == 7


_ADVANCE = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_void_p)
_CHECK = ctypes.CFUNCTYPE(ctypes.c_int8, ctypes.c_void_p)


def _address(function) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value


def test_progress_ends_with_the_word_or_after_so_many_idle_calls():
    memory, calls = np.zeros(1, np.int64), []

    def advance(worker):
        calls.append(worker)
        memory[0] += len(calls) % 2
        return len(calls) % 2

    entry = _ADVANCE(advance)
    assert progress.progress_until(_address(entry), 5, memory.ctypes.data, 3, 100) == 3
    assert calls == [5] * 5
    assert progress.progress_until(_address(entry), 5, memory.ctypes.data, 3, 100) == 3 and len(calls) == 5
    idle = _ADVANCE(lambda worker: 0)
    assert progress.progress_until(_address(idle), 5, memory.ctypes.data, 4, 9) == 3
    assert progress.progress_all(_address(idle), 5, 9) == 0


def test_a_request_is_driven_until_its_status_is_final_negative_ones_too():
    left = [3]

    def advance(worker):
        left[0] -= 1
        return 1

    entry, check = _ADVANCE(advance), _CHECK(lambda request: 1 if left[0] > 0 else -25)
    assert progress.progress_request(_address(entry), 1, _address(check), 2, 10) == -25
    assert left == [0]


@settings(deadline=None, max_examples=30)
@given(
    st.sampled_from(["float32", "float64"]),
    st.integers(1, 5),
    st.sampled_from([0, 1, 7, mean.BLOCK - 1, mean.BLOCK, mean.BLOCK + 1, 3 * mean.BLOCK + 5]),
    st.integers(0, 3),
)
def test_the_scaled_sum_is_that_of_numpy_at_every_destination_and_nowhere_else(dtype, sources, count, offset):
    random = np.random.default_rng()
    arrays = [random.standard_normal(count + 8).astype(dtype) for _ in range(sources)]
    before = [array.copy() for array in arrays]
    expected = mean.reference([array[offset : offset + count] for array in before], 1 / sources)
    extra = np.zeros(count, dtype)
    places = [array.ctypes.data + offset * array.itemsize for array in arrays]
    mean.scaled_sum(dtype, places, [*places, extra.ctypes.data], count, 1 / sources)
    assert np.array_equal(extra, expected)
    for array, old in zip(arrays, before, strict=True):
        assert np.array_equal(array[offset : offset + count], expected)
        assert np.array_equal(array[:offset], old[:offset])
        assert np.array_equal(array[offset + count :], old[offset + count :])
