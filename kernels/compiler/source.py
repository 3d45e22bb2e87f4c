"""Lines of Python source under construction, and the small texts that printers share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kernels.compiler.ir import Access, Region

UNMARKED = 1 << 20
"""An alias scope beyond those that LLVM is told of: whether such memory overlaps is found out at run time."""


class Source:
    """Lines with an indentation that follows `with source.block(header)`."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._depth = 0

    def line(self, text: str) -> None:
        """Append one line."""
        self.lines.append("    " * self._depth + text if text else "")

    @contextmanager
    def block(self, header: str) -> Iterator[None]:
        """Append `header` and indent what follows inside the block; a block that stays empty leaves nothing."""
        self.line(header)
        opened = len(self.lines)
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
        if len(self.lines) == opened:
            self.lines.pop()

    def text(self) -> str:
        """Return the whole source."""
        return "\n".join(self.lines) + "\n"


def position_text(access: Access, indices: Sequence[str]) -> str:
    """Return the element that an access touches, e.g. `512*i0 + i1 + 7`."""
    terms = []
    for stride, index in zip(access.strides, indices, strict=True):
        if stride and index:
            terms.append(index if stride == 1 else f"{stride}*{index}")
    if access.offset or not terms:
        terms.append(str(access.offset))
    return " + ".join(terms)


def roots(region: Region) -> tuple[int, ...]:
    """Return for each buffer the first one that has the same address."""
    found: list[int] = []
    for position, buffer in enumerate(region.buffers):
        found.append(position if buffer.same_as is None else found[buffer.same_as])
    return tuple(found)


def scope_of(region: Region, buffer: int) -> int:
    """Return the alias scope of a buffer."""
    given = region.buffers[buffer].scope
    return roots(region)[buffer] if given is None else given


def scope_of_kept(region: Region, number: int) -> int:
    """Return the alias scope of the `number`-th value that is kept on the stack."""
    given = any(buffer.scope is not None for buffer in region.buffers)
    return UNMARKED if given else len(region.buffers) + number


def op_list(region: Region) -> list[str]:
    """Return one line for each buffer, value and store: what a report or a generated file shows of a region."""
    lines = [f"domain {region.domain}, {region.reduced} reduced"]
    for position, buffer in enumerate(region.buffers):
        mode = "writes" if buffer.written else "reads"
        same = "" if buffer.same_as is None else f", in place of b{buffer.same_as}"
        lines.append(f"b{position} {buffer.name}: {mode} {buffer.elements} x {buffer.dtype}{same}")
    axes = [f"i{axis}" for axis in range(len(region.domain))]
    for position, value in enumerate(region.values):
        words = [f"v{k}" for k in value.operands]
        if value.access is not None:
            words.append(f"b{value.access.buffer}[{position_text(value.access, axes)}]")
        if value.op == "constant":
            words.append(repr(value.constant))
        if value.op == "index":
            words.append(f"i{value.axis}")
        lines.append(f"v{position} {value.dtype} = {value.op} {' '.join(words)}")
    for store in region.stores:
        lines.append(f"b{store.access.buffer}[{position_text(store.access, axes)}] = v{store.value}")
    return lines
