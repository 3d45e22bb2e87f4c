"""Conversions between bit patterns, on the host and in the simulator's plain functions, against NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numba import njit, types
from numba.extending import intrinsic

from kernels.cuda import bits as cuda_bits

Function = Callable[[np.ndarray], np.ndarray]
HALVES = np.arange(2**16, dtype=np.uint16)
PLACES = ("host", "simulator")


def function(place: str, name: str, dtype: type) -> Function:
    """Return the named function over a whole array."""
    if place == "simulator":
        one = cuda_bits.simulated_bits()[name]
        return lambda values: np.array([one(value) for value in values], dtype)
    compiled = cuda_bits.host_bits(njit, intrinsic, types)[name]

    @njit
    def over(values, results):
        for k in range(values.size):
            results[k] = compiled(values[k])

    def call(values: np.ndarray) -> np.ndarray:
        results = np.zeros(values.size, dtype)
        over(values, results)
        return results

    return call


def floats(count: int) -> np.ndarray:
    """Return random float32 of every exponent, the halves between neighbouring float16 and bfloat16, and specials."""
    random = np.random.default_rng()
    between = HALVES.view(np.float16).astype(np.float32)[random.integers(0, 2**16, count)]
    with np.errstate(all="ignore"):
        between = ((between.astype(np.float64) + np.roll(between, 1)) / 2).astype(np.float32)
    ties = (random.integers(0, 2**16, count, np.uint32) << 16 | 0x8000).view(np.float32)
    small = (random.integers(1, 2048, count) * 2.0**-25).astype(np.float32)
    specials = np.array([0, -0.0, np.inf, -np.inf, np.nan, 65504, 65519.996, 65520, -65520, 2**-24, 2**-25], np.float32)
    whole = random.integers(0, 2**32, count, np.uint64).astype(np.uint32).view(np.float32)
    return np.concatenate([whole, between, ties, small, -small, specials])


@pytest.mark.parametrize("place", PLACES)
def test_every_float16_widens_exactly(place: str) -> None:
    step = 1 if place == "host" else 37
    got = function(place, "float16_to_float32", np.float32)(HALVES[::step])
    wanted = HALVES[::step].view(np.float16).astype(np.float32)
    assert np.array_equal(got, wanted, equal_nan=True)
    assert np.array_equal(np.signbit(got), np.signbit(wanted))


@pytest.mark.parametrize("place", PLACES)
def test_float32_narrows_to_float16_as_numpy_does(place: str) -> None:
    x = floats(50_000 if place == "host" else 500)
    got = function(place, "float32_to_float16", np.uint16)(x).view(np.float16)
    with np.errstate(all="ignore"):
        wanted = x.astype(np.float16)
    assert np.array_equal(got, wanted, equal_nan=True)
    assert np.array_equal(np.signbit(got), np.signbit(wanted))


@pytest.mark.parametrize("place", PLACES)
def test_float32_narrows_to_bfloat16_as_torch_does(place: str) -> None:
    torch = pytest.importorskip("torch")
    x = floats(50_000 if place == "host" else 500)
    bits = function(place, "float32_to_bfloat16", np.uint16)(x)
    got = function(place, "bfloat16_to_float32", np.float32)(bits)
    wanted = torch.from_numpy(x).bfloat16().float().numpy()
    assert np.array_equal(got, wanted, equal_nan=True)


@pytest.mark.parametrize("place", PLACES)
def test_bits_and_numbers_are_the_same_memory(place: str) -> None:
    x = floats(500)
    x = x[~np.isnan(x)]
    bits = function(place, "float32_to_bits", np.uint32)(x)
    assert np.array_equal(bits, x.view(np.uint32))
    assert function(place, "bits_to_float32", np.float32)(bits).tobytes() == x.tobytes()
