"""Choices between two values for generated kernels, without a branch: on the device, on the host, in the simulator.

    select(condition, a, b) -> a where the bool is true, else b
    maximum(a, b), minimum(a, b)    NaN if either is one, as torch has it
a and b have one dtype. Python's conditional expressions would do too, but each is a branch to Numba: a kernel that is
unrolled takes several times as long to compile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def compiled_choices(intrinsic: Callable[..., Any], types: Any) -> dict[str, Any]:
    """Return the functions by name as Numba intrinsics of one target."""

    @intrinsic
    def select(typing_context, condition, first, second):  # type: ignore[no-untyped-def]
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.select(*arguments)

        return (first(types.boolean, first, second), emit) if first == second else None

    return {
        "select": select,
        "maximum": _extreme(intrinsic, types, ">"),
        "minimum": _extreme(intrinsic, types, "<"),
    }


def simulated_choices() -> dict[str, Callable[..., Any]]:
    """Return the functions by name for the simulator."""
    return {
        "select": lambda condition, first, second: first if condition else second,
        "maximum": lambda first, second: first if first != first or first > second else second,
        "minimum": lambda first, second: first if first != first or first < second else second,
    }


def _extreme(intrinsic: Callable[..., Any], types: Any, order: str) -> Any:
    @intrinsic
    def extreme(typing_context, first, second):  # type: ignore[no-untyped-def]
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            one, other = arguments
            if isinstance(first, types.Integer):
                return builder.select(builder.icmp_signed(order, one, other), one, other)
            wins = builder.or_(builder.fcmp_unordered("uno", one, one), builder.fcmp_ordered(order, one, other))
            return builder.select(wins, one, other)

        return (first(first, second), emit) if first == second else None

    return extreme
