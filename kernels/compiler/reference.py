"""A NumPy interpreter of the IR: slow, plain, and the oracle that every printer is tested against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from kernels.compiler.ir import FLOATING, Access, IrError, Region, Value

Array = np.ndarray[Any, np.dtype[Any]]

_NUMPY = {"float32": np.float32, "float64": np.float64, "int32": np.int32, "int64": np.int64, "bool": np.bool_}


def evaluate(region: Region, arrays: Sequence[Array], exact: bool = False) -> None:
    """Return nothing; store the region's results into `arrays`, one flat array for each buffer.

    arrays: `arrays[k]` holds at least `buffers[k].elements` elements of that buffer's dtype; with `exact` floating
            buffers may be float64 arrays too. An in-place buffer (`same_as`) is the same array twice.
    exact:  compute every floating value in float64 (the float64 reference); else in the value's own dtype.
    Every load sees what the arrays held before the call. Raises IrError if an array does not fit its buffer.
    """
    _check_arrays(region, arrays, exact)
    results: list[Array] = []
    with np.errstate(all="ignore"):
        for value in region.values:
            operands = [results[k] for k in value.operands]
            results.append(_evaluate_value(region, value, operands, arrays, exact))
        for store in region.stores:
            _store(region, store.access, results[store.value], arrays[store.access.buffer])


def _check_arrays(region: Region, arrays: Sequence[Array], exact: bool) -> None:
    if len(arrays) != len(region.buffers):
        raise IrError(f"{len(arrays)} arrays for {len(region.buffers)} buffers; give one for each")
    for buffer, array in zip(region.buffers, arrays, strict=True):
        allowed = {buffer.dtype} | ({"float64"} if exact and buffer.dtype in FLOATING else set())
        if array.ndim != 1 or not array.flags.c_contiguous or array.dtype.name not in allowed:
            raise IrError(f"buffer {buffer.name} needs a flat {buffer.dtype} array, not {array.dtype}{array.shape}")
        if array.size < buffer.elements:
            raise IrError(f"buffer {buffer.name} needs {buffer.elements} elements, its array has {array.size}")


def _window(region: Region, access: Access, array: Array) -> Array:
    """Return a view of one element for each point of the domain; axes of stride 0 have extent 1."""
    shape = [1 if stride == 0 else extent for extent, stride in zip(region.domain, access.strides, strict=True)]
    strides = [stride * array.itemsize for stride in access.strides]
    return as_strided(array[access.offset :], shape, strides)


def _store(region: Region, access: Access, result: Array, array: Array) -> None:
    window = _window(region, access, array)
    # A value that does not vary along an axis of stride 0 has extent 1 there, as the window has.
    window[...] = np.broadcast_to(result, np.broadcast_shapes(result.shape, window.shape)).astype(array.dtype)


def _evaluate_value(region: Region, value: Value, operands: list[Array], arrays: Sequence[Array], exact: bool) -> Array:
    dtype = np.float64 if exact and value.dtype in FLOATING else _NUMPY[value.dtype]
    rank = len(region.domain)
    if value.op == "load":
        assert value.access is not None
        return _window(region, value.access, arrays[value.access.buffer]).astype(dtype)
    if value.op == "constant":
        return np.full((1,) * rank, value.constant, dtype)
    if value.op == "index":
        assert value.axis is not None
        shape = [extent if axis == value.axis else 1 for axis, extent in enumerate(region.domain)]
        return np.arange(region.domain[value.axis], dtype=np.int64).reshape(shape)
    if value.op == "cast":
        return _cast(operands[0], np.dtype(dtype))
    if value.op.startswith("reduce_"):
        return _reduce(region, value.op, operands[0])
    return np.asarray(ELEMENTWISE[value.op](*operands)).astype(dtype, copy=False)


def _cast(operand: Array, dtype: np.dtype[Any]) -> Array:
    """Return the operand as torch's Tensor.to casts it: truncation, wrap-around, out of range -> lowest integer."""
    if operand.dtype.kind == "f" and dtype.kind == "i":
        low, high = np.iinfo(dtype).min, -float(np.iinfo(dtype).min)
        inside = (
            (operand > low - 1.0) & (operand < high) if dtype.itemsize == 4 else (operand >= low) & (operand < high)
        )
        return np.where(inside, np.where(inside, operand, 0).astype(dtype), low).astype(dtype)
    if dtype.kind == "b":
        return np.asarray(operand != 0)
    return operand.astype(dtype)


def _reduce(region: Region, op: str, operand: Array) -> Array:
    rank, first = len(region.domain), len(region.domain) - region.reduced
    extents = (*operand.shape[:first], *region.domain[first:])
    axes = tuple(range(first, rank))
    return np.asarray(_REDUCTIONS[op](np.broadcast_to(operand, extents), axes))


def _sum(array: Array, axes: tuple[int, ...]) -> Array:
    return np.asarray(np.sum(array, axis=axes, keepdims=True, dtype=array.dtype))


def _product(array: Array, axes: tuple[int, ...]) -> Array:
    return np.asarray(np.prod(array, axis=axes, keepdims=True, dtype=array.dtype))


_REDUCTIONS: dict[str, Callable[[Array, tuple[int, ...]], Any]] = {
    "reduce_sum": _sum,
    "reduce_prod": _product,
    "reduce_max": lambda array, axes: np.max(array, axis=axes, keepdims=True),
    "reduce_min": lambda array, axes: np.min(array, axis=axes, keepdims=True),
    "reduce_any": lambda array, axes: np.any(array, axis=axes, keepdims=True),
    "reduce_all": lambda array, axes: np.all(array, axis=axes, keepdims=True),
}


def _sign(x: Array) -> Array:
    # torch.sign(nan) is 0
    return np.asarray((x > 0).astype(x.dtype) - (x < 0).astype(x.dtype))


def _relu(x: Array) -> Array:
    # keeps NaN and -0.0, as torch does
    return np.where(x < 0, np.zeros((), x.dtype), x)


def _erf(x: Array) -> Array:
    # Imported here: it loads for half a second, and only who checks a kernel needs it.
    from scipy.special import erf

    result: Array = erf(x)
    return result


def _sigmoid(x: Array) -> Array:
    one = np.ones((), x.dtype)
    return np.asarray(one / (one + np.exp(-x)))


def _power(x: Array, y: Array) -> Array:
    if x.dtype.kind == "f":
        return np.asarray(np.power(x, y))
    # torch: a negative exponent gives 0 except for 1 and -1; NumPy raises
    result = np.power(x, np.where(y < 0, 0, y))
    parity = np.where(y & 1 == 1, x, 1)
    return np.where(y < 0, np.where(np.abs(x) == 1, parity, 0), result)


def _remainder(x: Array, y: Array) -> Array:
    """Return the remainder with the divisor's sign; floating: fmod, then one addition, as torch computes it."""
    if x.dtype.kind != "f":
        return np.asarray(np.remainder(x, y))
    remainder = np.fmod(x, y)
    moved = (remainder != 0) & ((y < 0) != (remainder < 0))
    return np.where(moved, remainder + y, remainder)


def _rounding(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the rounding that leaves integers as they are (NumPy would make some of them floats)."""
    return lambda x: function(x) if x.dtype.kind == "f" else x


def _logical_not(x: Array) -> Array:
    return np.logical_not(x)


ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "neg": np.negative, "abs": np.abs, "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p,
    "log2": np.log2, "sqrt": np.sqrt, "rsqrt": lambda x: np.ones((), x.dtype) / np.sqrt(x),
    "reciprocal": lambda x: np.ones((), x.dtype) / x, "sigmoid": _sigmoid, "tanh": np.tanh, "erf": _erf,
    "sin": np.sin, "cos": np.cos, "floor": _rounding(np.floor), "ceil": _rounding(np.ceil),
    "round": _rounding(np.rint), "trunc": _rounding(np.trunc),
    "sign": _sign, "relu": _relu,
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "maximum": np.maximum,
    "minimum": np.minimum, "pow": _power, "remainder": _remainder, "atan2": np.arctan2,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "isnan": np.isnan, "isinf": np.isinf,
    "logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor,
    "logical_not": _logical_not,
    "bitwise_and": np.bitwise_and, "bitwise_or": np.bitwise_or, "bitwise_xor": np.bitwise_xor,
    "bitwise_not": np.invert, "where": np.where,
}  # fmt: skip
"""One NumPy function for each op that works element by element."""
