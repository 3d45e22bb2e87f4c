"""Loops, and the body of a kernel that walks its domain point by point."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kernels.compiler.expression import expression
from kernels.compiler.ir import Region
from kernels.compiler.nest import Nest
from kernels.compiler.source import Source, position_text, roots, scope_of


def value_line(region: Region, position: int, indices: Sequence[str]) -> str:
    """Return the assignment that computes a value that is no reduction."""
    value = region.values[position]
    if value.access is not None:
        root = roots(region)[value.access.buffer]
        text = f"load_{value.dtype}(b{root}, {position_text(value.access, indices)}, {scope_of(region, root)})"
    elif value.op == "index":
        text = f"int64({indices[value.axis or 0]})"
    else:
        text = expression(region, value, [f"v{k}" for k in value.operands])
    return f"v{position} = {text}"


def store_line(region: Region, position: int, indices: Sequence[str]) -> str:
    """Return the call that carries out a store."""
    store = region.stores[position]
    buffer = region.buffers[store.access.buffer]
    root = roots(region)[store.access.buffer]
    place, scope = position_text(store.access, indices), scope_of(region, root)
    return f"store_{buffer.dtype}(b{root}, {place}, v{store.value}, {scope})"


def axis_names(region: Region) -> list[str]:
    """Return the name of each axis's loop variable."""
    return [f"i{axis}" for axis in range(len(region.domain))]


def loop(
    source: Source, names: Sequence[str], extents: Sequence[int], body: Callable[[int], None], depth: int = 0
) -> None:
    """Print nested loops; `body(depth)` prints what stands at each depth, 0 being before the first loop."""
    body(depth)
    if depth < len(names):
        with source.block(f"for {names[depth]} in range({extents[depth]}):"):
            loop(source, names, extents, body, depth + 1)


def shared_loop(source: Source, names: Sequence[str], extents: Sequence[int], body: Callable[[int], None]) -> None:
    """Print one loop over the items `begin` to `end` that stands for nested ones, for a thread's share."""
    body(0)
    if len(names) == 1:
        with source.block(f"for {names[0]} in range(begin, end):"):
            body(1)
        return
    with source.block("for item in range(begin, end):"):
        remaining = "item"
        for depth in reversed(range(1, len(names))):
            source.line(f"{names[depth]} = {remaining} % {extents[depth]}")
            source.line(f"rest{depth} = {remaining} // {extents[depth]}")
            remaining = f"rest{depth}"
        source.line(f"{names[0]} = {remaining}")
        for depth in range(1, len(names) + 1):
            body(depth)


def print_points(source: Source, loops: Nest, shared: bool) -> None:
    """Print a pointwise region: each value in the outermost loop that it can stand in."""
    region = loops.region
    names, rank = axis_names(region), len(region.domain)

    def body(depth: int) -> None:
        for position, level in enumerate(loops.levels):
            if max(level.axes, default=-1) + 1 == depth:
                source.line(value_line(region, position, names))
        for position, store in enumerate(region.stores):
            axes = {axis for axis, stride in enumerate(store.access.strides) if stride}
            if max(axes | loops.levels[store.value].axes, default=-1) + 1 == depth:
                source.line(store_line(region, position, names))

    if not shared:
        loop(source, names, region.domain, body)
    elif rank == 1:
        shared_loop(source, names, region.domain, body)
    else:

        def row(depth: int) -> None:
            body(depth)
            if depth == rank - 1:
                with source.block(f"for {names[-1]} in range({region.domain[-1]}):"):
                    body(rank)

        shared_loop(source, names[:-1], region.domain[:-1], row)
