"""Stands in for the CUDA module, its arrays and compiled kernels: notes what launchers ask of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kernels.cuda import kernel as cuda_kernel
from kernels.cuda import launch as cuda_launch
from kernels.cuda import support as cuda_support

TABLE_ADDRESS = 4096


class Recorder:
    """The CUDA module and each of its kernels at once; a launch is (blocks, threads, stream, arguments)."""

    def __init__(self) -> None:
        self.launches: list[tuple[Any, ...]] = []
        self.uploads: list[np.ndarray] = []

    def external_stream(self, handle: int) -> str:
        return f"stream {handle}"

    def to_device(self, array: np.ndarray) -> SimpleNamespace:
        self.uploads.append(array)
        return device_array(array.size, "<i8", TABLE_ADDRESS * len(self.uploads))

    def __getitem__(self, configuration: tuple[Any, ...]):
        return lambda *arguments: self.launches.append((*configuration, arguments))


def device_array(elements: int, dtype: str = "|u1", address: int = 256, read_only: bool = False) -> SimpleNamespace:
    """Return what a launcher sees of a CUDA array."""
    interface = {"data": (address, read_only), "shape": (elements,), "typestr": dtype, "strides": None, "version": 3}
    return SimpleNamespace(__cuda_array_interface__=interface)


class HostKernel:
    """Stands in for a compiled kernel: a launch runs the CPU twin at once, on the host's memory."""

    def __init__(self, source: cuda_kernel.KernelSource) -> None:
        self.run = cuda_kernel.host_function(source)

    def __getitem__(self, configuration: tuple[Any, ...]):
        return self.run


def launch_on_the_host(patch: pytest.MonkeyPatch) -> None:
    """Let every launcher run its kernels' CPU twins."""
    patch.setattr(cuda_kernel, "device_kernel", HostKernel)
    patch.setattr(cuda_launch, "current_device", lambda: 0)
    patch.setattr(cuda_launch, "multiprocessors", lambda: 2)
    patch.setattr(cuda_support, "cuda_module", SimpleNamespace)
