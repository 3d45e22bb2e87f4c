"""A kernel family's test case, told once: every tier runs it through `check`.

A tier is a function that runs a kernel on flat arrays; what must come out, and that nothing else was touched, is
decided here alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kernels.cuda.kernel import KernelSource

POISON = 0xDE  # as float32 -8.0e18: no result of a case comes near it, and unlike NaN it equals no result
GUARD = 64  # elements before and behind each buffer; a multiple of every alignment

Arrays = tuple[np.ndarray, ...]
Arguments = tuple[np.ndarray | int, ...]  # an array for each address, then the numbers
Run = Callable[[KernelSource, Arguments], None]


@dataclass(frozen=True)
class Bounds:
    """What the compiled code of one form may need on any architecture.

    vector_loads and vector_stores: the 128-bit accesses of one step of the loop; an unrolled loop has a multiple.
    proportional: whether the kernel is such a loop and nothing else, so that a lost access upsets their ratio.
    float64 and local_memory are allowed only where the case's own dtype or libdevice asks for them.
    """

    registers: int
    vector_loads: int = 0
    vector_stores: int = 0
    float64: bool = False
    local_memory: bool = False
    proportional: bool = True


@dataclass(frozen=True)
class BufferUse:
    """A buffer as a test fills it: drawn at random or, where the kernel only writes it, poisoned.

    value:    what every element begins with, in the place of random numbers.
    fill:     gives all elements, in the place of random numbers of one range: a table, raw bytes with a meaning.
    scale:    standard deviation of drawn floating numbers.
    specials: whether NaN, infinities and zeros are among them; None: as the case says.
    integers: the range that drawn integers are from; None: as the problem says.
    compared: whether `expected` says what the buffer holds after the kernel; a workspace's content is nobody's
              business, but for its guards.
    """

    name: str
    dtype: str
    elements: int
    drawn: bool
    same_as: int | None = None
    value: float | None = None
    fill: Callable[[np.random.Generator], np.ndarray] | None = None
    scale: float = 3.0
    specials: bool | None = None
    integers: tuple[int, int] | None = None
    compared: bool = True


@dataclass(frozen=True)
class Problem:
    """A kernel of one size.

    sources:   by form ("scalar", "wide"); all must give the same answer.
    expected:  arrays before -> arrays after, floating ones in float64.
    integers:  the range [low, high) that integer buffers are drawn from.
    grids:     blocks and threads a block to simulate; any grid must give the same answer, so by default one that is
               smaller than the work, one that is much larger and one that divides nothing.
    device_grid: the same for a real device.
    scalars:   the numbers that follow the addresses.
    """

    buffers: tuple[BufferUse, ...]
    sources: dict[str, KernelSource]
    expected: Callable[[Arrays], Sequence[np.ndarray]]
    integers: tuple[int, int] = (-5, 6)
    grids: tuple[tuple[int, int], ...] = ((1, 4), (3, 32), (2, 5))
    device_grid: tuple[int, int] = (7, 96)
    scalars: tuple[int, ...] = ()


@dataclass(frozen=True)
class Case:
    """A kernel that all tiers test.

    sizes:       small ones, with tails and odd rests; what a size means is the family's business.
    device_size: for a real device.
    bounds:      by form.
    tolerance:   relative, and absolute near 0, against the float64 reference.
    specials:    whether NaN, infinities and zeros are among the drawn values.
    """

    name: str
    problem: Callable[[int], Problem]
    sizes: tuple[int, ...]
    device_size: int
    bounds: dict[str, Bounds]
    tolerance: float = 2e-6
    specials: bool = True


SPECIALS = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 88.5, -85.0, 1e-40, 3e4, 0.5, 1.5, 2.5)


def draw(case: Case, problem: Problem, random: np.random.Generator) -> Arrays:
    """Return a fresh array for each buffer, 64-byte aligned, with guards around its elements (see `guarded`)."""
    arrays: list[np.ndarray] = []
    for buffer in problem.buffers:
        if buffer.same_as is not None:
            arrays.append(arrays[buffer.same_as])
            continue
        array = guarded(buffer.dtype, buffer.elements)
        if buffer.value is not None:
            array[:] = buffer.value
        elif buffer.fill is not None:
            array[:] = buffer.fill(random)
        elif buffer.drawn:
            _fill(array, random, case, problem, buffer)
        arrays.append(array)
    return tuple(arrays)


def guarded(dtype: str, elements: int) -> np.ndarray:
    """Return a poisoned flat array that lies 64-byte aligned in the middle of a larger poisoned one (`.base`)."""
    item_bytes = np.dtype(dtype).itemsize
    whole = np.full((elements + 2 * GUARD) * item_bytes + 64, POISON, np.uint8)
    start = -whole.ctypes.data % 64 + GUARD * item_bytes
    return whole[start : start + elements * item_bytes].view(dtype)


def check(case: Case, problem: Problem, source: KernelSource, run: Run, seed: int) -> None:
    """Return nothing; raise AssertionError, naming the first wrong element, unless `run` computes the case."""
    arrays = draw(case, problem, np.random.default_rng(seed))
    before = [array.copy() for array in arrays]
    expected = problem.expected(arrays)
    run(source, (*arrays, *problem.scalars))
    for buffer, was, got, wanted in zip(problem.buffers, before, arrays, expected, strict=True):
        label = f"{case.name}, {buffer.name}"
        assert_guards(label, got)
        if not buffer.compared:
            continue
        _compare(label, got, wanted, case.tolerance)
        if buffer.drawn and np.array_equal(was.astype(wanted.dtype), wanted, equal_nan=was.dtype.kind == "f"):
            assert was.tobytes() == got.tobytes(), f"{label}: an input was changed"


def assert_guards(label: str, array: np.ndarray) -> None:
    """Return nothing; raise AssertionError if something was written around the array."""
    base = array.base
    while base.base is not None:
        base = base.base
    start = array.ctypes.data - base.ctypes.data
    outside = np.concatenate([base[:start], base[start + array.nbytes :]])
    touched = np.flatnonzero(outside != POISON)
    assert not touched.size, f"{label}: {touched.size} bytes outside of the buffer were written"


def split_arguments(arguments: Arguments) -> tuple[Arrays, tuple[int, ...]]:
    """Return the arrays, and the numbers that follow them."""
    arrays = tuple(a for a in arguments if isinstance(a, np.ndarray))
    return arrays, tuple(a for a in arguments if not isinstance(a, np.ndarray))


def _fill(array: np.ndarray, random: np.random.Generator, case: Case, problem: Problem, buffer: BufferUse) -> None:
    if array.dtype.kind == "f":
        array[:] = buffer.scale * random.standard_normal(array.size)
        if case.specials if buffer.specials is None else buffer.specials:
            places = random.permutation(array.size)[: min(len(SPECIALS), array.size // 2)]
            array[places] = SPECIALS[: places.size]
    elif array.dtype.kind == "b":
        array[:] = random.random(array.size) < 0.5
    else:
        array[:] = random.integers(*(buffer.integers or problem.integers), array.size)


def _compare(label: str, got: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    if got.dtype.kind != "f":
        # as bytes: a bool that is still poison is neither True nor False
        wrong = got.view(np.uint8) != wanted.view(np.uint8) if got.dtype.kind == "b" else got != wanted
    else:
        with np.errstate(all="ignore"):
            wanted = wanted.astype(got.dtype).astype(np.float64)
            values = got.astype(np.float64)
            same = (values == wanted) | (np.isnan(values) & np.isnan(wanted))
            wrong = ~(same | (np.abs(values - wanted) <= tolerance * (1 + np.abs(wanted))) & np.isfinite(wanted))
    places = np.flatnonzero(wrong)
    if places.size:
        first = places[0]
        raise AssertionError(
            f"{label}: {places.size} of {got.size} elements are wrong; "
            f"element {first} is {got[first]!r} instead of {wanted[first]!r}"
        )
