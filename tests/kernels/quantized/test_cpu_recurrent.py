from __future__ import annotations

import numpy as np
import pytest

from kernels.quantized.cpu_call import product_call
from kernels.quantized.cpu_recurrent import GATES, State, reference_step, run_layer, scratch_bytes
from kernels.quantized.cpu_reference import dequantised
from kernels.quantized.cpu_store import stored_arrays
from kernels.quantized.cpu_weights import weight_only_weights


@pytest.mark.parametrize("mode", GATES)
@pytest.mark.parametrize("reverse", [False, True])
def test_loops_follow_the_float64_reference(mode: str, reverse: bool) -> None:
    random = np.random.default_rng()
    steps, batch, size = 7, 3, int(random.integers(1, 70))
    rows = GATES[mode] * size
    values = random.integers(-128, 128, (rows, size), dtype=np.int8)
    weights = weight_only_weights(values, random.uniform(0.001, 0.01, rows).astype(np.float32))
    addresses = tuple(array.ctypes.data for array in stored_arrays(weights).values())
    call = product_call(weights.kind, rows, size, None, addresses)
    gates = random.standard_normal((steps, batch, rows), dtype=np.float32)
    bias = random.standard_normal(rows, dtype=np.float32)
    state = random.standard_normal((1 + (mode == "lstm"), batch, size), dtype=np.float32)
    expected = state.astype(np.float64)
    outputs = np.empty((steps, batch, size))
    for step in reversed(range(steps)) if reverse else range(steps):
        products = expected[0] @ dequantised(weights).astype(np.float64).T + bias
        each = [
            reference_step(mode, gates[step, row].astype(np.float64), products[row], expected[:, row])
            for row in range(batch)
        ]
        expected = np.stack(each, axis=1)
        outputs[step] = expected[0]
    out = np.full((steps + 1, batch, size), np.float32(77.0))
    scratch = np.empty(scratch_bytes(mode, call, batch, 1), np.uint8)
    where = State(
        gates.ctypes.data, state[0].ctypes.data, state[-1].ctypes.data if mode == "lstm" else 0,
        out.ctypes.data, bias.ctypes.data,
    )  # fmt: skip
    run_layer(mode, call, where, steps, batch, reverse, scratch.ctypes.data, 1)
    scale = np.abs(outputs).max()
    assert np.allclose(out[:steps], outputs, rtol=0, atol=2e-5 * scale) and (out[steps] == 77.0).all()
    assert np.allclose(state, expected, rtol=0, atol=2e-5 * max(scale, np.abs(expected).max()))
