"""Arithmetic on packed words: host and simulator against NumPy, the device form evaluated step by step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llvmlite import ir
from numba import njit

from kernels.cuda import kernel as cuda_kernel
from kernels.quantized import arithmetic as quantized_arithmetic
from kernels.quantized.arithmetic import CODEBOOK_ALIGNMENT, simulated_arithmetic

WORDS = st.integers(0, 2**32 - 1)
HOST = cuda_kernel._host_names()
SIMULATED = simulated_arithmetic()


class Evaluator:
    """Stands in for LLVM's builder: computes 32-bit words where the builder would emit instructions."""

    def xor(self, a: Any, b: Any) -> int:
        return value(a) ^ value(b)

    def and_(self, a: Any, b: Any) -> int:
        return value(a) & value(b)

    def shl(self, a: Any, b: Any) -> int:
        return value(a) << value(b) & 0xFFFFFFFF

    def lshr(self, a: Any, b: Any) -> int:
        return value(a) >> value(b)

    def bitcast(self, a: int, kind: Any) -> np.float32:
        assert kind == ir.FloatType()
        return np.array(a, np.uint32).view(np.float32)[()]

    def fsub(self, a: np.float32, b: Any) -> np.float32:
        return a - np.float32(b.constant)

    def mul(self, a: Any, b: Any) -> int:
        return value(a) * value(b)

    def gep(self, pointer: int, indices: list[Any]) -> int:
        return pointer + 4 * value(indices[0])

    def same(self, a: Any, kind: Any) -> Any:
        return a

    addrspacecast = ptrtoint = inttoptr = same

    def call(self, assembly: Any, arguments: list[Any]) -> int:
        """Return what PTX's prmt gives: each digit of the selector chooses one byte of the two words."""
        assert assembly.asm == "prmt.b32 $0, $1, $2, $3;"
        low, high, selector = map(value, arguments)
        source = (low | high << 32).to_bytes(8, "little")
        return sum(source[selector >> 4 * k & 7] << 8 * k for k in range(4))

    def load(self, pointer: int, align: int) -> int:
        assert pointer % align == 0
        return pointer


def value(operand: Any) -> int:
    return int(operand.constant if isinstance(operand, ir.Constant) else operand)


CONTEXT = SimpleNamespace(
    make_tuple=lambda builder, kind, values: tuple(values),
    make_array=lambda kind: lambda context, builder, value: SimpleNamespace(data=value),
)
SIGNATURE = SimpleNamespace(return_type=None, args=(None,))


@given(word=WORDS)
def test_the_device_converts_each_signed_byte(word: int) -> None:
    got = quantized_arithmetic._emit_bytes_by_permute(CONTEXT, Evaluator(), SIGNATURE, [word])
    assert [float(v) for v in got] == np.array([word], np.uint32).view(np.int8).astype(float).tolist()


@given(word=WORDS, block=st.integers(0, 2**23), first=st.integers(0, 7), book=st.integers(0, 40))
def test_the_device_finds_the_place_of_each_code(word: int, block: int, first: int, book: int) -> None:
    start = block * CODEBOOK_ALIGNMENT
    for half in range(2):
        emit = quantized_arithmetic._lookup_emitter(half, device=True)
        got = emit(CONTEXT, Evaluator(), SIGNATURE, [start, 64 * first, book, word])
        codes = [word >> 4 * (4 * half + lane) & 15 for lane in range(4)]
        assert list(got) == [start + 4 * (64 * first + 16 * book + code) for code in codes]


def on_host(name: str, arguments: str) -> Any:
    """Return a compiled function that calls one of the host's."""
    scope = dict(HOST)
    exec(f"def function({arguments}):\n    return {name}({arguments})", scope)
    return njit(scope["function"])


def test_host_and_simulator_agree_on_random_words() -> None:
    random = np.random.default_rng()
    table = random.standard_normal(256).astype(np.float32)
    convert, dot = on_host("int8x4_to_float32", "word"), on_host("dot_int8x4", "a, b, total")
    low, high = (on_host(f"{half}_centroids_float32x4", "table, first, book, word") for half in ("low", "high"))
    widen = on_host("bfloat16x4_to_float32", "bits")
    for a, b in random.integers(0, 2**32, (50, 2), np.uint32):
        signed = [word.reshape(1).view(np.int8).astype(np.int32) for word in (a, b)]
        assert convert(a) == SIMULATED["int8x4_to_float32"](a) == tuple(signed[0])
        assert dot(a, b, np.int32(-7)) == SIMULATED["dot_int8x4"](a, b, np.int32(-7)) == -7 + signed[0] @ signed[1]
        for half, function in enumerate((low, high)):
            codes = [int(a) >> 4 * (4 * half + lane) & 15 for lane in range(4)]
            wanted = tuple(table[64 + 32 + code] for code in codes)
            name = ("low", "high")[half]
            assert function(table, 64, 2, a) == SIMULATED[f"{name}_centroids_float32x4"](table, 64, 2, a) == wanted
        halves = tuple(np.array([a & 0x7F7F7F7F, b & 0x7F7F7F7F], np.uint32).view(np.uint16))
        assert widen(halves) == SIMULATED["bfloat16x4_to_float32"](halves)


def test_a_fused_multiply_add_rounds_once_on_host_and_simulator() -> None:
    fma, fma4 = on_host("fma_float32", "a, b, c"), on_host("fma_float32x4", "total, a, b")
    a = np.float32(1 + 2.0**-23)
    # a*a is 1 + 2^-22 + 2^-46; a product rounded by itself would lose the last term.
    assert fma(a, a, -np.float32(1 + 2.0**-22)) == 2.0**-46
    assert SIMULATED["fma_float32"](a, a, -np.float32(1 + 2.0**-22)) == 2.0**-46
    random = np.random.default_rng()
    for _ in range(50):
        four = [tuple(random.standard_normal(4).astype(np.float32)) for _ in range(2)]
        assert fma4(np.float32(0.5), *four) == SIMULATED["fma_float32x4"](np.float32(0.5), *four)


def test_the_simulator_refuses_what_the_device_would_not_compile_or_would_get_wrong() -> None:
    table, word = np.zeros(256, np.float32), np.uint32(1)
    with pytest.raises(TypeError, match="fma_float32 takes float32, not float64"):
        SIMULATED["fma_float32"](np.float64(1), np.float32(1), np.float32(1))
    with pytest.raises(TypeError, match="codes come in a uint32, not in int64"):
        SIMULATED["low_centroids_float32x4"](table, 0, 0, np.int64(1))
    with pytest.raises(ValueError, match="the codebooks begin at element 16, no multiple of 64"):
        SIMULATED["high_centroids_float32x4"](table, 16, 0, word)
