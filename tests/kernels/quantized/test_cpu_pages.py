from __future__ import annotations

import sys

import numpy as np
import pytest

from kernels.quantized.cpu_pages import LARGE_PAGE, make_large


def test_memory_keeps_what_it_holds() -> None:
    values = np.random.default_rng().integers(0, 256, 3 * LARGE_PAGE + 77, dtype=np.uint8)
    before = values.copy()
    inside = make_large(values.ctypes.data, values.nbytes)
    assert np.array_equal(values, before)
    assert inside in (0, 2 * LARGE_PAGE, 3 * LARGE_PAGE)
    if sys.platform.startswith("linux") and inside == 0:
        pytest.skip("this system makes no large pages")


@pytest.mark.parametrize("nbytes", [0, 1, 4096])
def test_small_memory_is_let_alone(nbytes: int) -> None:
    assert make_large(np.zeros(8192, np.uint8).ctypes.data, nbytes) == 0


def test_memory_that_is_none_is_refused_by_the_system() -> None:
    assert make_large(1 << 46, 4 * LARGE_PAGE) == 0
