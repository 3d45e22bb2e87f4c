"""Where a model can be split into stages, and what the first stage hands on to the second."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from analyzer.graph import Graph, Tensor
from optimizers.placement.crossing import Crossing, Names, StepClock, make_crossing, scope_of


@dataclass(frozen=True, slots=True)
class Cut:
    """A place in the forward where the model can be split in two stages.

    after: index of the op that is the last of the first stage, whose seconds and bytes the other fields give.
    shared_bytes: of the parameters that both stages use.    crossing: activations that the first hands to the second.
    """

    after: int
    scope: str
    forward_seconds: float
    backward_seconds: float
    parameter_bytes: int
    shared_bytes: int
    crossing: tuple[Crossing, ...]

    @property
    def bytes(self) -> int:
        """Return the bytes that the first stage hands on; as many gradients come back."""
        return sum(item.bytes for item in self.crossing)


def find_cuts(graph: Graph, clock: StepClock) -> Iterator[Cut]:
    """Yield the places between the program's own forward ops with parameters on either side."""
    yield from CutFinder(graph, clock).cuts()


class CutFinder:
    """Finds, for each place in the forward, what is made before it and read after it."""

    def __init__(self, graph: Graph, clock: StepClock) -> None:
        self.graph, self.clock = graph, clock
        tops = graph.top_level_of
        self.forward = [op.index for op in graph.top_level() if op.phase == "forward"]
        self.place = {op: position for position, op in enumerate(self.forward)}
        self.place_of = [self.place.get(top, -1) for top in tops]
        self.made: dict[int, int] = {}
        self.read: dict[int, int] = {}
        self.tensor: dict[int, Tensor] = {}
        self.parameters: dict[int, tuple[int, int, int]] = {}
        self._follow()

    def _follow(self) -> None:
        """Note for each storage of the forward where it is made and read last, for each parameter where it is used."""
        for op in self.graph.ops:
            place = self.place_of[op.index]
            if place < 0:
                continue
            for index in op.inputs:
                self._note_read(self.graph.tensors[index], place)
            for index in op.outputs:
                tensor = self.graph.tensors[index]
                if tensor.category not in ("parameter", "input"):
                    self.made.setdefault(tensor.storage, place)
                    kept = self.tensor.setdefault(tensor.storage, tensor)
                    if tensor.nbytes > kept.nbytes:
                        self.tensor[tensor.storage] = tensor

    def _note_read(self, tensor: Tensor, place: int) -> None:
        if tensor.category == "parameter":
            first, _, size = self.parameters.get(tensor.storage, (place, place, 0))
            self.parameters[tensor.storage] = (first, place, max(size, tensor.nbytes))
        elif tensor.storage in self.made:
            self.read[tensor.storage] = place

    def cuts(self) -> Iterator[Cut]:
        """Yield a cut after each forward op of the program but the last, where a parameter lies on either side."""
        backward = self._backward_seconds()
        forward = [self.clock.end(op) for op in self.forward]
        for place in range(len(self.forward) - 1):
            before = [item for item in self.parameters.values() if item[0] <= place]
            after = [item for item in self.parameters.values() if item[1] > place]
            if not before or len(before) == len(self.parameters) or not after:
                continue
            names = Names()
            crossing = tuple(self._crossing(names, storage) for storage in self._handed_on(place))
            shared = sum(size for first, last, size in self.parameters.values() if first <= place < last)
            yield Cut(
                after=self.forward[place],
                scope=self.graph.ops[self.forward[place]].scope,
                forward_seconds=forward[place],
                backward_seconds=sum(backward[: place + 1]),
                parameter_bytes=sum(size for _, _, size in before),
                shared_bytes=shared,
                crossing=crossing,
            )

    def _handed_on(self, place: int) -> list[int]:
        return sorted(storage for storage, made in self.made.items() if made <= place < self.read.get(storage, -1))

    def _crossing(self, names: Names, storage: int) -> Crossing:
        tensor = self.tensor[storage]
        scope = scope_of(self.graph, tensor)
        reader = self.forward[self.read[storage]]
        ready = self.forward[self.made[storage]]
        return make_crossing(names.next(scope, tensor.shape), "activation", scope, tensor, ready, reader, self.clock)

    def _backward_seconds(self) -> list[float]:
        """Return the backward's seconds by the forward op whose gradients they compute."""
        found = [0.0] * len(self.forward)
        for op in self.graph.ops:
            if op.phase == "backward" and op.forward_op >= 0:
                place = self.place_of[op.forward_op]
                if place >= 0:
                    found[place] += self.clock.own[op.index]
        return found
