"""What a worker tells of its machine: device, versions, and how busy it is. Without importing torch."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("hotbench", "torch", "numba")
_ASK_TORCH = """
import json, torch
found = torch.cuda.is_available()
print(json.dumps({"cuda": found, "name": torch.cuda.get_device_name(0) if found else ""}))
"""


def describe(host: str) -> dict[str, Any]:
    """Return host, the device that a capture takes by default, all kinds of device, and the packages' versions."""
    name = _cuda_name()
    device = {"kind": "cuda", "name": name} if name else {"kind": "cpu", "name": _processor()}
    return {
        "host": host,
        "device": device,
        "devices": ["cpu", "cuda"] if name else ["cpu"],
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
    }


def load() -> dict[str, Any]:
    """Return fractions in use: of the processor's cores, of memory, and of each GPU and its memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"cpu": min(os.getloadavg()[0] / cores, 1.0), "memory": _memory(), "gpus": list(_gpus())}


def _cuda_name() -> str:
    """Return the name of the GPU that torch can use here; "" without one."""
    if not any(True for _ in _gpus()):
        return ""
    # Asked in a process of its own: the worker itself stays small and holds no memory of the GPU.
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ASK_TORCH], check=False, capture_output=True, text=True, timeout=120
        )
        return str(json.loads(done.stdout.strip().splitlines()[-1])["name"])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError, KeyError):
        return ""


def _gpus() -> Iterator[dict[str, Any]]:
    """Yield name, utilization and memory of each GPU that the driver knows."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:
        # No driver, or no library: there is no GPU to tell of.
        return
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            found: dict[str, Any] = {"name": str(pynvml.nvmlDeviceGetName(handle))}
            with contextlib.suppress(pynvml.NVMLError):
                found["utilization"] = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
            with contextlib.suppress(pynvml.NVMLError):
                memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
                found["memory"] = memory.used / memory.total
            yield found
    finally:
        pynvml.nvmlShutdown()


def _memory() -> float | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        sizes = {line.partition(":")[0]: int(line.split()[1]) for line in lines if len(line.split()) > 1}
        return 1 - sizes["MemAvailable"] / sizes["MemTotal"]
    except (OSError, ValueError, KeyError, ZeroDivisionError):
        return None


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
