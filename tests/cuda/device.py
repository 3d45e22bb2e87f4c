"""Runs kernels on a real device, for the tests of tier d and for `python -m benchmarks.gpu_check`; needs no pytest."""

from __future__ import annotations

import functools

import numpy as np

from kernels.cuda import kernel as cuda_kernel
from kernels.cuda import support as cuda_support
from kernels.cuda.kernel import KernelSource
from tests.cuda.case import POISON, Arguments, Case, check, split_arguments

GUARD_BYTES = 1024


def missing() -> str | None:
    """Return why no kernel can be launched here, None if one can."""
    try:
        import torch
    except ImportError as error:
        return f"torch cannot be imported: {error}"
    description = cuda_support.describe()
    if not torch.cuda.is_available():
        return f"torch sees no CUDA device; {description.message}"
    return None if description.ready else description.message


def check_on_device(case: Case, form: str) -> None:
    """Return nothing; raise AssertionError unless the device computes the case, in small sizes and in its own."""
    for seed, size in enumerate((case.sizes[-2], case.sizes[-1], case.device_size)):
        problem = case.problem(size)
        run = functools.partial(on_device, grid=problem.device_grid)
        check(case, problem, problem.sources[form], run, seed)


def on_device(source: KernelSource, arguments: Arguments, grid: tuple[int, int]) -> None:
    """Return nothing; run the kernel on copies in device memory, guards around each, and copy the results back."""
    import torch

    arrays, scalars = split_arguments(arguments)
    memory: dict[int, torch.Tensor] = {}
    for array in arrays:
        if id(array) not in memory:
            whole = torch.full((array.nbytes + 2 * GUARD_BYTES,), POISON, dtype=torch.uint8, device="cuda")
            whole[GUARD_BYTES:-GUARD_BYTES] = torch.from_numpy(array.view(np.uint8).copy()).cuda()
            memory[id(array)] = whole
    addresses = tuple(memory[id(array)].data_ptr() + GUARD_BYTES for array in arrays)
    assert source.accepts(addresses)
    stream = cuda_support.cuda_module().external_stream(torch.cuda.current_stream().cuda_stream)
    cuda_kernel.device_kernel(source)[(*grid, stream)](*addresses, *scalars)
    torch.cuda.synchronize()
    for array in arrays:
        whole = memory[id(array)].cpu().numpy()
        guards = np.concatenate([whole[:GUARD_BYTES], whole[-GUARD_BYTES:]])
        assert (guards == POISON).all(), "bytes outside of a buffer were written"
        array.view(np.uint8)[:] = whole[GUARD_BYTES:-GUARD_BYTES]
