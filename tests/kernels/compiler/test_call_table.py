"""Tables of kernel calls: the same results as calls one by one, in order where a thread waits for another."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kernels.compiler.call_table import CallTable, TableCall, native_address, serial_table, team_table
from kernels.compiler.compile import compile_kernel
from kernels.compiler.ir import Access, Buffer, Region, Store, Value
from kernels.compiler.loaded import FUNCTION

SIZE = 37


@pytest.fixture(scope="module")
def add_one_to_double(tmp_path_factory):
    """out = 2 x + y, as (entry, address of machine code)."""
    values = (
        Value("load", "float32", access=Access(0, 0, (1,))),
        Value("load", "float32", access=Access(1, 0, (1,))),
        Value("add", "float32", (0, 0)),
        Value("add", "float32", (2, 1)),
    )
    buffers = (
        Buffer("x", "float32", SIZE),
        Buffer("y", "float32", SIZE),
        Buffer("out", "float32", SIZE, True),
    )
    region = Region((SIZE,), 0, buffers, values, (Store(3, Access(2, 0, (1,))),))
    compiled = compile_kernel(region, tmp_path_factory.mktemp("kernels"))
    return compiled, native_address(getattr(compiled._module, FUNCTION))


def arrays(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(count)
    return [rng.normal(size=SIZE).astype(np.float32) for _ in range(count)]


def address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def test_a_table_makes_its_calls_in_order(add_one_to_double) -> None:
    compiled, function = add_one_to_double
    x = arrays(12)
    expected = [x[0].copy()]
    for _k in range(11):
        expected.append(expected[-1] + expected[-1] + x[0])
    calls = [TableCall(function, (address(x[k]), address(x[0]), address(x[k + 1]))) for k in range(11)]
    table = serial_table(calls, (compiled,))
    assert isinstance(table, CallTable)
    table()
    for found, wanted in zip(x, expected, strict=True):
        assert np.array_equal(found, wanted)


def test_an_empty_table_does_nothing() -> None:
    table = serial_table([])
    assert isinstance(table, CallTable)
    table()


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_wait_for_what_they_read(threads: int, add_one_to_double) -> None:
    assert torch.get_num_threads() >= 1  # torch brings the pool
    compiled, function = add_one_to_double
    x = arrays(31)
    start = x[0].copy()
    calls = [TableCall(function, (address(x[k]), address(x[0]), address(x[k + 1]))) for k in range(30)]
    lists: list[list[TableCall]] = [[] for _ in range(threads)]
    done: list[tuple[int, int]] = []
    for number, call in enumerate(calls):
        thread = number % threads
        waits = ((done[-1][0], done[-1][1] + 1),) if done else ()
        done.append((thread, len(lists[thread])))
        lists[thread].append(TableCall(call.function, call.arguments, waits))
    serial = serial_table(calls, (compiled,))
    assert isinstance(serial, CallTable)
    serial()
    expected = [item.copy() for item in x]
    table = team_table(lists, serial)
    assert isinstance(table, CallTable), table
    for _ in range(15):
        for item in x[1:]:
            item[...] = np.nan
        table()
        assert np.array_equal(x[0], start)
        assert all(np.array_equal(found, wanted) for found, wanted in zip(x, expected, strict=True))


def test_a_kernel_of_too_many_addresses_is_refused_in_words() -> None:
    assert "takes 99 addresses" in str(serial_table([TableCall(0, (0,) * 99)]))
