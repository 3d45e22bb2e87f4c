"""Many kernel calls as one: a compiled function that takes them from a table, on one thread or side by side on several.

A table of 64-bit numbers holds, for each thread, its calls in order:

    [threads, begin of each thread's list ...]  then lists of  [calls, call ...]
    call: [function, waits, (thread, calls that it must have done) ..., arguments, argument ...]

A thread waits for others by their counts of finished calls, which stand in memory of their own, a cache line each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.compiler import openmp
from kernels.compiler.loading import loading_alone

_LINE = 8
"""64-bit numbers in a cache line."""


@dataclass(frozen=True, slots=True)
class TableCall:
    """One call. function: address of compiled code; waits: for each other thread, how many calls it must have done."""

    function: int
    arguments: tuple[int, ...]
    waits: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class CallTable:
    """Calls that run as one: `table()`. Nothing is checked: the addresses must hold what the kernels expect."""

    numbers: npt.NDArray[np.int64]
    threads: int
    _run: Callable[..., None] = field(repr=False)
    _arguments: tuple[int, ...]
    _alive: tuple[Any, ...] = field(repr=False)
    """Keeps memory and machine code alive that the table only has addresses of."""

    def __call__(self) -> None:
        """Make all calls."""
        self._run(*self._arguments)


def serial_table(calls: Sequence[TableCall], alive: tuple[Any, ...] = ()) -> CallTable | str:
    """Return the table that makes the calls one after the other, or in one line why there is none.

    alive: what must not be freed while the table is used.
    """
    if too_long := _too_long([calls]):
        return too_long
    numbers = _numbers([calls])
    address = int(numbers.ctypes.data)
    return CallTable(numbers, 1, _entry(_compiled().run_list), (address + 8 * int(numbers[1]),), alive)


def team_table(lists: Sequence[Sequence[TableCall]], serial: CallTable, alive: tuple[Any, ...] = ()) -> CallTable | str:
    """Return the table of a list of calls for each thread, or in one line why there is none.

    serial: all the calls in order, for the case that the pool gives fewer threads. alive: as in serial_table.
    """
    if too_long := _too_long(lists):
        return too_long
    pool = openmp.pool()
    if isinstance(pool, str):
        return pool
    numbers = _numbers(lists)
    address = int(numbers.ctypes.data)
    progress = np.zeros(_LINE * (len(lists) + 1), np.int64)
    counts = -(-progress.ctypes.data // 64) * 64
    own = (address, counts, pool.table[3], len(lists), serial._arguments[0])
    task = np.array([*pool.table[1:3], *own], np.int64)
    arguments = (int(pool.table[0]), int(_compiled().share.address), int(task.ctypes.data), len(lists))
    return CallTable(
        numbers, len(lists), _entry(_compiled().start_team), arguments, (*alive, pool, progress, task, serial)
    )


def _too_long(lists: Sequence[Sequence[TableCall]]) -> str:
    longest = max((len(call.arguments) for calls in lists for call in calls), default=0)
    most = _compiled().MOST_ARGUMENTS
    return f"a kernel takes {longest} addresses; a table holds up to {most}" if longest > most else ""


@cache
def _compiled() -> Any:
    """Return the module of compiled functions, when the first table is made: most programs need none."""
    with loading_alone():
        from kernels.compiler import call_table_run
    return call_table_run


def _numbers(lists: Sequence[Sequence[TableCall]]) -> npt.NDArray[np.int64]:
    head = [len(lists)]
    body: list[int] = []
    start = 1 + len(lists)
    for calls in lists:
        head.append(start + len(body))
        body.append(len(calls))
        for call in calls:
            body += [call.function, len(call.waits), *(number for wait in call.waits for number in wait)]
            body += [len(call.arguments), *call.arguments]
    return np.array([*head, *body], np.int64)


def native_address(dispatcher: Any) -> int:
    """Return the address of a Numba function's machine code: int32 f(void *result, void *error, int64 ...)."""
    (compiled,) = dispatcher.overloads.values()
    return int(compiled.library.get_pointer_to_function(compiled.fndesc.mangled_name))


def _entry(dispatcher: Any) -> Callable[..., None]:
    (compiled,) = dispatcher.overloads.values()
    entry: Callable[..., None] = compiled.entry_point
    return entry
