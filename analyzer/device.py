"""What the machine is: its device, links and software; each peak measured or cited, with its source."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from analyzer.errors import WorkloadError

PEAK_SECONDS = 0.15
MATRIX = 1024
COPIED_BYTES = 1 << 26

# torch is imported where something is measured: a saved run is read without it.


@dataclass(frozen=True, slots=True)
class Peak:
    """A ceiling of the device and where the figure is from ("measured: …" or a citation)."""

    value: float
    unit: str
    source: str


@dataclass(frozen=True, slots=True)
class Device:
    """The device that runs the step. kind is "cpu" or "cuda"."""

    kind: str
    name: str
    memory_bytes: int
    cores: int
    flops_per_second: Peak | None = None
    bytes_per_second: Peak | None = None


@dataclass(frozen=True, slots=True)
class Environment:
    """Versions and settings that a time depends on; two runs compare only where the fingerprints agree."""

    python: str
    torch: str
    numba: str
    cuda: str
    driver: str
    operating_system: str
    cpu: str
    cpu_features: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def describe_device(kind: str) -> Device:
    """Return the device that `kind` ("cpu", "cuda", "cuda:1") names, its peaks measured with the present threads.

    Raises WorkloadError where there is no such device.
    """
    if kind.startswith("cuda"):
        return _describe_cuda(kind)
    if kind != "cpu":
        raise WorkloadError(f"device {kind!r} is not supported; use cpu or cuda")
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    flops, bandwidth = measure_peaks("cpu", torch.get_num_threads())
    return Device("cpu", processor_name(), memory, usable_cores(), flops, bandwidth)


def _describe_cuda(kind: str) -> Device:
    import torch

    if not torch.cuda.is_available():
        raise WorkloadError(f"device {kind!r}: torch sees no CUDA device here; use cpu")
    index = torch.device(kind).index or 0
    if index >= torch.cuda.device_count():
        raise WorkloadError(f"device {kind!r}: there are {torch.cuda.device_count()} CUDA devices; number them from 0")
    properties = torch.cuda.get_device_properties(index)
    flops, bandwidth = measure_peaks(f"cuda:{index}", 0)
    return Device("cuda", properties.name, properties.total_memory, properties.multi_processor_count, flops, bandwidth)


@cache
def measure_peaks(device: str, threads: int) -> tuple[Peak, Peak]:
    """Return the highest FLOP/s of a float32 matrix product and bytes/s of a copy; measured once a process.

    threads: part of the key only; the caller has set them.
    """
    import torch

    wait = (lambda: torch.cuda.synchronize(device)) if device.startswith("cuda") else (lambda: None)
    setting = f", {threads} thread(s)" if threads else ""
    with torch.no_grad():
        left, right = torch.rand(MATRIX, MATRIX, device=device), torch.rand(MATRIX, MATRIX, device=device)
        product = torch.empty(MATRIX, MATRIX, device=device)
        seconds = _quickest(lambda: torch.mm(left, right, out=product), wait)
        size = f"{MATRIX}x{MATRIX}"
        flops = Peak(2.0 * MATRIX**3 / seconds, "FLOP/s", f"measured: float32 matrix product of {size}{setting}")
        source = torch.zeros(COPIED_BYTES, dtype=torch.uint8, device=device)
        target = torch.empty_like(source)
        seconds = _quickest(lambda: target.copy_(source), wait)
        moved = f"copy of {COPIED_BYTES >> 20} MiB, read and written"
    return flops, Peak(2.0 * COPIED_BYTES / seconds, "B/s", f"measured: {moved}{setting}")


def _quickest(work: Callable[[], object], wait: Callable[[], None]) -> float:
    """Return the seconds of the quickest of the calls that fit into PEAK_SECONDS, after one untimed."""
    work()
    wait()
    quickest, stop = float("inf"), time.perf_counter() + PEAK_SECONDS
    while True:
        begin = time.perf_counter()
        work()
        wait()
        now = time.perf_counter()
        quickest = min(quickest, now - begin)
        if now >= stop:
            return quickest


def describe_environment() -> Environment:
    """Return the versions and processor features of this process."""
    import torch

    return Environment(
        python=platform.python_version(),
        torch=str(torch.__version__),
        numba=_version_of("numba"),
        cuda=str(torch.version.cuda or ""),
        driver=_driver_version(),
        operating_system=f"{platform.system()} {platform.release()}",
        cpu=processor_name(),
        cpu_features=processor_features(),
    )


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def processor_name() -> str:
    """Return the processor's own name, or its architecture where the system does not tell."""
    return _processor_field("model name") or platform.processor() or platform.machine()


@cache
def processor_features() -> tuple[str, ...]:
    """Return the instruction sets that change what code is generated or chosen, sorted."""
    telling = {"avx", "avx2", "fma", "f16c", "sse4_2", "avx_vnni", "neon", "asimd", "sve", "sve2", "bf16", "i8mm"}
    flags = (_processor_field("flags") or _processor_field("Features")).split()
    return tuple(sorted({flag for flag in flags if flag in telling or flag.startswith(("avx512", "amx"))}))


def _processor_field(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), "")


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _driver_version() -> str:
    """Return the NVIDIA driver's version; "" where there is none."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no library, no driver, no permission: each means that there is no driver to name
        return ""
    try:
        return str(pynvml.nvmlSystemGetDriverVersion())
    finally:
        pynvml.nvmlShutdown()
