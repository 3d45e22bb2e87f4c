"""Records the ops of steps on a CPU with callbacks of our own: a third of what torch's profiler costs for each op.

Where ops are very small, even what torch itself does to call a callback weighs. There a step records about half of
its ops: in turns those from its start to the middle, and those from about the middle to its end. Which ops these are
is known by counting from the step's start, or back from its end.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from analyzer.capture import callbacks
from analyzer.capture.blocks import BlockPlan, RecordedBlock
from analyzer.capture.nativecode import TABLE_SLOTS, NativeCode, native_code
from analyzer.capture.oplog import BrokenLogError, OpLog, read_log
from analyzer.capture.stepops import StepOps
from analyzer.workload import Stepper

Part = Literal["whole", "first half", "second half"]

BUFFER_ENTRIES = 1 << 22
ROOM_FOR_ENDS = 1 << 16
LIMIT = BUFFER_ENTRIES - ROOM_FOR_ENDS
NAMES_BYTES = 1 << 24
FIRST_HALF = 0.5
# A second half begins at a random op, by torch's own sampling, which costs nothing until it hits. The last of many
# samples scatters little; it comes early enough that most second halves reach back to where first halves end.
SECOND_HALF = 0.5
LEAST_WAKES, MOST_WAKES = 16, 64
OPS_PER_WAKE = 64

_busy = threading.Lock()


class RecorderError(Exception):
    """What this recorder can't record, and its text says why; torch's profiler can."""


@dataclass(frozen=True, slots=True)
class Halving:
    """When steps record a half: ops in a CPU second, in a step, and steps in the pass, of each at least so many.

    At 100,000 ops in a second a whole record costs some 2 %; with 24 steps, most ops are still timed in 10 or more.
    """

    ops_per_second: float = 100_000.0
    ops: int = 200
    steps: int = 24


@dataclass(frozen=True, slots=True)
class StepLog:
    """One step's entries in the buffer, and the one at which a first half stopped (-1: none)."""

    part: Part
    begin: int
    end: int
    stopped: int


@contextmanager
def op_recorder(halving: Halving | None = Halving()) -> Iterator[OpRecorder]:
    """Yield a recorder of this thread's ops; without `halving` each step is recorded whole.

    Raises RecorderError where another one is at work in this process: they share one state.
    """
    if not _busy.acquire(blocking=False):
        raise RecorderError("another capture is running in this process")
    try:
        recorder = OpRecorder(native_code(callbacks.addresses()), halving)
        yield recorder
    finally:
        _busy.release()


class OpRecorder:
    """Blocks of steps whose ops call our own code. Made by `op_recorder`."""

    def __init__(self, code: NativeCode, halving: Halving | None) -> None:
        self.code = code
        self.state = code.state
        self.halves = False
        self._halving = halving
        self._buffer: NDArray[np.uint64] = np.empty((BUFFER_ENTRIES, 2), np.uint64)
        self._table: NDArray[np.int64] = np.zeros(TABLE_SLOTS, np.int64)
        self._names: NDArray[np.uint8] = np.zeros(NAMES_BYTES, np.uint8)
        self._whole: StepOps | None = None
        self._turn = 0
        self._since = code.read_ticks(), time.perf_counter_ns()

    def wholly(self) -> OpRecorder:
        """Return another recorder by the same code that records each step whole; use one at a time."""
        return OpRecorder(self.code, None)

    def prepare(self, stepper: Stepper, plan: BlockPlan) -> BlockPlan:
        """Run and record a whole step: it tells which op has which position, and whether halves are called for.

        Return the plan, with more blocks where halves need them for as many timings of each op.
        """
        with self._attached():
            cpu = time.process_time()
            log = self._record(stepper)
            cpu = time.process_time() - cpu
        self._whole = self._step_ops(log)
        rule, ops = self._halving, self._ops()
        if rule is None or ops < max(rule.ops, rule.ops_per_second * cpu):
            return plan
        blocks = max(plan.blocks, -(-rule.steps // plan.steps)) if plan.open_ended else plan.blocks
        self.halves = blocks * plan.steps >= rule.steps
        return replace(plan, blocks=blocks)

    def block(self, stepper: Stepper, plan: BlockPlan) -> RecordedBlock:
        """Return one block, of which a step may be missing where steps turn out to differ.

        Raises RecorderError where ops were lost or came from another thread.
        """
        logs: list[StepLog] = []
        with self._attached():
            if plan.lead_in:
                # Its half is that of the step after it, which would else never have its turn in blocks of one step.
                turn = self._turn
                self._record(stepper)
                self._turn, self.state.entries = turn, 0
            cpu = time.process_time()
            for _ in range(plan.steps):
                logs.append(self._record(stepper))
            cpu = time.process_time() - cpu
        steps = [self._step_ops(log) for log in logs]
        return RecordedBlock(cpu, tuple(step for step in steps if step is not None))

    @contextmanager
    def _attached(self) -> Iterator[None]:
        """Add the callbacks, disabled, and take them away again: a plain step must not meet them."""
        state = self.state
        self._table[:] = 0
        state.buffer, state.room = self._buffer.ctypes.data, BUFFER_ENTRIES
        state.table, state.names = self._table.ctypes.data, self._names.ctypes.data
        # Offset 0 is the empty name: no entry of the table is taken before it was filled.
        state.names_used, state.names_size, state.full, state.entries = 1, NAMES_BYTES, 0, 0
        state.recording = callbacks.add(self.code.started, self.code.ended, callbacks.SCOPES)
        if self.halves:
            probability = min(1.0, self._wakes() / (SECOND_HALF * self._ops()))
            state.waking = callbacks.add(self.code.woken, None, callbacks.CALLS, probability)
        state.strangers = 0
        state.thread = _this_thread()
        try:
            yield
        finally:
            # What some code left open may end later: it must find no buffer.
            state.thread = 0
            callbacks.remove(state.recording)
            if self.halves:
                callbacks.remove(state.waking)
        self._check()

    def _check(self) -> None:
        state = self.state
        if state.full or state.entries >= LIMIT:
            raise RecorderError(f"a block of steps has more than {LIMIT // 2} ops or {NAMES_BYTES} bytes of names")
        if state.strangers:
            raise RecorderError("ops ran on more threads than the step's own")

    def _record(self, stepper: Stepper) -> StepLog:
        state, part = self.state, self._next_part()
        begin = state.entries
        state.stopped = -1
        state.limit = begin + round(FIRST_HALF * 2 * self._ops()) if part == "first half" else LIMIT
        state.wakes_left = self._wakes()
        callbacks.enable(state.waking if part == "second half" else state.recording)
        try:
            stepper.step()
        finally:
            callbacks.disable(state.recording)
            if part == "second half":
                callbacks.disable(state.waking)
        return StepLog(part, begin, state.entries, state.stopped)

    def _next_part(self) -> Part:
        if not self.halves:
            return "whole"
        self._turn += 1
        return "first half" if self._turn % 2 else "second half"

    def _ops(self) -> int:
        return len(self._whole.names) if self._whole is not None else 0

    def _wakes(self) -> int:
        return min(max(self._ops() // OPS_PER_WAKE, LEAST_WAKES), MOST_WAKES)

    def _step_ops(self, log: StepLog) -> StepOps | None:
        """Return the step's ops; None where a half is not one of the step that was recorded whole.

        Then steps differ from each other, and from now on all are recorded whole.
        """
        stopped = log.stopped - log.begin if log.stopped >= 0 else -1
        try:
            ops = read_log(self._buffer[log.begin : log.end], stopped)
        except BrokenLogError as error:
            raise RecorderError(str(error)) from error
        names = self._texts(ops)
        if log.part == "whole" or self._whole is None:
            return StepOps(names, tuple(ops.parents.tolist()), self._nanoseconds(ops))
        place = 0 if log.part == "first half" else self._ops() - len(names)
        if place < 0 or self._whole.names[place : place + len(names)] != names:
            self.halves = False
            return None
        after = self._ops() - place - len(names)
        times = (None,) * place + self._nanoseconds(ops) + (None,) * after
        return StepOps(self._whole.names, self._whole.parents, times)

    def _texts(self, ops: OpLog) -> tuple[str, ...]:
        offsets, places = np.unique(ops.names, return_inverse=True)
        texts = [
            ctypes.string_at(self._names.ctypes.data + offset).decode("utf-8", "replace") for offset in offsets.tolist()
        ]
        return tuple(texts[place] for place in places.tolist())

    def _nanoseconds(self, ops: OpLog) -> tuple[float | None, ...]:
        ticks, clock = self._since
        rate = (time.perf_counter_ns() - clock) / (self.code.read_ticks() - ticks)
        return tuple(None if own < 0 else own * rate for own in ops.ticks.tolist())


def _this_thread() -> int:
    function = ctypes.CDLL(None)["pthread_self"]
    function.restype = ctypes.c_int64
    return int(function())
