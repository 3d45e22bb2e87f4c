"""Lookups by byte permutations, evaluated as PTX defines them, and in the simulator: the bytes of the codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llvmlite import ir

from kernels.quantized import byte_arithmetic
from kernels.quantized.byte_arithmetic import simulated_bytes

WORD = st.integers(0, 2**32 - 1)


class Evaluator:
    """Stands in for LLVM's builder: computes at once, on Python integers."""

    def and_(self, a: Any, b: Any) -> int:
        return number(a) & number(b)

    def or_(self, a: Any, b: Any) -> int:
        return number(a) | number(b)

    def lshr(self, a: Any, b: Any) -> int:
        return number(a) >> number(b)

    def call(self, assembly: ir.InlineAsm, arguments: list[Any]) -> int:
        assert assembly.asm == "prmt.b32 $0, $1, $2, $3;"
        low, high, selector = map(number, arguments)
        choices = (low | high << 32).to_bytes(8, "little")
        digits = [selector >> 4 * k & 15 for k in range(4)]
        # A digit of 8 or more would repeat the byte's sign.
        assert all(digit < 8 for digit in digits)
        return int.from_bytes(bytes(choices[digit] for digit in digits), "little")


def number(value: Any) -> int:
    return int(value.constant) if isinstance(value, ir.Constant) else int(value)


def bytes_of(table: list[int], word: int, half: int) -> int:
    entries = np.array(table, "<u4").view(np.uint8)
    codes = [word >> 4 * (4 * half + k) & 15 for k in range(4)]
    return int.from_bytes(bytes(int(entries[code]) for code in codes), "little")


@given(table=st.lists(WORD, min_size=4, max_size=4), word=WORD)
def test_a_code_finds_its_byte_on_a_device_and_in_the_simulator(table: list[int], word: int) -> None:
    evaluator, simulated = Evaluator(), simulated_bytes()
    for half, name in enumerate(("low_codebook_bytes", "high_codebook_bytes")):
        wanted = bytes_of(table, word, half)
        assert byte_arithmetic._look_up_by_permutes(evaluator, table, word, half) == wanted
        assert int(simulated[name](tuple(map(np.uint32, table)), np.uint32(word))) == wanted


@given(a=WORD, b=WORD, total=st.integers(-(2**30), 2**30))
def test_dots_are_exact_in_the_simulator(a: int, b: int, total: int) -> None:
    signed = np.array([a], "<u4").view(np.int8).astype(int)
    unsigned = np.array([b], "<u4").view(np.uint8).astype(int)
    got = simulated_bytes()["dot_int8_uint8x4"](np.uint32(a), np.uint32(b), np.int32(total))
    assert got == total + int(signed @ unsigned) and isinstance(got, np.int32)


def test_the_simulator_takes_words_alone() -> None:
    simulated = simulated_bytes()
    with pytest.raises(TypeError, match="codes come in a uint32, not in int"):
        simulated["low_codebook_bytes"]((0, 0, 0, 0), 5)
    with pytest.raises(TypeError, match="dot_int8_uint8x4 takes int32 here, not int"):
        simulated["dot_int8_uint8x4"](np.uint32(1), np.uint32(1), 0)
