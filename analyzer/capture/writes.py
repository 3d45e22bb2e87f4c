"""Who wrote which bytes of a storage last."""

from __future__ import annotations

from dataclasses import dataclass, field

from analyzer.capture.executiontrace import TensorUse


@dataclass(frozen=True, slots=True)
class Write:
    """An op's write to a half-open span of bytes; dense when it wrote every byte of the span."""

    op: int
    span: tuple[int, int]
    dense: bool


@dataclass(slots=True)
class Writes:
    """The writes to each storage, in order."""

    _by_storage: dict[int, list[Write]] = field(default_factory=dict)

    def enter(self, storage: int, op: int, use: TensorUse) -> None:
        """Note that `op` wrote the tensor."""
        begin, end = use.span
        dense = end - begin == use.elements * use.item_bytes
        self._by_storage.setdefault(storage, []).append(Write(op, use.span, dense))

    def visible(self, storage: int, span: tuple[int, int]) -> list[Write]:
        """Return the writes whose bytes may still stand in the span, the last first; one that covers it all ends."""
        found = []
        for write in reversed(self._by_storage.get(storage, ())):
            if write.span[0] < span[1] and span[0] < write.span[1]:
                found.append(write)
                if write.dense and write.span[0] <= span[0] and span[1] <= write.span[1]:
                    break
        return found
