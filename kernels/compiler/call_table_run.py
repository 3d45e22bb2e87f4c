"""The compiled functions that make the calls of a table (see call_table.py)."""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir

from kernels.compiler.intrinsics import call_integer, call_parallel, intrinsic, load_int64

types: Any = numba.types
MOST_ARGUMENTS = 40
_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "boundscheck": False}
_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_SPINS = 2000
"""Looks at another thread's count before the core is offered to others: some microseconds."""


@intrinsic
def call_native(typing_context: Any, function: Any, arguments: Any, count: Any) -> Any:
    """Call compiled code at the address `function` with `count` 64-bit numbers from the address `arguments` on."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        function, arguments, count = values
        with builder.goto_entry_block():
            result, error = (builder.alloca(_I64, size=8) for _ in range(2))
        memory = builder.inttoptr(arguments, _I64.as_pointer())
        after = builder.append_basic_block("called")
        choice = builder.switch(count, after)
        for number in range(MOST_ARGUMENTS + 1):
            block = builder.append_basic_block(f"with{number}")
            choice.add_case(ir.Constant(_I64, number), block)
            with builder.goto_block(block):
                loaded = [builder.load(builder.gep(memory, [ir.Constant(_I64, k)])) for k in range(number)]
                kind = ir.FunctionType(_I32, [_I64.as_pointer()] * 2 + [_I64] * number)
                builder.call(builder.inttoptr(function, kind.as_pointer()), [result, error, *loaded])
                builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def read_count(typing_context: Any, address: Any) -> Any:
    """Return the count at an address; what was written before it was set is seen afterwards."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load_atomic(builder.inttoptr(values[0], _I64.as_pointer()), ordering="acquire", align=8)

    return types.int64(types.int64), generate


@intrinsic
def write_count(typing_context: Any, address: Any, value: Any) -> Any:
    """Set the count at an address, after all that was written before."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = builder.inttoptr(values[0], _I64.as_pointer())
        builder.store_atomic(values[1], place, ordering="release", align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@numba.njit("void(int64)", **_OPTIONS)
def run_list(place: Any) -> None:
    """Make the calls of a list that nobody waits for."""
    calls = load_int64(place, 0, 0)
    place += 8
    for _ in range(calls):
        function = load_int64(place, 0, 0)
        place += 16 + 16 * load_int64(place, 1, 0)
        count = load_int64(place, 0, 0)
        call_native(function, place + 8, count)
        place += 8 + 8 * count


@numba.njit("void(int64, int64, int64)", **_OPTIONS)
def _wait(address: Any, wanted: Any, pause: Any) -> None:
    looks = 0
    while read_count(address) < wanted:
        looks += 1
        if looks > _SPINS and pause != 0:
            call_integer(pause)


@numba.njit("void(int64, int64, int64, int64)", **_OPTIONS)
def _run_waiting(place: Any, progress: Any, own: Any, pause: Any) -> None:
    """Make the calls of a thread's list, each when those that it waits for are done."""
    calls = load_int64(place, 0, 0)
    place += 8
    for number in range(calls):
        function, waits = load_int64(place, 0, 0), load_int64(place, 1, 0)
        place += 16
        for _ in range(waits):
            _wait(progress + 64 * load_int64(place, 0, 0), load_int64(place, 1, 0), pause)
            place += 16
        count = load_int64(place, 0, 0)
        call_native(function, place + 8, count)
        place += 8 + 8 * count
        write_count(progress + 64 * own, number + 1)


@numba.cfunc("void(int64)", cache=True)
def share(task: Any) -> None:
    """Run the list of this thread of the team. task: see call_table."""
    threads = call_integer(load_int64(task, 0, 0))
    thread = call_integer(load_int64(task, 1, 0))
    table, progress, pause = load_int64(task, 2, 0), load_int64(task, 3, 0), load_int64(task, 4, 0)
    if threads == load_int64(task, 5, 0):
        _run_waiting(table + 8 * load_int64(table, 1 + thread, 0), progress, thread, pause)
    elif thread == 0:
        run_list(load_int64(task, 6, 0))


@numba.njit("void(int64, int64, int64, int64)", **_OPTIONS)
def start_team(parallel: Any, function: Any, task: Any, threads: Any) -> None:
    """Run each list on a thread of its own."""
    progress = load_int64(task, 3, 0)
    for thread in range(threads):
        write_count(progress + 64 * thread, 0)
    call_parallel(parallel, function, task, threads)
