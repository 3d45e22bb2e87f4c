"""Where each static tensor lies in the memory that a worker registers before training: offsets, aligned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optimizers.placement.buckets import BucketPlan
from optimizers.placement.crossing import Crossing
from optimizers.placement.errors import PlacementError
from optimizers.placement.plans import DistributedPlan, StepProfile

ALIGNMENT = 64
"""A cache line, and the widest vector of a CPU."""
METADATA_BYTES = 128
"""Of a tensor whose shape is not known in advance: dtype, shape and address, in a block of fixed size."""
SLOTS = 2
"""Of a message: while one is read, the next is written."""


@dataclass(frozen=True, slots=True)
class Room:
    """A piece of the arena. what: "bucket", "slot", "metadata" or "activation"."""

    name: str
    what: str
    offset_bytes: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Arena:
    """Everything that a worker registers; rooms do not overlap and begin at multiples of `alignment`."""

    rooms: tuple[Room, ...]
    bytes: int
    alignment: int = ALIGNMENT


def lay_out(
    plan: BucketPlan, activations: Sequence[Crossing] = (), *, peers: int = 1, alignment: int = ALIGNMENT
) -> Arena:
    """Return the arena of a plan: each bucket, the slots that peers write to, and what stages hand over.

    A dynamic tensor gets a metadata block alone: its bytes are fetched from wherever they are.
    Raises PlacementError for an alignment that is no power of two.
    """
    if alignment < 1 or alignment & (alignment - 1):
        raise PlacementError(f"an alignment of {alignment} bytes is no power of two; give one, such as {ALIGNMENT}")
    rooms: list[Room] = []
    end = 0

    def add(name: str, what: str, size: int) -> None:
        nonlocal end
        begin = aligned(end, alignment)
        rooms.append(Room(name, what, begin, size))
        end = begin + size

    for bucket in plan.buckets:
        add(f"bucket {bucket.index}", "bucket", bucket.bytes)
    for bucket in plan.buckets:
        for peer in range(peers):
            add(f"slot of bucket {bucket.index}, peer {peer}", "slot", bucket.bytes)
    for item in activations:
        if item.dynamic:
            add(item.name, "metadata", METADATA_BYTES)
        else:
            for slot in range(SLOTS):
                add(f"{item.name}, slot {slot}", "activation", item.bytes)
    return Arena(tuple(rooms), aligned(end, alignment), alignment)


def aligned(offset: int, alignment: int = ALIGNMENT) -> int:
    """Return the first multiple of the alignment from the offset on."""
    return -(-offset // alignment) * alignment


def registered_bytes(profile: StepProfile, plan: DistributedPlan) -> int:
    """Return what one worker registers for a plan: only one-sided writes need memory that is registered in advance."""
    if plan.backend != "hotbench" or plan.world_size < 2:
        return 0
    if plan.kind == "pipeline":
        return SLOTS * 2 * max((cut.bytes for cut in profile.cuts), default=0)
    return 2 * aligned(profile.gradient_bytes)
