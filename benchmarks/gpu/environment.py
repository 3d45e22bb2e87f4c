"""Part: what the machine is: the GPU, its driver, the versions, what the doctor says."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from collections.abc import Callable
from typing import Any

from app.checks.check import FAIL, Check, guarded
from app.checks.gpu import CHECKS
from app.checks.machine import Machine
from benchmarks.gpu.findings import Found, Skip
from benchmarks.gpu.part import Task
from kernels.cuda import support as cuda_support

PACKAGES = tuple(
    "torch triton numba numba-cuda cuda-core numpy pandas pyarrow scipy safetensors nvidia-ml-py pytest".split()
)


def tasks(argument: str) -> list[Task]:
    """Return the part's tasks: the GPU, versions, and each of the doctor's checks of it."""
    doctor = [
        Task(f"doctor-{name.replace(' ', '-')}", functools.partial(examine, name, check)) for name, check in CHECKS
    ]
    return [Task("gpu", gpu), Task("versions", versions), Task("toolkit", toolkit), *doctor]


def examine(name: str, check: Callable[[Machine], Check]) -> Found:
    """Return what the doctor finds. Raises RuntimeError with its remedy where nothing would work."""
    found = guarded(name, lambda: check(Machine()))
    text = f"{found.state}: {found.found}{f'; {found.remedy}' if found.remedy else ''}"
    if found.state == FAIL:
        raise RuntimeError(text)
    return Found(text, facts={f"doctor {name}": found.state})


def gpu() -> Found:
    """Return the GPU's name, driver, memory, clocks and power limit, as NVML gives them; a field it refuses is None."""
    try:
        import pynvml
    except ImportError as error:
        raise Skip("nvidia-ml-py is not installed; run: pip install nvidia-ml-py") from error
    pynvml.nvmlInit()
    try:
        facts = read_gpu(pynvml, pynvml.nvmlDeviceGetHandleByIndex(0))
    finally:
        pynvml.nvmlShutdown()
    return Found(f"{facts['name']}, driver {facts['driver']}", facts=facts)


def read_gpu(nvml: Any, handle: Any) -> dict[str, Any]:
    """Return what NVML says of one GPU; a field that the driver refuses is None."""
    questions = {
        "name": lambda: _text(nvml.nvmlDeviceGetName(handle)),
        "driver": lambda: _text(nvml.nvmlSystemGetDriverVersion()),
        "memory_bytes": lambda: int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        "sm_clock_mhz": lambda: int(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
        "most_sm_clock_mhz": lambda: int(nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM)),
        "memory_clock_mhz": lambda: int(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)),
        "power_limit_watts": lambda: nvml.nvmlDeviceGetPowerManagementLimit(handle) / 1000,
        "temperature_celsius": lambda: int(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
    }
    facts: dict[str, Any] = {}
    for name, question in questions.items():
        try:
            facts[name] = question()
        except nvml.NVMLError:
            facts[name] = None
    return facts


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def versions() -> Found:
    """Return the versions of what the other parts rely on."""
    facts: dict[str, Any] = {"python": platform.python_version(), "system": platform.platform()}
    for package in PACKAGES:
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = None
    facts["torch_cuda"] = _torch_cuda()
    absent = [package for package in PACKAGES if facts[package] is None]
    text = f"Python {facts['python']}, torch {facts['torch']}, numba-cuda {facts['numba-cuda']}"
    return Found(f"{text}; not installed: {', '.join(absent)}" if absent else text, facts=facts)


def _torch_cuda() -> str | None:
    try:
        import torch
    except ImportError:
        return None
    return torch.version.cuda


def toolkit() -> Found:
    """Return what CUDA support the kernels find. Raises CudaUnavailable, saying how to mend it, where none can run."""
    description = cuda_support.describe()
    cuda_support.require_device()
    return Found(description.message, facts={"cuda": description.driver})
