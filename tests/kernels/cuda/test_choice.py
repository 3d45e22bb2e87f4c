from __future__ import annotations

import numpy as np
import pytest

from kernels.cuda import kernel as cuda_kernel
from kernels.cuda.choice import simulated_choices
from kernels.cuda.kernel import KernelSource

SPECIALS = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.5, -3.0)
TEXT = """def kernel(a0, a1, a2):
    for k in range({count}):
        x, y = load_{dtype}(a0, k), load_{dtype}(a1, k)
        store_{dtype}(a2, 3 * k, maximum(x, y))
        store_{dtype}(a2, 3 * k + 1, minimum(x, y))
        store_{dtype}(a2, 3 * k + 2, select(x < y, x, y))
"""


def pairs(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Return every pair of special numbers."""
    numbers = SPECIALS if dtype.startswith("float") else (0, 1, -1, np.iinfo(dtype).min, np.iinfo(dtype).max)
    first, second = np.meshgrid(np.array(numbers, dtype), np.array(numbers, dtype))
    return first.ravel(), second.ravel()


def wanted(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    chosen = (np.maximum(first, second), np.minimum(first, second), np.where(first < second, first, second))
    return np.stack(chosen, 1)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_choices_on_the_host_and_in_the_simulator_are_those_of_numpy(dtype: str) -> None:
    first, second = pairs(dtype)
    out = np.zeros((first.size, 3), dtype)
    source = KernelSource("kernel", "", TEXT.format(count=first.size, dtype=dtype), (8, 8, 8), 1)
    cuda_kernel.run_twin(source, (first, second, out))
    np.testing.assert_array_equal(out, wanted(first, second))
    choices = simulated_choices()
    simulated = [
        (choices["maximum"](x, y), choices["minimum"](x, y), choices["select"](x < y, x, y))
        for x, y in zip(first, second, strict=True)
    ]
    np.testing.assert_array_equal(np.array(simulated, dtype), wanted(first, second))


def test_a_choice_between_two_dtypes_does_not_compile() -> None:
    text = "def kernel(a0):\n    store_float32(a0, 0, select(True, float32(1.0), 2.0))\n"
    with pytest.raises(Exception, match="select|intrinsic|Invalid use"):
        cuda_kernel.run_twin(KernelSource("kernel", "", text, (4,), 1), (np.zeros(1, np.float32),))
