"""Recurrent layers with compressed weights: the products of all steps' inputs at once, then one compiled loop.

A step is a product with the hidden weights, of as many rows as the batch has, and the gates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from math import tanh

import numpy as np
from numpy.typing import NDArray

from kernels.quantized.cpu_call import ProductCall
from kernels.quantized.cpu_compile import compiled_text, shared_pool
from kernels.quantized.cpu_recurrent_source import FUNCTION, recurrent_source

GATES: Mapping[str, int] = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
"""By mode: rows of the weights for each hidden unit."""
PARALLEL_WEIGHTS = 1 << 20
"""Weights times rows of a step from which on several threads are worth their start at every step."""


@dataclass(frozen=True, slots=True)
class State:
    """Addresses of float32 arrays that a layer reads and writes.

    gates: [steps, batch, gates * size], the products of the inputs with their bias. hidden, cell: [batch, size], the
    state before and after (cell: 0 where there is none). out: [steps, batch, size]. bias: of the hidden product, or 0.
    """

    gates: int
    hidden: int
    cell: int
    out: int
    bias: int = 0


def scratch_bytes(mode: str, hidden: ProductCall, batch: int, threads: int) -> int:
    """Return the bytes of scratch memory, at a multiple of 64, that `run_layer` needs."""
    sums = (4 * batch * GATES[mode] * hidden.columns + 63) // 64 * 64
    return sums + hidden.workspace_bytes(batch, threads)


def run_layer(
    mode: str, hidden: ProductCall, state: State, steps: int, batch: int, reverse: bool, scratch: int, threads: int
) -> None:
    """Run a layer in one direction over all its steps. Nothing is checked.

    hidden: products with the hidden weights [gates * size, size], gates in torch's order. reverse: from the last step
    to the first. scratch: an address of scratch_bytes.
    """
    size, gates = hidden.columns, GATES[mode]
    worth = threads > 1 and batch * size * size * gates >= PARALLEL_WEIGHTS
    pool = shared_pool() if worth else ""
    table = 0 if isinstance(pool, str) else int(pool.table.ctypes.data)
    family = hidden.family
    task = family.parallel_task if table else family.task
    workspace = scratch + (4 * batch * gates * size + 63) // 64 * 64
    layer_kernel(mode)(
        task, hidden.address, steps, batch, size, state.gates, state.hidden, state.cell, state.out, state.bias,
        int(reverse), scratch, workspace, table, family.share, threads,
    )  # fmt: skip


@cache
def layer_kernel(mode: str) -> Callable[..., None]:
    """Return the compiled loop of a mode of GATES; see the source for what it takes."""
    return compiled_text(f"recurrent {mode}", recurrent_source(mode), (FUNCTION,))[FUNCTION]


def reference_step(
    mode: str, inputs: NDArray[np.float64], products: NDArray[np.float64], state: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the state after a step, in float64: [hidden] or, of an lstm, [hidden, cell], each [size].

    inputs, products: of the input and of the hidden state with their biases, [gates * size]. state: as it was.
    """

    def sigmoid(y: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1.0 / (1.0 + np.exp(-y))

    if mode == "lstm":
        i, f, g, o = np.split(inputs + products, 4)
        cell = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
        return np.stack([sigmoid(o) * np.tanh(cell), cell])
    if mode == "gru":
        (r, z, n), (hr, hz, hn) = np.split(inputs, 3), np.split(products, 3)
        new = np.tanh(n + sigmoid(r + hr) * hn)
        kept = sigmoid(z + hz)
        return np.stack([(1.0 - kept) * new + kept * state[0]])
    total = inputs + products
    return np.stack([np.vectorize(tanh)(total) if mode == "rnn_tanh" else np.maximum(total, 0.0)])
