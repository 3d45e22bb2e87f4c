"""The persistent recurrent family: all steps of an LSTM, a GRU or another cell in one launch, at batch 1 to 4.

The part that needs no last step, x_t @ W_ih + b, is one matrix product over all steps and is done before; what is left
is bound by how long a step takes, not by arithmetic: the weights stay in registers, and one grid barrier ends a step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.cuda import launch as cuda_launch
from kernels.cuda.kernel import KernelSource
from kernels.cuda.launch import ArgumentError, DeviceKernels, LaunchBuffer, LaunchError, addresses_of, require_disjoint
from kernels.recurrent.cell import Cell
from kernels.recurrent.text import ENTRY, RecurrentText, parameters
from kernels.recurrent.twin import twin_text

MOST_BATCH = 4
MOST_WEIGHTS = 160  # a lane's, of its 255 registers; the rest is for sums, inputs and addresses
UNITS_PER_BLOCK = 8
MOST_UNITS_PER_BLOCK = 32


class RecurrentError(ValueError):
    """A layer that the kernel cannot compute; the message says what it has too much of. One line."""


def recurrent_texts(cell: Cell, hidden: int, batch: int, units: int = UNITS_PER_BLOCK) -> dict[str, RecurrentText]:
    """Return the layer's texts by form: "wide" where 128-bit accesses are possible, then "scalar".

    hidden: units of the layer. batch: 1 to 4. units: of a block.
    Raises RecurrentError where the layer does not fit.
    """
    if hidden < 1:
        raise RecurrentError(f"hidden size {hidden}: give at least 1")
    if not 1 <= batch <= MOST_BATCH:
        raise RecurrentError(f"batch {batch}: the persistent kernel takes 1 to {MOST_BATCH}; split the batch")
    texts = {"scalar": RecurrentText(cell, hidden, batch, units, wide=False)}
    if hidden % 4 == 0:
        texts = {"wide": RecurrentText(cell, hidden, batch, units, wide=True), **texts}
    weights = max(cell.gates * text.columns for text in texts.values())
    if weights > MOST_WEIGHTS:
        raise RecurrentError(
            f"hidden size {hidden} of {cell.name}: {weights} weights a thread do not stay in registers, "
            f"{MOST_WEIGHTS} do; use a smaller layer, or cuDNN"
        )
    return texts


def recurrent_source(text: RecurrentText) -> KernelSource:
    """Return the kernel; launch it with text.blocks blocks of text.threads threads."""
    addresses = len(parameters(text.cell)) - 1
    alignment = [4] * addresses
    if text.wide:
        for name in ("weights", "exchange", f"{text.cell.states[0]}_first"):
            alignment[parameters(text.cell).index(name)] = 16
    return KernelSource(
        entry=ENTRY,
        text=text.text(),
        host_text=twin_text(text.cell, text.hidden, text.batch),
        alignment=tuple(alignment),
        work_items=text.blocks * text.threads,
        scalars=1,
        cooperative=True,
        threads=text.threads,
    )


def recurrent_buffers(cell: Cell, hidden: int, batch: int, steps: int) -> tuple[LaunchBuffer, ...]:
    """Return what a launch needs memory for, in order; a cell without constants has no such buffer.

    inputs [steps, batch, cell.inputs * hidden]   weights [cell.gates * hidden, hidden]
    constants [len(cell.constants), hidden]       STATE_first, STATE_last [batch, hidden] for each state
    outputs [steps, batch, hidden]                exchange [2, batch, hidden], a workspace
    counter [1], uint32: 0 before its first launch; not shared by launches that may run at the same time
    """
    values = batch * hidden
    constants = [LaunchBuffer("constants", "float32", len(cell.constants) * hidden)] if cell.constants else []
    return (
        LaunchBuffer("inputs", "float32", steps * cell.inputs * values),
        LaunchBuffer("weights", "float32", cell.gates * hidden * hidden),
        *constants,
        *(LaunchBuffer(f"{state}_first", "float32", values) for state in cell.states),
        LaunchBuffer("outputs", "float32", steps * values, written=True),
        *(LaunchBuffer(f"{state}_last", "float32", values, written=True) for state in cell.states),
        LaunchBuffer("exchange", "float32", 2 * values, written=True),
        LaunchBuffer("counter", "uint32", 1, written=True, given_as=("int32",)),
    )


def reference(cell: Cell, hidden: int, batch: int, steps: int, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return what the buffers of a launch hold after it, in float64; the workspaces as they were."""
    names = [buffer.name for buffer in recurrent_buffers(cell, hidden, batch, steps)]
    after = {name: np.array(array, np.float64) for name, array in zip(names, arrays, strict=True)}
    inputs = after["inputs"].reshape(steps, batch, cell.inputs, hidden)
    weights = after["weights"].reshape(cell.gates, hidden, hidden)
    scope: dict[str, Any] = {state: after[f"{state}_first"].reshape(batch, hidden) for state in cell.states}
    scope |= {name: after["constants"].reshape(-1, hidden)[k] for k, name in enumerate(cell.constants)}
    with np.errstate(all="ignore"):
        for step in range(steps):
            scope |= {f"p{g}": scope[cell.states[0]] @ weights[g].T for g in range(cell.gates)}
            scope |= {f"x{k}": inputs[step, :, k] for k in range(cell.inputs)}
            exec("\n".join(cell.lines), _float64_names(), scope)
            after["outputs"].reshape(steps, batch, hidden)[step] = scope[cell.states[0]]
    for state in cell.states:
        after[f"{state}_last"] = scope[state].ravel()
    return list(after.values())


def _float64_names() -> dict[str, Any]:
    """Return the functions of a cell's lines over float64 arrays."""
    functions: dict[str, Any] = {f"{name}_float32": getattr(np, name) for name in _OF_NUMPY}
    return functions | {
        "float32": np.float64,
        "erf_float32": np.vectorize(math.erf),
        "sigmoid_float32": lambda x: 1 / (1 + np.exp(-x)),
        "rsqrt_float32": lambda x: 1 / np.sqrt(x),
        "pow_float32": np.power,
        "atan2_float32": np.arctan2,
    }


_OF_NUMPY = (
    "fabs", "exp", "expm1", "log", "log1p", "log2", "sqrt", "tanh", "sin", "cos", "floor", "ceil", "rint", "trunc",
    "fmod", "remainder",
)  # fmt: skip


class Launcher:
    """Launches one recurrent layer; its kernels are compiled once for each device, at first use or by `prepare`."""

    def __init__(self, cell: Cell, hidden: int, batch: int) -> None:
        self.cell, self.hidden, self.batch = cell, hidden, batch
        recurrent_texts(cell, hidden, batch)  # refuses at once what never fits
        self._plans: dict[int, tuple[dict[str, RecurrentText], DeviceKernels]] = {}
        self._fitting: set[tuple[int, str]] = set()

    def prepare(self) -> None:
        """Return nothing; compile, load, and see that the grid fits, as a CUDA graph capture needs it beforehand.

        Raises CudaUnavailable where numba-cuda or a device is missing, LaunchError where the layer does not fit it.
        """
        texts, kernels = self._plan()
        kernels.prepare()
        for form in texts:
            self._require_fit(form)

    def launch(self, arguments: Sequence[Any], steps: int, stream: int) -> str:
        """Return the form that was launched; the work is queued: keep the arguments until it ran.

        arguments: for each of `recurrent_buffers`, an address or an object with `__cuda_array_interface__`.
        stream:    handle of the stream to launch on; 0 is the default stream.
        Raises ArgumentError for an argument that does not fit, LaunchError and CudaUnavailable as `prepare`.
        """
        if steps < 1:
            raise ArgumentError(f"{steps} steps: a recurrent layer needs at least 1; give a longer sequence")
        buffers = recurrent_buffers(self.cell, self.hidden, self.batch, steps)
        addresses = addresses_of(buffers, arguments)
        require_disjoint(buffers, addresses)
        texts, kernels = self._plan()
        form = kernels.choose(addresses)
        self._require_fit(form)
        kernels.launch(form, texts[form].blocks, texts[form].threads, stream, (*addresses, steps))
        return form

    def _require_fit(self, form: str) -> None:
        texts, kernels = self._plan()
        if (cuda_launch.current_device(), form) in self._fitting:
            return
        text = texts[form]
        local = kernels.local_bytes(form)
        if local:
            raise LaunchError(
                f"hidden size {self.hidden} at batch {self.batch}: blocks of {text.threads} threads leave {local} "
                f"bytes a thread of its weights outside of registers on this device; use cuDNN"
            )
        kernels.require_resident(form, text.blocks, text.threads)
        self._fitting.add((cuda_launch.current_device(), form))

    def _plan(self) -> tuple[dict[str, RecurrentText], DeviceKernels]:
        """Return texts and kernels for the current device: as few units a block as give each block a multiprocessor."""
        device = cuda_launch.current_device()
        if device not in self._plans:
            multiprocessors = cuda_launch.multiprocessors()
            units = max(UNITS_PER_BLOCK, -(-self.hidden // multiprocessors))
            if units > MOST_UNITS_PER_BLOCK:
                raise LaunchError(
                    f"hidden size {self.hidden} needs {-(-self.hidden // MOST_UNITS_PER_BLOCK)} multiprocessors, "
                    f"but this device has {multiprocessors}; use cuDNN"
                )
            texts = recurrent_texts(self.cell, self.hidden, self.batch, units)
            sources = {form: recurrent_source(text) for form, text in texts.items()}
            self._plans[device] = texts, DeviceKernels(sources)
        return self._plans[device]
