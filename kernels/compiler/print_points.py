"""Loops, and the body of a kernel that walks its domain point by point."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kernels.compiler.expression import expression
from kernels.compiler.ir import Region, Value
from kernels.compiler.nest import EXPENSIVE, Nest
from kernels.compiler.source import Source, position_text, roots, scope_of

Name = Callable[[int], str]
"""The name of a value in the printed text, by its position."""


def plain_name(position: int) -> str:
    """Return the name of a value that has one."""
    return f"v{position}"


def value_line(region: Region, position: int, indices: Sequence[str], name: Name = plain_name) -> str:
    """Return the assignment that computes a value that is no reduction."""
    value = region.values[position]
    if value.access is not None:
        root = roots(region)[value.access.buffer]
        text = f"load_{value.dtype}(b{root}, {position_text(value.access, indices)}, {scope_of(region, root)})"
    elif value.op == "index":
        text = f"int64({indices[value.axis or 0]})"
    else:
        text = expression(region, value, [name(k) for k in value.operands])
    return f"{name(position)} = {text}"


def store_line(region: Region, position: int, indices: Sequence[str], name: Name = plain_name) -> str:
    """Return the call that carries out a store."""
    store = region.stores[position]
    buffer = region.buffers[store.access.buffer]
    root = roots(region)[store.access.buffer]
    place, scope = position_text(store.access, indices), scope_of(region, root)
    return f"store_{buffer.dtype}(b{root}, {place}, {name(store.value)}, {scope})"


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
    side_by_side = streams(loops)

    def body(depth: int) -> None:
        for position in values_at(loops, depth):
            source.line(value_line(region, position, names))
        for position in stores_at(loops, depth):
            source.line(store_line(region, position, names))

    def row(depth: int) -> None:
        body(depth)
        if depth == rank - 1:
            innermost("0", str(region.domain[-1]))

    def innermost(first: str, end: str) -> None:
        if side_by_side > 1:
            print_streams(source, loops, side_by_side, first, end)
        else:
            with source.block(f"for {names[-1]} in range({first}, {end}):"):
                body(rank)

    if not rank:
        body(0)
    elif rank > 1:
        (shared_loop if shared else loop)(source, names[:-1], region.domain[:-1], row)
    elif shared:
        body(0)
        innermost("begin", "end")
    else:
        row(0)


def values_at(loops: Nest, depth: int) -> list[int]:
    """Return the values that stand in the loop at `depth`, 0 being before the first loop."""
    return [k for k, level in enumerate(loops.levels) if max(level.axes, default=-1) + 1 == depth]


def stores_at(loops: Nest, depth: int) -> list[int]:
    """Return the stores that stand in the loop at `depth`."""
    found = []
    for position, store in enumerate(loops.region.stores):
        axes = {axis for axis, stride in enumerate(store.access.strides) if stride}
        if max(axes | loops.levels[store.value].axes, default=-1) + 1 == depth:
            found.append(position)
    return found


VECTOR = 16
"""Elements that stand side by side in one stream: a vector of float32 on the widest processors, several elsewhere."""
_MOST_STREAMS = 6
_LARGEST_BODY = 600
"""Instructions, about, of a loop body: beyond it neither the registers nor the processor's cache of decoded ones do."""
_WAIT = 0.75
"""What a group of vectors takes beside its vectors, in vectors: the processor waits for the end of the chain."""


def streams(loops: Nest) -> int:
    """Return how many vectors of the innermost axis are computed side by side; 1: LLVM decides.

    A long chain of dependent operations leaves the processor waiting: it looks only some 100 instructions ahead.
    LLVM interleaves short loops by itself, and scalar calls gain nothing.
    """
    if loops.brief:
        return 1
    region = loops.region
    rank = len(region.domain)
    inner = [region.values[k] for k in values_at(loops, rank)] if rank else []
    accesses = [value.access for value in inner if value.access is not None]
    accesses += [region.stores[k].access for k in stores_at(loops, rank)] if rank else []
    if any(access.strides[-1] not in (0, 1) for access in accesses) or any(map(_is_called, inner)):
        return 1
    size = sum(INSTRUCTIONS.get(value.op, 1) for value in inner)
    if size < _LEAST_BODY:
        return 1
    vectors = region.domain[-1] // VECTOR
    fitting = max(1, min(_MOST_STREAMS, _LARGEST_BODY // size, vectors))
    return min(range(fitting, 0, -1), key=lambda count: _time(vectors, count))


def _time(vectors: int, count: int) -> float:
    """Return about how long a row takes with `count` vectors side by side; those at its end stand alone."""
    return vectors // count * (count + _WAIT) + vectors % count * (1 + _WAIT)


_LEAST_BODY = 15
INSTRUCTIONS = {
    "exp": 16, "expm1": 20, "log": 24, "log1p": 30, "log2": 26, "sigmoid": 19, "tanh": 16, "erf": 34, "constant": 0,
    "sign": 4, "div": 2, "sqrt": 2, "rsqrt": 3, "reciprocal": 2, "cast": 2,
}  # fmt: skip
"""About how many vector instructions an op takes; 1 where it is not among these."""


def _is_called(value: Value) -> bool:
    """Return whether the op calls the mathematical library, or loops, one element at a time."""
    if value.op in ("sin", "cos", "pow", "atan2", "remainder"):
        return True
    return value.op in EXPENSIVE and value.dtype == "float64"


def print_streams(source: Source, loops: Nest, count: int, first: str, end: str) -> None:
    """Print the innermost loop from `first` to `end`, `count` vectors at a time, then what is left."""
    region = loops.region
    *outer, axis = axis_names(region)
    step, rank = count * VECTOR, len(region.domain)
    inner = set(values_at(loops, rank))

    def name(stream: int) -> Name:
        return lambda position: f"v{position}_{stream}" if position in inner else plain_name(position)

    if literal := first.isdigit() and end.isdigit():
        whole = str(int(first) + (int(end) - int(first)) // step * step)
    else:
        whole = "whole"
        source.line(f"whole = {first} + ({end} - {first}) // {step} * {step}")
    with source.block(f"for tile in range({first}, {whole}, {step}):"), source.block(f"for lane in range({VECTOR}):"):
        places = [f"(tile + lane + {stream * VECTOR})" if stream else "(tile + lane)" for stream in range(count)]
        for position in values_at(loops, rank):
            for stream, place in enumerate(places):
                source.line(value_line(region, position, [*outer, place], name(stream)))
        for position in stores_at(loops, rank):
            for stream, place in enumerate(places):
                source.line(store_line(region, position, [*outer, place], name(stream)))
    if literal and whole == end:
        return
    with source.block(f"for {axis} in range({whole}, {end}):"):
        for position in values_at(loops, rank):
            source.line(value_line(region, position, [*outer, axis]))
        for position in stores_at(loops, rank):
            source.line(store_line(region, position, [*outer, axis]))
