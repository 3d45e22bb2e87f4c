"""Carries an itinerary out, step after step: storages leave and return at the marks that the plan names."""

from __future__ import annotations

import logging
import os
import weakref
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from optimizers.swap.entries import Entry, Kept, Saved
from optimizers.swap.errors import SwapError
from optimizers.swap.heap import return_freed_memory
from optimizers.swap.hooks import StepHooks
from optimizers.swap.itinerary import FETCH, FREE, LEAVE, Activation, Itinerary, Trip
from optimizers.swap.plain import is_plain
from optimizers.swap.repetition import OpRecorder, RecordedOp, repeat
from optimizers.swap.state_trips import StateTrips
from optimizers.swap.tier import FileTier

_log = logging.getLogger("hotbench")


class Engine:
    """Moves a model's saved activations, and its optimizer's state, as the itinerary says. `close` undoes it.

    What is computed does not change: a step that is not the one that was planned keeps what it saves, and says so
    once in the logger "hotbench". compact: freed blocks go back to the system at once (heap.py), for the whole process.
    Raises SwapError where the folder cannot hold what is swapped.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        itinerary: Itinerary,
        folder: Path,
        optimizer: torch.optim.Optimizer | None = None,
        compact: bool = False,
    ) -> None:
        self.itinerary = itinerary
        self.tier = FileTier(folder, itinerary.file_bytes, itinerary.chunk_bytes) if itinerary.file_bytes else None
        self.state = StateTrips(itinerary, self.tier, optimizer)
        self.actions = itinerary.actions()
        self.followed = {place: item for item in itinerary.activations for place in item.positions}
        self.wanted = {op.index: op for op in itinerary.ops}
        self.storage_buffers = {item.storage: item.buffer for item in itinerary.activations}
        self.entries: weakref.WeakValueDictionary[int, Entry] = weakref.WeakValueDictionary()
        # A step that drifts may save two storages for one buffer: the one that left is still out there.
        self.alive: weakref.WeakSet[Entry] = weakref.WeakSet()
        self.process = os.getpid()
        self.recorder: OpRecorder | None = None
        self.drifted = self._in_step = False
        self.said: set[str] = set()
        self.steps = 0
        self.last_mark = -1
        if compact:
            return_freed_memory()
        try:
            self.hooks = StepHooks(model, self, optimizer)
        except SwapError:
            self.state.close()
            if self.tier is not None:
                self.tier.close()
            raise

    def close(self) -> None:
        """Bring everything home, take the hooks off and give the file back; harmless when that has been done."""
        self.hooks.detach()
        for entry in list(self.alive):
            try:
                self._bring(entry)
            except SwapError as error:
                # Its step died; whoever still asks for it is told why.
                _log.warning("a saved tensor is lost with the step that failed: %s", error)
        self.state.close()
        if self.tier is not None:
            self.tier.close()

    @property
    def trouble(self) -> str:
        """Return why something stays in memory that was to be written; "" where all was."""
        return self.tier.trouble if self.tier is not None else ""

    def is_busy(self) -> bool:
        """Return whether the last forward's tensors are still waiting for their backward."""
        busy = len(self.alive) > 0
        if busy:
            self._say("a forward begins before the last one's backward is over, or while its graph is still held: its "
                      "activations stay in memory")  # fmt: skip
        return busy

    def begin(self) -> TorchDispatchMode | None:
        """Start a step."""
        if self._in_step and self.last_mark + 1 < self.itinerary.marks and not self.drifted:
            _log.debug("a step ended at mark %d of %d", self.last_mark, self.itinerary.marks)
        self._in_step, self.drifted = True, False
        self.steps += 1
        self.last_mark = 0
        self.recorder = OpRecorder(self.wanted) if self.wanted else None
        if os.getpid() != self.process:
            self._drift("the process was forked, and its parent has the swap file")
        else:
            self.state.begin()
        self._act(0)
        return self.recorder

    def pack(self, mark: int, position: int, tensor: torch.Tensor) -> Saved | Kept:
        """Return what autograd keeps."""
        self._act(mark)
        plan = self.followed.get(position)
        if plan is None or self.drifted:
            return Kept(tensor)
        if not is_plain(tensor) or tensor.untyped_storage().nbytes() != plan.bytes:
            self._drift(f"saved tensor {position} has another size than in the plan")
            return Kept(tensor)
        return Saved(self._entry(plan, tensor.untyped_storage()), tensor)

    def _entry(self, plan: Activation, storage: torch.UntypedStorage) -> Entry:
        entry = self.entries.get(plan.buffer)
        if entry is None or entry.storage is None or entry.storage._cdata != storage._cdata:
            entry = Entry(storage)
            self.alive.add(entry)
            self.entries[plan.buffer] = entry
        return entry

    def forward_end(self, mark: int) -> None:
        """The forward is over."""
        if self.recorder is not None and self.recorder.missed:
            self._drift(self.recorder.missed)
        self._act(mark)

    def unpack(self, mark: int, kept: Saved | Kept) -> torch.Tensor:
        """Return the saved tensor, brought back if it is away."""
        self._act(mark)
        if isinstance(kept, Saved):
            self._bring(kept.entry)
        return kept.tensor()

    def before_update(self, mark: int) -> None:
        """Have the optimizer's state at home."""
        self._act(mark)
        self.state.bring_home()

    def after_update(self, mark: int) -> None:
        """The optimizer is done."""
        if mark + 1 != self.itinerary.marks:
            self._drift(f"the step has {mark + 1} marks")
        self._act(mark)
        self.recorder = None

    def _act(self, mark: int) -> None:
        self.last_mark = mark
        for kind, trip in self.actions.get(mark, ()):
            if self.state.owns(trip):
                if not self.drifted:
                    self.state.act(kind, trip)
            else:
                self._act_on(kind, trip)

    def _act_on(self, kind: int, trip: Trip) -> None:
        entry = self.entries.get(trip.buffer)
        if entry is None:
            return
        if kind == FREE:
            self._free(entry)
        elif kind == LEAVE:
            if not self.drifted:
                self._leave(entry, trip)
        elif kind == FETCH:
            self._fetch(entry, trip)
        elif entry.remake is not None:
            self._bring(entry)

    def _leave(self, entry: Entry, trip: Trip) -> None:
        if entry.storage is None or (self.trouble and trip.is_swap) or entry.is_held_elsewhere():
            return
        remake = None if trip.is_swap else self._repetition(trip)
        if not trip.is_swap and remake is None:
            return
        entry.settle()
        if trip.is_swap and self.tier is not None:
            entry.leaving = self.tier.copy_out(entry.storage, trip.offset)
            entry.offset = trip.offset
        else:
            entry.remake = remake
        entry.storage = None

    def _repetition(self, trip: Trip) -> _Repetition | None:
        """Return what makes the buffer again; None where the forward did not run as planned."""
        if self.recorder is None or any(op not in self.recorder.recorded for op in trip.ops):
            self._drift(f"the ops that make buffer {trip.buffer} again did not run as in the plan")
            return None
        ops = tuple(self.recorder.recorded[op] for op in trip.ops)
        target = next(item.storage for item in self.itinerary.activations if item.buffer == trip.buffer)
        return _Repetition(self, ops, target)

    def _free(self, entry: Entry) -> None:
        leaving = entry.leaving
        if leaving is None:
            return
        leaving.ticket.wait()
        entry.leaving = None
        if leaving.ticket.error is not None:
            assert self.tier is not None, "a copy was on its way there"
            entry.storage = leaving.storage
            self.tier.note_failure(leaving.ticket.error)
        else:
            entry.away = True

    def _fetch(self, entry: Entry, trip: Trip) -> None:
        self._free(entry)
        if entry.away and entry.arriving is None and self.tier is not None:
            entry.arriving = self.tier.copy_in(entry.bytes, trip.offset)

    def _bring(self, entry: Entry) -> None:
        """Have the entry's storage in memory. Raises SwapError where it cannot be read back."""
        if entry.storage is not None:
            return
        if entry.remake is not None:
            entry.storage = entry.remake()
            entry.remake = None
            return
        self._free(entry)
        if entry.away and entry.arriving is None and self.tier is not None:
            entry.arriving = self.tier.copy_in(entry.bytes, entry.offset)
        arriving = entry.arriving
        if arriving is not None:
            arriving.ticket.wait()
            if arriving.ticket.error is not None:
                raise SwapError(f"the swap file cannot be read back ({arriving.ticket.error}); the step cannot go on")
            entry.storage, entry.arriving, entry.away = arriving.storage, None, False

    def _drift(self, why: str) -> None:
        """Keep what is saved from here on: the step is not the one that was planned."""
        if not self.drifted:
            self.drifted = True
            self._say(f"this step is not the planned one ({why}): it keeps its activations; fit it again")

    def _say(self, message: str) -> None:
        if message not in self.said:
            self.said.add(message)
            _log.warning("%s", message)


class _Repetition:
    """Makes one storage again. It holds what it reads, wherever that is, and is used once."""

    __slots__ = ("engine", "ops", "sources", "target")

    def __init__(self, engine: Engine, ops: tuple[RecordedOp, ...], target: int) -> None:
        self.engine, self.ops, self.target = engine, ops, target
        buffers = engine.storage_buffers
        self.sources = {
            number: engine.entries[buffers[number]]
            for op in ops
            for number in op.plan.arguments
            if number != target and number in buffers and buffers[number] in engine.entries
        }

    def __call__(self) -> torch.UntypedStorage:
        return repeat(self.ops, self.target, self._find)

    def _find(self, number: int) -> torch.UntypedStorage:
        # One that was saved only after the target left is not among the sources.
        entry = self.sources.get(number) or self.engine.entries.get(self.engine.storage_buffers.get(number, -1))
        if entry is None:
            raise SwapError("an activation cannot be made again: what it was made from is gone; allow swap alone")
        self.engine._bring(entry)
        assert entry.storage is not None, "just brought back"
        return entry.storage
