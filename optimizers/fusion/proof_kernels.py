"""Generated kernels against float64, each on the memory that it saw at its first call in a run of the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided

from kernels.compiler.ir import FLOATING, ITEM_BYTES, Access, Buffer, Region
from kernels.compiler.kinds import kind_of
from kernels.compiler.loaded import LoadedKernel
from kernels.compiler.loop_ir import Apply, LoopProgram, Product, parts
from kernels.compiler.loop_reference import ExactMemory, evaluate_loop
from kernels.compiler.reference import evaluate
from optimizers.fusion.errors import Errors, errors_of
from optimizers.fusion.program import Program
from optimizers.fusion.proof_kinds import provable
from optimizers.fusion.replay import Body, copy_memory, memory_sizes
from optimizers.fusion.runtime import KernelCall, Runner

MOST_WORK = 1_000_000_000
"""So many values are computed in float64 at most for one kernel: NumPy takes some seconds for them."""
Array = np.ndarray[Any, np.dtype[Any]]
Tensors = list[torch.Tensor]
SCRATCH = "scratch"
"""The name of a loop's own memory among its buffers."""
Visit = Callable[[str, KernelCall, Tensors], None]
"""(name of the kernel, a call of it, copies of its memory as it was before its first call)"""


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a kernel wrote, and what float64 gives in its place: flat arrays, one pair for each buffer of `buffers`.

    written: for each of them a flag for every element of the buffer, set where results and references are from.
    """

    buffers: tuple[int, ...]
    written: tuple[Array, ...]
    results: tuple[Array, ...]
    references: tuple[Array, ...]

    def errors(self) -> Errors:
        """Return how far the results are from the references."""
        return errors_of(self.results, self.references)


def visit_kernels(
    program: Program, kernels: Mapping[str, LoadedKernel], weights: Tensors, inputs: Tensors, visit: Visit
) -> None:
    """Run the program once, and call `visit` before the first call of each kernel whose memory is known."""
    seen: set[str] = set()
    known = {name: memory_sizes(kernel) for name, kernel in program.kernels.items() if provable(kernel)}

    def wrap(name: str, call: KernelCall) -> KernelCall:
        if name not in known:
            return call

        def visited(*addresses: int) -> None:
            if name not in seen:
                seen.add(name)
                visit(name, call, [copy_memory(*pair) for pair in zip(addresses, known[name], strict=True)])
            call(*addresses)

        return visited

    Runner(program, kernels, wrap)(weights, inputs)


def outputs_of(kernel: Body, call: KernelCall, memory: Sequence[torch.Tensor]) -> Outputs:
    """Return what the kernel and float64 give on copies of `memory`, which stays as it is."""
    if isinstance(kernel, Region):
        return _region_outputs(kernel, call, memory)
    if isinstance(kernel, LoopProgram):
        exact = [ExactMemory(item.numpy()) for item in memory]
        evaluate_loop(kernel, exact)
        dtypes = stored_dtypes(kernel)
        return _two_runs(kernel, call, memory, {k: exact[k].typed(dtype) for k, dtype in dtypes.items()}, dtypes)
    arrays, interpreter = _exact_arrays(kernel.buffers, memory), kind_of(kernel).evaluate
    assert interpreter is not None, "only loops have none"
    interpreter(kernel, arrays, True)
    dtypes = {k: buffer.dtype for k, buffer in enumerate(kernel.buffers) if buffer.written}
    return _two_runs(kernel, call, memory, {k: arrays[k] for k in dtypes}, dtypes)


def _region_outputs(region: Region, call: KernelCall, memory: Sequence[torch.Tensor]) -> Outputs:
    worked = _own(region, [item.clone() for item in memory])
    call(*(item.data_ptr() for item in worked))
    arrays = _exact_arrays(region.buffers, memory)
    for position, buffer in enumerate(region.buffers):
        if buffer.same_as is not None:
            arrays[position] = arrays[buffer.same_as]
    evaluate(region, arrays, exact=True)
    masks: dict[int, Array] = {}
    for store in region.stores:
        k = store.access.buffer
        masks.setdefault(k, np.zeros(region.buffers[k].elements, bool))
        _window(region, store.access, masks[k])[...] = True
    results = tuple(_typed(worked[k], region.buffers[k].dtype)[mask] for k, mask in masks.items())
    references = tuple(arrays[k][: mask.size][mask] for k, mask in masks.items())
    return Outputs(tuple(masks), tuple(masks.values()), results, references)


def _exact_arrays(buffers: Sequence[Buffer], memory: Sequence[torch.Tensor]) -> list[Array]:
    with np.errstate(invalid="ignore"):  # memory that nobody has written yet holds anything
        return [
            _typed(item, buffer.dtype).astype(np.float64 if buffer.dtype in FLOATING else buffer.dtype)
            for item, buffer in zip(memory, buffers, strict=True)
        ]


def _own(region: Region, copies: list[torch.Tensor]) -> list[torch.Tensor]:
    for position, buffer in enumerate(region.buffers):
        if buffer.same_as is not None:
            copies[position] = copies[buffer.same_as]
    return copies


def _typed(memory: torch.Tensor, dtype: str) -> Array:
    return memory.numpy().view(dtype)


def _window(region: Region, access: Access, array: Array) -> Array:
    strides = [stride * array.itemsize for stride in access.strides]
    shape = [1 if not stride else extent for extent, stride in zip(region.domain, strides, strict=True)]
    return as_strided(array[access.offset :], shape, strides)


def _two_runs(
    kernel: Body,
    call: KernelCall,
    memory: Sequence[torch.Tensor],
    references: Mapping[int, Array],
    dtypes: Mapping[int, str],
) -> Outputs:
    """Return what a kernel leaves in the buffers of `dtypes`. Which elements it writes shows in two runs on memory
    that differs in them.
    """
    first = [item.clone() for item in memory]
    flags = [buffer.written for buffer in kernel.buffers]
    second = [item.bitwise_not() if written else item.clone() for item, written in zip(memory, flags, strict=True)]
    for copies in (first, second):
        call(*(item.data_ptr() for item in copies))
    masks: list[Array] = []
    results: list[Array] = []
    exact: list[Array] = []
    for number, dtype in dtypes.items():
        item = ITEM_BYTES[dtype]
        whole = memory[number].numel() // item * item
        raw, other = (copies[number].numpy()[:whole].reshape(-1, item) for copies in (first, second))
        written = (raw == other).all(axis=1)
        masks.append(written)
        results.append(raw.reshape(-1).view(dtype)[written])
        exact.append(references[number][: written.size][written])
    return Outputs(tuple(dtypes), tuple(masks), tuple(results), tuple(exact))


def stored_dtypes(loop: LoopProgram) -> dict[int, str]:
    """Return the dtype of each buffer that a loop writes for others: its own memory, of several dtypes, left out."""
    found: dict[int, set[str]] = {}
    for statement in loop.body:
        for plain in parts(statement):
            if isinstance(plain, Apply):
                for window, buffer in zip(plain.windows, plain.region.buffers, strict=True):
                    if buffer.written:
                        found.setdefault(window.buffer, set()).add(buffer.dtype)
            elif isinstance(plain, Product):
                found.setdefault(plain.out.buffer, set()).add(plain.dtype)
    own = {k for k, buffer in enumerate(loop.buffers) if buffer.name == SCRATCH}
    return {k: next(iter(found[k])) for k in sorted(found) if k not in own and len(found[k]) == 1}
