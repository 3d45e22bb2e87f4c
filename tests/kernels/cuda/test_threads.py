"""The device's grid barrier, run by host threads that stand for blocks: its arithmetic, not its memory order."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from kernels.cuda.threads import PHASE, barrier_functions


class Blocks(threading.local):
    """What the kernel sees as `cuda`: each host thread is a block of one thread."""

    def __init__(self, blocks: int) -> None:
        self.threadIdx = SimpleNamespace(x=0)
        self.blockIdx = SimpleNamespace(x=-1)
        self.gridDim = SimpleNamespace(x=blocks)

    def syncthreads(self) -> None:
        time.sleep(0)


class Counter:
    """A uint32 that wraps, added to by one thread at a time."""

    def __init__(self, value: int) -> None:
        self.value, self.lock = value, threading.Lock()

    def add(self, number: int) -> None:
        with self.lock:
            self.value = (self.value + int(number)) % 2**32

    def read(self) -> int:
        time.sleep(0)
        return self.value


@pytest.mark.parametrize("blocks", [1, 2, 5])
@pytest.mark.parametrize("start", [0, PHASE])
def test_no_block_passes_before_all_have_arrived_and_the_counter_is_clean_after(blocks: int, start: int) -> None:
    rounds, counter, cuda = 40, Counter(start), Blocks(blocks)
    functions = barrier_functions(cuda, lambda memory, number: memory.add(number), lambda memory: memory.read())
    arrived = np.zeros((rounds, blocks), bool)
    early: list[tuple[int, int]] = []

    def block(number: int) -> None:
        cuda.blockIdx.x = number
        phase = functions["grid_phase"](counter)
        for turn in range(rounds):
            arrived[turn, number] = True
            phase = functions["grid_barrier"](counter, phase)
            if not arrived[turn].all():
                early.append((turn, number))

    threads = [threading.Thread(target=block, args=(number,)) for number in range(blocks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not early
    assert arrived.all()
    assert counter.value == start  # after an even number of barriers


def test_launches_of_any_grid_share_a_counter_one_after_the_other() -> None:
    counter = Counter(0)
    for blocks in (3, 1, 4, 2):
        cuda = Blocks(blocks)
        functions = barrier_functions(cuda, lambda memory, number: memory.add(number), lambda memory: memory.read())

        def block(number: int, cuda: Blocks = cuda, functions: dict = functions) -> None:
            cuda.blockIdx.x = number
            functions["grid_barrier"](counter, functions["grid_phase"](counter))

        before = counter.value
        threads = [threading.Thread(target=block, args=(number,)) for number in range(blocks)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert counter.value == PHASE - before
