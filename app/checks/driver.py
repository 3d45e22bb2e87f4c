"""The NVIDIA driver, asked through libcuda itself: version, devices, and which device reaches which."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from app.checks.check import ABSENT, OK, WARN, Check
from app.checks.machine import Machine
from app.units import plural

LEAST_CAPABILITY = (8, 0)
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
_NVIDIA, _DISPLAY = "0x10de", "0x03"  # PCI vendor; the first byte of the class of display controllers
_INSTALL = "install the NVIDIA driver; in a container start it with GPU access (docker run --gpus all)"
_INIT_ERRORS = {
    100: "the driver sees no device: check nvidia-smi and CUDA_VISIBLE_DEVICES",
    802: "the system is not ready: start nvidia-fabricmanager and wait for it",
    803: "driver and library differ in version: restart the machine, or reload the driver's modules",
    804: "the forward-compatibility library does not serve this GPU: remove cuda-compat or update the driver",
}


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU as the driver names it."""

    name: str
    capability: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Driver:
    """What the driver says.

    cuda:    the CUDA version that it supports, such as (13, 0); None where no driver answers.
    devices: in the driver's order.
    error:   what cuInit returned, 0 where all is well.
    """

    cuda: tuple[int, int] | None
    devices: tuple[Device, ...] = ()
    error: int = 0


def read_driver(machine: Machine) -> Driver:
    """Return what the driver says; no context is created."""
    try:
        library = machine.load("libcuda.so.1")
    except OSError:
        return Driver(None)
    version = ctypes.c_int()
    if library.cuDriverGetVersion(ctypes.byref(version)) != 0 or version.value == 0:
        return Driver(None)
    cuda = (version.value // 1000, version.value % 1000 // 10)
    error = int(library.cuInit(0))
    if error:
        return Driver(cuda, (), error)
    count = ctypes.c_int()
    library.cuDeviceGetCount(ctypes.byref(count))
    return Driver(cuda, tuple(_device(library, index) for index in range(count.value)))


def check_driver(machine: Machine) -> Check:
    """Return whether a driver answers, and which devices it has."""
    driver = read_driver(machine)
    if driver.cuda is None:
        return _without_driver(machine)
    name = f"CUDA {_dotted(driver.cuda)}"
    if driver.error or not driver.devices:
        code = driver.error or 100
        remedy = _INIT_ERRORS.get(code, "see nvidia-smi and the kernel's log (dmesg)")
        return Check("cuda driver", WARN, f"{name}, but cuInit answers with error {code}", remedy)
    devices = "; ".join(f"{d.name} (sm_{d.capability[0]}{d.capability[1]})" for d in driver.devices)
    old = [d for d in driver.devices if d.capability < LEAST_CAPABILITY]
    if old:
        remedy = f"our kernels need sm_80 or later, and {old[0].name} is older: hide it with CUDA_VISIBLE_DEVICES"
        return Check("cuda driver", WARN, f"{name}: {devices}", remedy)
    return Check("cuda driver", OK, f"{name}: {devices}")


def check_peers(machine: Machine) -> Check:
    """Return whether devices can read each other's memory."""
    devices = read_driver(machine).devices
    if len(devices) < 2:
        return Check("peer access", ABSENT, f"{plural(len(devices), 'device')}: there is no peer to reach")
    library = machine.load("libcuda.so.1")
    pairs = [(a, b) for a in range(len(devices)) for b in range(len(devices)) if a != b]
    closed = [pair for pair in pairs if not _reaches(library, *pair)]
    if not closed:
        return Check("peer access", OK, f"each of {len(devices)} devices reaches every other one")
    shown = ", ".join(f"{a} to {b}" for a, b in closed[:4]) + (", ..." if len(closed) > 4 else "")
    remedy = (
        "transfers between these take the way through host memory; see nvidia-smi topo -p2p r; on bare metal turn off "
        "PCIe ACS and the IOMMU, in a virtual machine ask for NVLink or peer access"
    )
    return Check("peer access", WARN, f"{len(closed)} of {len(pairs)} ways are closed: {shown}", remedy)


def _device(library: Any, index: int) -> Device:
    name = ctypes.create_string_buffer(128)
    library.cuDeviceGetName(name, len(name), index)
    numbers = []
    for attribute in (_MAJOR, _MINOR):
        value = ctypes.c_int()
        library.cuDeviceGetAttribute(ctypes.byref(value), attribute, index)
        numbers.append(value.value)
    return Device(name.value.decode(errors="replace") or f"device {index}", (numbers[0], numbers[1]))


def _reaches(library: Any, first: int, second: int) -> bool:
    can = ctypes.c_int()
    return library.cuDeviceCanAccessPeer(ctypes.byref(can), first, second) == 0 and bool(can.value)


def _without_driver(machine: Machine) -> Check:
    seen = _pci_displays(machine)
    if seen:
        return Check(
            "cuda driver", WARN, f"no driver answers, but the PCI bus has an NVIDIA device at {seen[0]}", _INSTALL
        )
    return Check("cuda driver", ABSENT, "no NVIDIA driver and no NVIDIA device: everything runs on the CPU")


def _pci_displays(machine: Machine) -> list[str]:
    found = []
    for folder in sorted((machine.root / "sys/bus/pci/devices").glob("*")):
        place = folder.relative_to(machine.root)
        vendor, kind = machine.text(f"{place}/vendor"), machine.text(f"{place}/class")
        if (vendor or "").strip() == _NVIDIA and (kind or "").startswith(_DISPLAY):
            found.append(folder.name)
    return found


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
