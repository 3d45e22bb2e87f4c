"""What a traced step showed: its marks, the storages that autograd saved, the forward's ops, memory and times."""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class TracedStorage:
    """One storage that the forward saved, read or made.

    packs:     positions among all saved tensors; none: it was not saved.
    packed:    mark of the first of them.
    idle:      first mark at which only autograd still held it; None: something else held it until it was used.
    unpacks:   marks at which the backward asked for it.
    address:   where it lay in the step whose memory was recorded.
    writers:   ops of the forward that wrote it, the one that made it first; none: it was there before.
    left_alone: why it cannot be moved; "" when it may be.
    """

    number: int
    bytes: int
    address: int
    packs: tuple[int, ...] = ()
    packed: int = -1
    idle: int | None = None
    unpacks: tuple[int, ...] = ()
    writers: tuple[int, ...] = ()
    left_alone: str = ""


@dataclass(frozen=True, slots=True)
class TracedOp:
    """One op of the forward. arguments, outputs: storages of its tensor arguments and results, in order.

    mark: the next mark after it.    refusal: why it cannot be repeated; "" when it can.
    """

    index: int
    name: str
    mark: int
    arguments: tuple[int, ...]
    outputs: tuple[int, ...]
    random: bool
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class StateTensor:
    """A tensor of the optimizer's state, by its parameter's place in the optimizer and its name."""

    parameter: int
    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Allocation:
    """Memory handed out (bytes above 0) or taken back, in the event in which it happened, in order."""

    event: int
    address: int
    bytes: int


@dataclass(frozen=True)
class StepTrace:
    """A step. Event i ends at mark i; one more follows the last mark.

    before_bytes: live before the step, optimizer state and all.
    updates: marks at which the optimizer began and ended; None where it was not seen.
    event_seconds: medians of plain steps with hooks on.    op_seconds: of each op of the forward; none: not timed.
    position_bytes: bytes of the storage under each saved tensor.
    """

    marks: int
    storages: tuple[TracedStorage, ...]
    ops: tuple[TracedOp, ...]
    state: tuple[StateTensor, ...]
    allocations: tuple[Allocation, ...]
    before_bytes: int
    updates: tuple[int, int] | None
    position_bytes: tuple[int, ...]
    event_seconds: tuple[float, ...]
    op_seconds: tuple[float, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def step_seconds(self) -> float:
        """Return the step's time."""
        return sum(self.event_seconds)

    @property
    def peak_bytes(self) -> int:
        """Return the highest live bytes of the recorded step."""
        live = highest = self.before_bytes
        for allocation in self.allocations:
            live += allocation.bytes
            highest = max(highest, live)
        return highest


def lasting(trace: StepTrace, seconds: float) -> StepTrace:
    """Return the trace with events that last `seconds` in all.

    What is more is added to each alike: it is what is done at each mark. What is less is taken from all by one factor.
    """
    more = seconds - trace.step_seconds
    if more >= 0.0:
        share = more / len(trace.event_seconds)
        return replace(trace, event_seconds=tuple(event + share for event in trace.event_seconds))
    factor = seconds / trace.step_seconds
    return replace(trace, event_seconds=tuple(event * factor for event in trace.event_seconds))
