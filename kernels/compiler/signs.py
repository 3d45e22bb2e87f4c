"""Which values of a region can't be above, or below, zero: kernels leave out what only the other sign would need."""

from __future__ import annotations

from kernels.compiler.ir import Region, Value

Sign = tuple[bool, bool]
"""(never negative, never positive); NaN and both zeros count as neither."""
_UNKNOWN: Sign = (False, False)
_NEVER_NEGATIVE = ("abs", "exp", "sigmoid", "sqrt", "relu")
_KEEPING = ("cast", "reduce_max", "reduce_min", "reduce_sum")


def never_positive(region: Region, position: int) -> bool:
    """Return whether a floating value is at most 0, or NaN, whatever the inputs are; False where nothing tells."""
    return signs(region)[position][1]


def signs(region: Region) -> list[Sign]:
    """Return what is known of each value's sign."""
    found: list[Sign] = []
    for value in region.values:
        found.append(_sign(region, value, [found[k] for k in value.operands]))
    return found


def _sign(region: Region, value: Value, operands: list[Sign]) -> Sign:
    if not value.dtype.startswith("float"):  # integers wrap
        return _UNKNOWN
    if value.op == "constant":
        number = float(value.constant or 0)
        return not number < 0, not number > 0
    if value.op in _NEVER_NEGATIVE:
        return True, False
    if value.op in _KEEPING:
        return operands[0]
    if value.op == "neg":
        return operands[0][::-1]
    if value.op == "where":
        return _both(operands[1], operands[2])
    if value.op in ("add", "sub", "mul", "maximum", "minimum"):
        return _of_two(region, value, *operands)
    return _UNKNOWN


def _of_two(region: Region, value: Value, left: Sign, right: Sign) -> Sign:
    if value.op == "add":
        return _both(left, right)
    if value.op == "sub":
        minuend, subtrahend = value.operands
        taken = region.values[subtrahend]
        # softmax: no element is above the highest of its row
        if taken.op in ("reduce_max", "reduce_min") and taken.operands == (minuend,):
            return taken.op == "reduce_min", taken.op == "reduce_max"
        return _both(left, right[::-1])
    if value.op == "mul":
        if value.operands[0] == value.operands[1]:
            return True, False
        same, opposite = _both(left, right), _both(left, right[::-1])
        return any(same), any(opposite)
    higher = value.op == "maximum"
    either = left[0] or right[0] if higher else left[1] or right[1]
    both = _both(left, right)
    return (either, both[1]) if higher else (both[0], either)


def _both(left: Sign, right: Sign) -> Sign:
    return left[0] and right[0], left[1] and right[1]
