"""The rules of the IR, checked before anything is printed: what passes compiles and touches only its memory."""

from __future__ import annotations

from kernels.compiler.footprint import element_range, is_injective, may_overlap
from kernels.compiler.ir import (
    BINARY,
    BITWISE,
    COMPARE,
    DTYPES,
    FLOATING,
    INTEGER,
    LOGICAL,
    OPS,
    REDUCTIONS,
    TESTS,
    UNARY,
    Access,
    IrError,
    Region,
    Value,
)
from kernels.compiler.levels import levels
from kernels.compiler.source import roots

NUMERIC = (*INTEGER, *FLOATING)
_INTEGER_ARITHMETIC = (
    "neg", "abs", "sign", "relu", "floor", "ceil", "round", "trunc",
    "add", "sub", "mul", "maximum", "minimum", "pow", "remainder",
)  # fmt: skip


def verify(region: Region) -> None:
    """Return nothing if the region keeps every rule of ir.py; raise IrError on the first that it breaks."""
    _check_domain(region)
    _check_buffers(region)
    for position, value in enumerate(region.values):
        _check_value(region, position, value)
    _check_stores(region)
    _check_memory(region)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise IrError(message)


def _check_domain(region: Region) -> None:
    for axis, extent in enumerate(region.domain):
        _require(extent >= 1, f"axis {axis} has extent {extent}; leave empty regions out")
    _require(
        0 <= region.reduced <= len(region.domain),
        f"{region.reduced} reduced axes in a domain of {len(region.domain)}",
    )
    _require(bool(region.stores), "the region stores nothing; give it an output")


def _check_buffers(region: Region) -> None:
    for position, buffer in enumerate(region.buffers):
        name = f"buffer {position} ({buffer.name})"
        _require(buffer.dtype in DTYPES, f"{name} has the dtype {buffer.dtype}; known are {', '.join(DTYPES)}")
        _require(buffer.elements >= 1, f"{name} has {buffer.elements} elements; it needs at least 1")
        same = buffer.same_as
        if same is not None:
            _require(0 <= same < position, f"{name} is the same as buffer {same}, which is no earlier one")
            _require(
                region.buffers[same].dtype == buffer.dtype,
                f"{name} has the dtype {buffer.dtype}, the buffer it is the same as {region.buffers[same].dtype}",
            )


def _check_value(region: Region, position: int, value: Value) -> None:
    name = f"value {position} ({value.op})"
    _require(value.op in OPS, f"{name} is no op of the IR")
    _require(value.dtype in DTYPES, f"{name} has the dtype {value.dtype}; known are {', '.join(DTYPES)}")
    for operand in value.operands:
        _require(0 <= operand < position, f"{name} uses value {operand}, which is no earlier one")
    count = _operand_count(value.op)
    _require(len(value.operands) == count, f"{name} takes {count} operands, it has {len(value.operands)}")
    _check_attributes(region, name, value)
    if value.operands:
        _check_dtypes(region, name, value)


def _operand_count(op: str) -> int:
    if op in ("load", "constant", "index"):
        return 0
    if op == "where":
        return 3
    two = (*BINARY, *COMPARE, *LOGICAL, *BITWISE)
    return 2 if op in two and not op.endswith("_not") else 1


def _check_attributes(region: Region, name: str, value: Value) -> None:
    """Check access, constant and axis: each is there for its op, and for no other."""
    _require((value.access is not None) == (value.op == "load"), f"{name}: a load and nothing else has an access")
    _require(
        (value.constant is not None) == (value.op == "constant"),
        f"{name}: a constant and nothing else has a constant",
    )
    _require((value.axis is not None) == (value.op == "index"), f"{name}: an index and nothing else has an axis")
    if value.access is not None:
        _check_access(region, name, value.access)
        buffer = region.buffers[value.access.buffer]
        _require(value.dtype == buffer.dtype, f"{name} is {value.dtype}, its buffer {buffer.name} {buffer.dtype}")
    if value.constant is not None:
        _check_constant(name, value.dtype, value.constant)
    if value.axis is not None:
        _require(0 <= value.axis < len(region.domain), f"{name} names axis {value.axis} of {len(region.domain)}")
        _require(value.dtype == "int64", f"{name} is {value.dtype}; an index is int64")


def _check_access(region: Region, name: str, access: Access) -> None:
    _require(0 <= access.buffer < len(region.buffers), f"{name} names buffer {access.buffer}, which is not there")
    buffer = region.buffers[access.buffer]
    _require(
        len(access.strides) == len(region.domain),
        f"{name} has {len(access.strides)} strides for {len(region.domain)} axes",
    )
    low, high = element_range(access, region.domain)
    _require(
        low >= 0 and high < buffer.elements,
        f"{name} touches elements {low} to {high} of buffer {buffer.name}, which has {buffer.elements}",
    )


def _check_constant(name: str, dtype: str, constant: float | int | bool) -> None:
    if dtype in INTEGER:
        bits = 32 if dtype == "int32" else 64
        fits = float(constant).is_integer() and -(2 ** (bits - 1)) <= int(constant) < 2 ** (bits - 1)
        _require(fits, f"{name} {constant} is no {dtype}")
    if dtype == "bool":
        _require(constant in (0, 1), f"{name} {constant} is no bool")


def _check_dtypes(region: Region, name: str, value: Value) -> None:
    kinds = [region.values[operand].dtype for operand in value.operands]
    compared = kinds[1:] if value.op == "where" else kinds
    _require(len(set(compared)) == 1, f"{name} mixes the dtypes {', '.join(compared)}; cast them first")
    allowed = _allowed(value.op)
    _require(compared[0] in allowed, f"{name} of {compared[0]}; it takes {', '.join(allowed)}")
    if value.op == "where":
        _require(kinds[0] == "bool", f"{name} has a condition of {kinds[0]}; it takes bool")
    if value.op != "cast":
        result = "bool" if value.op in (*COMPARE, *TESTS) else compared[0]
        _require(value.dtype == result, f"{name} of {compared[0]} gives {result}, not {value.dtype}")
    if value.op == "remainder" and compared[0] in INTEGER:
        divisor = region.values[value.operands[1]]
        _require(bool(divisor.constant), f"{name} of integers needs a constant divisor that is not 0")
    if value.op in REDUCTIONS:
        _require(region.reduced > 0, f"{name} in a region without reduced axes")


def _allowed(op: str) -> tuple[str, ...]:
    if op in ("cast", "where", *COMPARE):
        return DTYPES
    if op in (*LOGICAL, "reduce_any", "reduce_all"):
        return ("bool",)
    if op in BITWISE:
        return (*INTEGER, "bool")
    if op in _INTEGER_ARITHMETIC or op in REDUCTIONS:
        return NUMERIC
    assert op in (*UNARY, *BINARY, *TESTS)
    return FLOATING


def _check_stores(region: Region) -> None:
    found = levels(region)
    for position, store in enumerate(region.stores):
        name = f"store {position}"
        _require(0 <= store.value < len(region.values), f"{name} names value {store.value}, which is not there")
        _check_access(region, name, store.access)
        buffer, value = region.buffers[store.access.buffer], region.values[store.value]
        _require(buffer.written, f"{name} goes to buffer {buffer.name}, which is not marked as written")
        _require(
            buffer.dtype == value.dtype,
            f"{name} puts {value.dtype} into buffer {buffer.name}, which is {buffer.dtype}; cast it first",
        )
        strides = store.access.strides
        for axis in sorted(found[store.value].axes):
            _require(
                strides[axis] != 0 or region.domain[axis] == 1,
                f"{name} puts the values along axis {axis} all into one element; give the axis a stride",
            )
        _require(
            is_injective(store.access, region.domain),
            f"{name} (strides {strides}, domain {region.domain}) puts several points into one element",
        )


def _check_memory(region: Region) -> None:
    """Check that stores do not meet each other, nor loads of what is written but at the very same place."""
    root = roots(region)
    stores = list(enumerate(region.stores))
    for position, store in stores:
        for other, earlier in stores[:position]:
            if root[store.access.buffer] == root[earlier.access.buffer]:
                same = store.value == earlier.value and _same_place(store.access, earlier.access)
                _require(
                    same or not may_overlap(store.access, earlier.access, region.domain),
                    f"stores {other} and {position} write to the same elements of {_buffer(region, store.access)}",
                )
    for position, value in enumerate(region.values):
        access = value.access
        if access is None:
            continue
        for other, store in stores:
            if root[access.buffer] == root[store.access.buffer]:
                _check_in_place(region, position, access, other, store.access)


def _check_in_place(region: Region, position: int, load: Access, other: int, store: Access) -> None:
    if not may_overlap(load, store, region.domain):
        return
    _require(
        _same_place(load, store),
        f"value {position} loads elements of {_buffer(region, store)} that store {other} writes at other points",
    )
    first = len(region.domain) - region.reduced
    # A point is run once for each index of an axis of stride 0: a second run would read what the first one stored.
    # Reduced axes of a row-level access are no second run: it is carried out once a row.
    repeated = [
        axis
        for axis, extent in enumerate(region.domain)
        if extent > 1 and not store.strides[axis] and (axis < first or any(store.strides[first:]))
    ]
    _require(
        not repeated,
        f"store {other} updates {_buffer(region, store)} in place once for each index of axes {repeated}",
    )


def _same_place(first: Access, second: Access) -> bool:
    return first.offset == second.offset and first.strides == second.strides


def _buffer(region: Region, access: Access) -> str:
    return f"buffer {region.buffers[access.buffer].name}"
