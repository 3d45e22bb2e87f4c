"""Calls that kernels of ours compute in the place of ATen ops: what such a call is, and how it is bound to memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from kernels.compiler.kinds import Body
from optimizers.fusion.graph import Call, Lowered, Reference
from optimizers.fusion.memory import Places
from optimizers.fusion.regions import Bound
from optimizers.fusion.schedule import Unit


class KernelTarget(ABC):
    """What a call runs instead of an ATen op: one kernel over the call's arguments, in order, and its one result."""

    __slots__ = ()

    @property
    @abstractmethod
    def nodes(self) -> tuple[str, ...]:
        """Return the nodes of the captured graph that it computes; the last one has the result."""

    @property
    def refused(self) -> str:
        """Return the name that leaves it to the library, and nothing around it; "" where its nodes' names do."""
        return ""

    @abstractmethod
    def kernel(self, windows: Sequence[Reference], dtypes: Sequence[str]) -> Body:
        """Return the kernel for windows of the arguments and the result onto their memories, and their dtypes."""


def target_of(lowered: Lowered, number: int) -> KernelTarget | None:
    """Return what a call runs where that is a kernel of ours, None where it is not."""
    target = lowered.calls[number].target
    return target if isinstance(target, KernelTarget) else None


def kernel_calls(lowered: Lowered) -> set[int]:
    """Return the numbers of the calls that kernels of ours will compute."""
    return {number for number in range(len(lowered.calls)) if target_of(lowered, number) is not None}


def bind_targets(
    lowered: Lowered, units: Sequence[Unit], bounds: Mapping[int, Bound], places: Places
) -> tuple[tuple[Unit, ...], dict[int, Bound]]:
    """Return the units and bounds with each call of a KernelTarget as a kernel."""
    found, ordered = dict(bounds), list(units)
    for position, unit in enumerate(ordered):
        target = target_of(lowered, unit.number) if unit.kind == "call" else None
        if target is not None:
            number = max(found, default=-1) + 1
            found[number] = _bound(lowered, lowered.calls[unit.number], target, places)
            ordered[position] = Unit("group", number)
    return tuple(ordered), found


def _bound(lowered: Lowered, call: Call, target: KernelTarget, places: Places) -> Bound:
    (index,) = call.results
    assert index is not None
    definition = lowered.definitions[index]
    references = (*call.args, Reference(index, 0, definition.shape, definition.strides))
    located = [places.window(reference) for reference in references]
    dtypes = [lowered.definitions[reference.source].dtype for reference in references]
    memories = tuple((memory, window.offset) for memory, window in located)
    return Bound(target.kernel([window for _, window in located], dtypes), memories, target.nodes, target.refused)
