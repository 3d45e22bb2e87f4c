from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kernels.quantized.cpu_product import product
from kernels.quantized.cpu_store import group_of, layout, restored, stored_arrays
from kernels.quantized.cpu_weights import PreparedWeights, WeightsError
from tests.kernels.quantized.test_cpu_product import KINDS, int8


def outputs(weights: PreparedWeights, x: np.ndarray) -> np.ndarray:
    out = np.empty((len(x), weights.rows), np.float32)
    product(weights, x.ctypes.data, len(x), x.shape[1], out.ctypes.data, weights.rows)
    return out


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_weights_in_a_memory_map_give_the_same_bits(kind, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    random = np.random.default_rng()
    weights = kind(random, 131, 77)
    mapped = {}
    for name, array in stored_arrays(weights).items():
        with (tmp_path / name).open("wb") as file:
            file.write(b"odd" + array.tobytes())
        mapped[name] = np.memmap(tmp_path / name, array.dtype, "r", 3, array.shape)
    again = restored(weights.kind, 131, 77, mapped, group_of(weights))
    assert again.bytes == weights.bytes and again.kernel == weights.kernel
    assert all(any(array is own for own in again.arrays) for array in mapped.values())
    x = random.standard_normal((9, 77), dtype=np.float32)
    assert np.array_equal(outputs(again, x), outputs(weights, x))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_layout_is_that_of_the_arrays(kind) -> None:  # type: ignore[no-untyped-def]
    random = np.random.default_rng()
    rows, columns = (int(size) for size in random.integers(1, 300, 2))
    weights = kind(random, rows, columns)
    expected = {name: (array.dtype.name, array.shape) for name, array in stored_arrays(weights).items()}
    assert layout(weights.kind, rows, columns, group_of(weights)) == expected


def test_arrays_that_do_not_fit_are_refused_in_words() -> None:
    arrays = stored_arrays(int8(np.random.default_rng(), 10, 20))
    with pytest.raises(WeightsError, match="the array 'sums' of int8 weights is missing; give panels, scales, sums"):
        restored("int8", 10, 20, {name: array for name, array in arrays.items() if name != "sums"})
    with pytest.raises(WeightsError, match=r"'panels' is int8 \[1, 8, 64, 4\]; int8 weights need .* \[1, 12, 64, 4\]"):
        restored("int8", 10, 40, arrays)
    with pytest.raises(WeightsError, match="the kind 'int9' are not known; use one of int8,"):
        restored("int9", 10, 20, arrays)
    with pytest.raises(WeightsError, match="a group of 16 columns does not go with int8 weights"):
        restored("int8", 10, 20, arrays, 16)
    with pytest.raises(WeightsError, match=r"weights \[0, 20\] are empty"):
        restored("int8", 0, 20, arrays)
