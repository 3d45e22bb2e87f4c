from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.compiler.ir import Access, Buffer, IrError, Region, Store, Value
from kernels.compiler.verify import verify
from tests.kernels.compiler.regions import Builder, layer_norm, lstm_cell, random_region, softmax

LOAD = Value("load", "float32", access=Access(0, 0, (5, 1)))


def region(*values: Value, reduced: int = 0, store: Store | None = None, buffers: tuple[Buffer, ...] = ()) -> Region:
    """Return a region over (4, 5) that loads x as value 0 and stores its last value to y."""
    memory = (Buffer("x", "float32", 20), Buffer("y", "float32", 20, written=True), *buffers)
    return Region((4, 5), reduced, memory, (LOAD, *values), (store or Store(len(values), Access(1, 0, (5, 1))),))


def value(op: str, *operands: int, dtype: str = "float32", **attributes) -> Value:
    return Value(op, dtype, operands, **attributes)


IN_PLACE = Buffer("z", "float32", 20, written=True, same_as=0)
BROKEN = {
    "axis 1 has extent 0": replace(region(), domain=(4, 0)),
    "3 reduced axes in a domain of 2": replace(region(), reduced=3),
    "stores nothing": replace(region(), stores=()),
    r"buffer 2 \(b\) has the dtype float16": region(buffers=(Buffer("b", "float16", 1),)),
    r"buffer 2 \(b\) has 0 elements": region(buffers=(Buffer("b", "float32", 0),)),
    "same as buffer 2, which is no earlier one": region(buffers=(Buffer("b", "float32", 1, same_as=2),)),
    "has the dtype int32, the buffer it is the same as float32": region(
        buffers=(Buffer("b", "int32", 1, written=True, same_as=0),)
    ),
    r"value 1 \(gelu\) is no op": region(value("gelu", 0)),
    "has the dtype float16": region(value("exp", 0, dtype="float16")),
    "uses value 1, which is no earlier one": region(value("exp", 1)),
    "takes 2 operands, it has 1": region(value("add", 0)),
    "takes 1 operands, it has 2": region(value("exp", 0, 0)),
    "a load and nothing else has an access": region(value("load")),
    "a constant and nothing else has a constant": region(value("exp", 0, constant=1.0)),
    "an index and nothing else has an axis": region(value("index", dtype="int64")),
    "names axis 2 of 2": region(value("index", dtype="int64", axis=2)),
    "an index is int64": region(value("index", axis=0)),
    "1.5 is no int32": region(value("constant", dtype="int32", constant=1.5)),
    "4294967296 is no int32": region(value("constant", dtype="int32", constant=2**32)),
    "inf is no int64": region(value("constant", dtype="int64", constant=float("inf"))),
    "2 is no bool": region(value("constant", dtype="bool", constant=2)),
    "names buffer 9": region(value("load", access=Access(9, 0, (5, 1)))),
    "1 strides for 2 axes": region(value("load", access=Access(0, 0, (1,)))),
    "touches elements 1 to 20 of buffer x, which has 20": region(value("load", access=Access(0, 1, (5, 1)))),
    "touches elements -4 to 15": region(value("load", access=Access(0, 0, (5, -1)))),
    "is int32, its buffer x float32": region(value("load", dtype="int32", access=Access(0, 0, (5, 1)))),
    "mixes the dtypes float32, int64": region(
        value("constant", dtype="int64", constant=1), value("add", 0, 1), store=Store(2, Access(1, 0, (5, 1)))
    ),
    "gives bool, not float32": region(value("lt", 0, 0)),
    "gives float32, not float64": region(value("exp", 0, dtype="float64")),
    r"\(exp\) of int64; it takes float32, float64": region(
        value("index", dtype="int64", axis=0), value("exp", 1, dtype="int64")
    ),
    r"\(logical_not\) of float32; it takes bool": region(value("logical_not", 0)),
    r"\(bitwise_and\) of float32": region(value("bitwise_and", 0, 0)),
    r"\(reduce_any\) of float32": region(value("reduce_any", 0), reduced=1),
    "has a condition of float32": region(value("where", 0, 0, 0)),
    "constant divisor that is not 0": region(
        value("index", dtype="int64", axis=0), value("remainder", 1, 1, dtype="int64")
    ),
    "in a region without reduced axes": region(value("reduce_sum", 0)),
    "store 0 names value 7": region(store=Store(7, Access(1, 0, (5, 1)))),
    "store 0 touches elements 3 to 22": region(store=Store(0, Access(1, 3, (5, 1)))),
    "which is not marked as written": region(store=Store(0, Access(0, 0, (5, 1)))),
    "puts bool into buffer y, which is float32": region(value("isnan", 0, dtype="bool")),
    "puts the values along axis 1 all into one element": region(store=Store(0, Access(1, 0, (5, 0)))),
    "puts several points into one element": region(store=Store(0, Access(1, 0, (1, 1)))),
    "loads elements of buffer z that store 0 writes at other points": region(
        buffers=(IN_PLACE,), store=Store(0, Access(2, 0, (1, 4)))
    ),
    "write to the same elements of buffer y": replace(
        region(), stores=(Store(0, Access(1, 0, (5, 1))), Store(0, Access(1, 0, (1, 4))))
    ),
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_region_is_refused_in_one_line(message):
    with pytest.raises(IrError, match=message) as raised:
        verify(BROKEN[message])
    assert "\n" not in str(raised.value)


def test_an_in_place_update_run_twice_is_refused():
    b = Builder(3, 4)
    x = b.load(b.buffer(4, written=True), 0, 1)
    b.store(b.value("add", x, b.constant(1.0)), 0, 0, 1)
    with pytest.raises(IrError, match=r"in place once for each index of axes \[0\]"):
        verify(b.region())


def test_a_row_read_as_elements_may_not_be_overwritten_by_its_sum():
    b = Builder(3, 4, reduced=1)
    x = b.load(b.buffer(12, written=True), 4, 1)
    b.store(b.value("reduce_sum", x), 0, 4, 0)
    with pytest.raises(IrError, match="writes at other points"):
        verify(b.region())


def test_two_halves_of_one_buffer_may_be_stored():
    b = Builder(3, 4)
    x = b.load(b.buffer(12), 4, 1)
    y = b.buffer(24, written=True)
    b.store(x, y, 8, 1)
    b.store(b.value("neg", x), y, 8, 1, offset=4)
    verify(b.region())


def test_one_half_of_a_buffer_may_be_read_and_the_other_written():
    b = Builder(3, 4)
    both = b.buffer(24, written=True)
    b.store(b.load(both, 8, 1, offset=4), both, 8, 1)
    verify(b.region())


@pytest.mark.parametrize("sound", [softmax(3, 4, in_place=True), layer_norm(1, 1), lstm_cell(2, 3)])
def test_sound_regions_pass(sound):
    verify(sound)


@given(st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_random_regions_pass_and_lose_nothing_of_their_memory(seed):
    sound = random_region(np.random.default_rng(seed))
    verify(sound)
    for position, buffer in enumerate(sound.buffers):
        shrunk = list(sound.buffers)
        shrunk[position] = replace(buffer, elements=max(1, buffer.elements - 12))
        touched = [v.access for v in sound.values if v.access] + [s.access for s in sound.stores]
        highest = max(
            access.offset + sum(max(0, s * (e - 1)) for s, e in zip(access.strides, sound.domain, strict=True))
            for access in touched
            if access.buffer == position
        )
        if highest >= shrunk[position].elements:
            with pytest.raises(IrError, match="touches elements"):
                verify(replace(sound, buffers=tuple(shrunk)))
