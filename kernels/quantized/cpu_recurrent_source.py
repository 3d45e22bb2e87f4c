"""The source of the compiled loops of recurrent layers: one module a mode, for every size."""

from __future__ import annotations

from collections.abc import Mapping

FUNCTION = "layer"

_HEADER = '''"""A recurrent layer with compressed weights, mode {mode}, compiled once for every size."""

import numba
import numpy as np

from kernels.compiler.intrinsics import load_float32, select, stack, store_float32, store_int64
from kernels.compiler.prelude import sigmoid_float32, tanh_float32
from kernels.quantized.cpu_memory import call_task

float32, int64 = np.float32, np.int64


@numba.njit("void({integers})", cache=True, nogil=True, error_model="numpy", boundscheck=False)
def layer(task, weights, steps, batch, size, gates, hidden, cell, out, bias, reverse, sums, workspace,
          runtime, share, threads):
    """task: the product's C function, or its parallel one with runtime (not 0), share and threads."""
    arguments = stack(112)
    width = {gates} * size
    store_int64(arguments, 0, weights, 5)
    store_int64(arguments, 2, size, 5)
    store_int64(arguments, 3, batch, 5)
    store_int64(arguments, 4, sums, 5)
    store_int64(arguments, 5, width, 5)
    store_int64(arguments, 6, 0, 5)
    store_int64(arguments, 7, bias, 5)
    store_int64(arguments, 9, {stride}, 5)
    store_int64(arguments, 10, workspace, 5)
    store_int64(arguments, 11, runtime, 5)
    store_int64(arguments, 12, share, 5)
    store_int64(arguments, 13, threads, 5)
    before = hidden
    for number in range(steps):
        step = steps - 1 - number if reverse != 0 else number
        given = gates + 4 * step * batch * width
        store_int64(arguments, 1, before, 5)
        store_int64(arguments, 8, {residual}, 5)
        call_task(task, arguments)
        after = out + 4 * step * batch * size
        for row in range(batch):
            x, y = given + 4 * row * width, sums + 4 * row * width
            h, c, result = before + 4 * row * size, cell + 4 * row * size, after + 4 * row * size
            for k in range(size):
{step}
                store_float32(result, k, new, 3)
        before = after
    for k in range(batch * size if steps > 0 else 0):
        store_float32(hidden, k, load_float32(before, k, 3), 3)
'''
_INTEGERS = ", ".join(["int64"] * 16)
_STEPS: Mapping[str, tuple[int, bool, str]] = {
    "lstm": (4, True, """\
                kept = sigmoid_float32(load_float32(y, k + size, 0)) * load_float32(c, k, 1)
                added = tanh_float32(load_float32(y, k + 2 * size, 0))
                value = kept + sigmoid_float32(load_float32(y, k, 0)) * added
                store_float32(c, k, value, 1)
                new = sigmoid_float32(load_float32(y, k + 3 * size, 0)) * tanh_float32(value)"""),
    "gru": (3, False, """\
                reset = sigmoid_float32(load_float32(x, k, 4) + load_float32(y, k, 0))
                kept = sigmoid_float32(load_float32(x, k + size, 4) + load_float32(y, k + size, 0))
                fresh = tanh_float32(load_float32(x, k + 2 * size, 4) + reset * load_float32(y, k + 2 * size, 0))
                new = (float32(1.0) - kept) * fresh + kept * load_float32(h, k, 3)"""),
    "rnn_tanh": (1, True, """\
                new = tanh_float32(load_float32(y, k, 0))"""),
    "rnn_relu": (1, True, """\
                y_k = load_float32(y, k, 0)
                new = select(y_k < float32(0.0), float32(0.0), y_k)"""),
}  # fmt: skip
"""By mode: gates, whether the inputs' products may be added to the hidden ones as they are made, the gates' text."""


def recurrent_source(mode: str) -> str:
    """Return the source of a mode: lstm, gru, rnn_tanh or rnn_relu."""
    gates, added, step = _STEPS[mode]
    return _HEADER.format(
        mode=mode,
        integers=_INTEGERS,
        gates=gates,
        step=step,
        stride="width" if added else "0",
        residual="given" if added else "0",
    )
