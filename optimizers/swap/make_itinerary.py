"""From a plan's moves to the itinerary that the engine carries out, and back."""

from __future__ import annotations

from optimizers.swap.itinerary import Activation, Itinerary, OpToRepeat, State, Trip
from optimizers.swap.moves import Move, Recompute, Swap
from optimizers.swap.swap_file import CHUNK_BYTES, round_up
from optimizers.swap.trace import StepTrace
from optimizers.swap.traced_timeline import TracedTimeline


def make_itinerary(
    trace: StepTrace, traced: TracedTimeline, moves: tuple[Move, ...], chunk_bytes: int = CHUNK_BYTES
) -> Itinerary:
    """Return the moves of a plan as trips, each swap with a place of its own in the file."""
    trips, offset = [], 0
    for move in sorted(moves, key=lambda move: (move.before, move.after, move.buffer)):
        trip = _trip(traced, move, offset)
        offset += round_up(trip.bytes) if trip.is_swap else 0
        trips.append(trip)
    wanted = sorted({op for trip in trips for op in trip.ops})
    sources = {recipe.buffer: recipe.inputs for recipe in traced.timeline.recipes}
    followed = {trip.buffer for trip in trips}
    followed |= {source for trip in trips if not trip.is_swap for source in sources[trip.buffer]}
    activations = tuple(_activation(trace, traced, buffer) for buffer in sorted(followed) if buffer in traced.storages)
    state = tuple(_state(trace, traced, buffer) for buffer in sorted(followed) if buffer in traced.state)
    return Itinerary(
        trace.marks,
        activations,
        state,
        tuple(op_to_repeat(trace, index) for index in wanted),
        tuple(trips),
        offset,
        chunk_bytes,
    )


def _trip(traced: TracedTimeline, move: Move, offset: int) -> Trip:
    size = traced.timeline.buffers[move.buffer].bytes
    if isinstance(move, Recompute):
        ops = traced.recipe_ops[move.buffer, move.before]
        return Trip(move.buffer, size, move.after, move.after + 1, move.before, move.before, "", -1, ops)
    return Trip(move.buffer, size, move.after, move.freed_by, move.prefetch, move.before, move.tier, offset, ())


def _activation(trace: StepTrace, traced: TracedTimeline, buffer: int) -> Activation:
    storage = trace.storages[traced.storages[buffer]]
    return Activation(buffer, storage.number, storage.bytes, storage.packs)


def _state(trace: StepTrace, traced: TracedTimeline, buffer: int) -> State:
    tensor = trace.state[traced.state[buffer]]
    return State(buffer, tensor.parameter, tensor.name, tensor.bytes)


def op_to_repeat(trace: StepTrace, index: int) -> OpToRepeat:
    """Return an op of the forward as the engine notes and repeats it."""
    op = trace.ops[index]
    known = tuple(sorted({number for number in op.arguments if not trace.storages[number].writers}))
    return OpToRepeat(index, op.name, op.arguments, op.outputs, known, op.random)


def moves_of(itinerary: Itinerary) -> tuple[Move, ...]:
    """Return the trips as moves of a timeline."""
    return tuple(
        Swap(trip.buffer, trip.after, trip.freed_by, trip.prefetch, trip.before, trip.tier)
        if trip.is_swap
        else Recompute(trip.buffer, trip.after, trip.before)
        for trip in itinerary.trips
    )
