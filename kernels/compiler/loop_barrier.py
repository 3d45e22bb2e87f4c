"""Where the threads of a shared loop wait for each other between its statements."""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import extending

types: Any = numba.types

PATIENCE = 2000
"""Looks at the counter before a thread offers its core: on a core that others share, waiting alone would hang."""
_INT32, _INT64 = ir.IntType(32), ir.IntType(64)


@extending.intrinsic
def wait_for_all(typing_context: Any, counter: Any, goal: Any, yielding: Any) -> Any:
    """Add 1 to the int64 at the address `counter` and return once it is `goal` or above.

    yielding: the address of C's sched_yield. What any thread stored before it waited is seen by all afterwards.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], _INT64.as_pointer())
        before = builder.block
        look, patient, offer, after = (
            builder.append_basic_block(name) for name in ("look", "patient", "offer", "together")
        )
        builder.atomic_rmw("add", place, ir.Constant(_INT64, 1), "acq_rel")
        builder.branch(look)
        builder.position_at_end(look)
        looks = builder.phi(_INT64)
        looks.add_incoming(ir.Constant(_INT64, 0), before)
        more = builder.add(looks, ir.Constant(_INT64, 1))
        value = builder.load_atomic(place, "acquire", 8)
        builder.cbranch(builder.icmp_signed(">=", value, arguments[1]), after, patient)
        builder.position_at_end(patient)
        _pause(builder)
        builder.cbranch(builder.icmp_signed("<", more, ir.Constant(_INT64, PATIENCE)), look, offer)
        looks.add_incoming(more, patient)
        builder.position_at_end(offer)
        function = builder.inttoptr(arguments[2], ir.FunctionType(_INT32, []).as_pointer())
        builder.call(function, [])
        builder.branch(look)
        looks.add_incoming(more, offer)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


def _pause(builder: Any) -> None:
    """Tell an x86 core that it waits: the other one's store is seen sooner."""
    if llvm.get_process_triple().startswith(("x86", "i")):
        name = "llvm.x86.sse2.pause"
        found = builder.module.globals.get(name)
        kind = ir.FunctionType(ir.VoidType(), [])
        builder.call(ir.Function(builder.module, kind, name) if found is None else found, [])
