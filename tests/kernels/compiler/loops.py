"""A small recurrence as a loop program, and a way to run one on memory with guards around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kernels.compiler.ir import ITEM_BYTES, Access, Buffer, Region, Store, Value
from kernels.compiler.loop_fuse import join
from kernels.compiler.loop_ir import Apply, Fused, LoopBuffer, LoopProgram, Pack, Product, Term, Window
from kernels.compiler.loop_product import packed_bytes

GUARD = 64


def recurrence(
    trips: int, rows: int, size: int, dtype: str = "float32", transposed: bool = True, packed: bool = False
) -> LoopProgram:
    """state = tanh(state @ weight + x[trip]), every state stored: buffers scratch, weight, x, states.

    The scratch holds two halves of the state, then the product, then panels.
    """
    item, elements = ITEM_BYTES[dtype], rows * size
    half = -(-elements * item // 64) * 64
    values = (
        Value("load", dtype, access=Access(0, 0, (1,))),
        Value("load", dtype, access=Access(1, 0, (1,))),
        Value("add", dtype, (0, 1)),
        Value("tanh", dtype, (2,)),
    )
    buffers = tuple(Buffer(name, dtype, elements, name in "cd") for name in "abcd")
    region = Region((elements,), 0, buffers, values, (Store(3, Access(2, 0, (1,))), Store(3, Access(3, 0, (1,)))))
    zero = Region(
        (elements,),
        0,
        (Buffer("a", dtype, elements, True),),
        (Value("constant", dtype, constant=0.0),),
        (Store(0, Access(0, 0, (1,))),),
    )
    state = Window(0, 0, alternate=half, value=1)
    before = replace(state, phase=1, age=1)
    made = Window(0, 2 * half, value=2)
    strides = (1, size) if transposed else (size, 1)
    term = Term(size, before, (size, 1), Window(1), strides)
    product = Product(dtype, rows, size, (term,), made, size)
    prologue: tuple[Apply | Pack, ...] = (Apply(zero, (state,)),)
    scratch = 3 * half
    if packed:
        panels = Window(0, scratch, value=3)
        packed_product = replace(product, terms=(replace(term, packed=True),))
        prologue = (*prologue, Pack(packed_product, 0, term.right, panels))
        scratch += packed_bytes(packed_product, 0)
        product = replace(product, terms=(replace(term, right=replace(panels, age=None), packed=True),))
    step = elements * item
    body = (product, Apply(region, (made, Window(2, 0, step), state, Window(3, 0, step))))
    sizes = (scratch, size * size * item, trips * step, trips * step)
    names = ("scratch", "weight", "x", "states")
    program = tuple(LoopBuffer(n, nbytes, n in ("scratch", "states")) for n, nbytes in zip(names, sizes, strict=True))
    return LoopProgram(trips, program, prologue, body)


def fused(program: LoopProgram) -> LoopProgram:
    """The same recurrence with its two statements as one, the factor in the panels of that one."""
    product, apply = program.body
    assert isinstance(product, Product) and isinstance(apply, Apply)
    made = join((product,), apply)
    assert isinstance(made, Fused)
    prologue = tuple(
        replace(each, product=replace(each.product, groups=made.products[0].groups, panel=made.products[0].panel))
        if isinstance(each, Pack)
        else each
        for each in program.prologue
    )
    return replace(program, prologue=prologue, body=(made,))


def run(program: LoopProgram, contents: dict[int, np.ndarray[Any, Any]], how: Callable[..., None]) -> list[Any]:
    """Return the bytes of each buffer after `how(memories)`; fails if a byte outside of them changed."""
    memories, whole = [], []
    for number, buffer in enumerate(program.buffers):
        room = np.full(buffer.nbytes + 2 * GUARD + 64, 0xA5, np.uint8)
        start = GUARD + -(room.ctypes.data + GUARD) % 64
        memory = room[start : start + buffer.nbytes]
        if number in contents:
            memory[:] = contents[number].reshape(-1).view(np.uint8)
        memories.append(memory)
        whole.append((room, start, buffer.nbytes))
    how(memories)
    for room, start, nbytes in whole:
        assert (room[:start] == 0xA5).all() and (room[start + nbytes :] == 0xA5).all()
    return memories


def call(entry: Callable[..., None]) -> Callable[[Sequence[Any]], None]:
    return lambda memories: entry(*(memory.ctypes.data for memory in memories))
