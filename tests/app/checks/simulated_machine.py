"""Machines that this one is not: a driver, an NVML, a PyTorch and child processes that answer as told."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from app.checks.machine import Machine, Outcome

H100 = ("NVIDIA H100 80GB HBM3", (9, 0))


@dataclass
class SimulatedDriver:
    """libcuda as ctypes gives it: functions that write through byref arguments."""

    cuda: int = 13000
    devices: tuple[tuple[str, tuple[int, int]], ...] = (H100,)
    error: int = 0
    closed: tuple[tuple[int, int], ...] = ()

    def cuInit(self, flags: int) -> int:
        return self.error

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = self.cuda
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = len(self.devices)
        return 0

    def cuDeviceGetName(self, name: Any, size: int, index: int) -> int:
        name.value = self.devices[index][0].encode()
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, index: int) -> int:
        value._obj.value = self.devices[index][1][{75: 0, 76: 1}[attribute]]
        return 0

    def cuDeviceCanAccessPeer(self, can: Any, first: int, second: int) -> int:
        can._obj.value = int((first, second) not in self.closed)
        return 0


class NVMLError(Exception):
    """What pynvml raises."""


class SimulatedNvml:
    """pynvml, with readings that the driver refuses by name."""

    NVMLError = NVMLError
    NVML_CLOCK_SM = NVML_TEMPERATURE_GPU = 0

    def __init__(self, devices: int = 1, fails: str = "", refused: tuple[str, ...] = ()) -> None:
        self.devices, self.fails, self.refused, self.open = devices, fails, refused, 0

    def nvmlInit(self) -> None:
        if self.fails:
            raise NVMLError(self.fails)
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.65.06"

    def nvmlDeviceGetCount(self) -> int:
        return self.devices

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def _reading(self, name: str) -> int:
        if name in self.refused:
            raise NVMLError("Not Supported")
        return 1

    def nvmlDeviceGetClockInfo(self, handle: int, kind: int) -> int:
        return self._reading("clocks")

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return self._reading("power")

    def nvmlDeviceGetTemperature(self, handle: int, kind: int) -> int:
        return self._reading("temperature")

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> int:
        return self._reading("memory")


def simulated_torch(
    built: str | None = "13.0", architectures: tuple[str, ...] = ("sm_80", "sm_90"), available: bool = True
) -> SimpleNamespace:
    """Return what is asked of the module torch."""
    cuda = SimpleNamespace(get_arch_list=lambda: list(architectures), is_available=lambda: available)
    return SimpleNamespace(__version__="2.13.0", version=SimpleNamespace(cuda=built), cuda=cuda)


def answer(**found: object) -> Outcome:
    """Return how a probe ends that finds this."""
    return Outcome(0, f"a library's chatter\n{json.dumps(found)}\n", "")


PROBES = {
    "app.checks.kernel_probe": answer(ran=True, device="NVIDIA H100 80GB HBM3"),
    "app.checks.cupti_probe": answer(kernels=2),
    "app.checks.ucx_probe": answer(version="1.20.1", path="/lib/libucp.so.0", components=["tcp", "ib", "cuda_cpy"]),
}
VERSIONS = {"numba-cuda": "0.30.4", "nvidia-nvvm": "13.0.88"}


def machine(
    driver: SimulatedDriver | None = None,
    nvml: object = None,
    torch: object = None,
    probes: Mapping[str, Outcome] | None = None,
    versions: Mapping[str, str] = VERSIONS,
    root: Path = Path("/nonexistent"),
    find_library: Callable[[str], str | None] = lambda name: "libucp.so.0",
    **others: Any,
) -> Machine:
    """Return a machine with these parts; without a driver there is none."""
    modules = {"pynvml": nvml or SimulatedNvml(), "torch": torch or simulated_torch()}

    def load(name: str) -> object:
        if name == "libcuda.so.1" and driver is not None:
            return driver
        raise OSError(f"{name}: cannot open shared object file")

    return Machine(
        load=load,
        module=modules.__getitem__,
        version=versions.get,
        find_library=find_library,
        run=lambda module, arguments: {**PROBES, **(probes or {})}[module],
        environment=others.pop("environment", {}),
        root=root,
        prefix=others.pop("prefix", Path("/nonexistent")),
        packages=others.pop("packages", ()),
    )
