"""Whether kernels can be timed (CUPTI), and whether clocks, power and memory can be read (NVML)."""

from __future__ import annotations

import json
from typing import Any

from app.checks.check import ABSENT, OK, WARN, Check
from app.checks.driver import Driver, read_driver
from app.checks.machine import Machine
from app.units import plural

_CAPABILITIES = {"CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38}
PERMISSION = (
    "ERR_NVGPUCTRPERM: the driver keeps performance counters for administrators; as root write "
    "'options nvidia NVreg_RestrictProfilingToAdminUsers=0' to /etc/modprobe.d/nvidia-profiling.conf, rebuild the "
    "initramfs and restart; in a container add --cap-add=SYS_ADMIN, or run as root"
)
_LIBRARIES = ("libcupti.so", "libcupti.so.13", "libcupti.so.12")


def check_cupti(machine: Machine) -> Check:
    """Return whether PyTorch's profiler sees kernels, by profiling one; without a GPU, what can be known."""
    driver = read_driver(machine)
    if not driver.devices:
        return _without_device(machine, driver)
    if machine.module("torch").version.cuda is None:
        return Check("cupti", WARN, "PyTorch is built for the CPU and has no CUPTI", "install PyTorch's CUDA build")
    outcome = machine.run("app.checks.cupti_probe", ())
    restricted = counters_restricted(machine)
    if outcome.status != 0:
        remedy = PERMISSION if _denied(outcome.errors) or restricted else "see that torch.cuda works (line torch cuda)"
        return Check("cupti", WARN, f"profiling a kernel fails: {outcome.last_error}", remedy)
    kernels = json.loads(outcome.output.splitlines()[-1])["kernels"]
    if not kernels:
        why = (
            PERMISSION
            if _denied(outcome.errors) or restricted
            else "end other profilers (nsys, ncu, dcgm): one at a time"
        )
        return Check("cupti", WARN, "the profiler saw none of the kernels that ran: GPU times would be missing", why)
    if restricted:
        found = "kernels are timed; hardware counters are for administrators alone, and Hotbench needs none"
        return Check("cupti", OK, found)
    return Check("cupti", OK, "kernels are timed, and hardware counters are open to this user")


def counters_restricted(machine: Machine) -> bool | None:
    """Return whether the driver keeps performance counters from this user; None where the driver does not say."""
    parameters = machine.text("proc/driver/nvidia/params")
    for line in (parameters or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "RmProfilingAdminOnly":
            return value.strip() != "0" and not _is_privileged(machine)
    return None


def check_nvml(machine: Machine) -> Check:
    """Return what NVML answers: driver version, devices, and whether clocks and power can be read."""
    has_driver = read_driver(machine).cuda is not None
    try:
        nvml = machine.module("pynvml")
    except ImportError as error:
        return Check("nvml", WARN, f"its Python module cannot be imported: {error}", "pip install nvidia-ml-py")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        if not has_driver:
            return Check("nvml", ABSENT, "no NVIDIA driver, hence no clocks, power or temperature")
        return Check("nvml", WARN, f"NVML does not start: {error}", _nvml_remedy(str(error)))
    try:
        return _nvml_devices(nvml)
    finally:
        nvml.nvmlShutdown()


def _without_device(machine: Machine, driver: Driver) -> Check:
    library = next((name for name in _LIBRARIES if _loads(machine, name)), None)
    cupti = f"{library} loads" if library else "libcupti was not found outside of packages"
    restricted = counters_restricted(machine)
    if driver.cuda is None or restricted is None:
        return Check("cupti", ABSENT, f"no device to profile; {cupti}")
    if restricted:
        return Check("cupti", WARN, f"no device to profile; counters are restricted; {cupti}", PERMISSION)
    return Check("cupti", ABSENT, f"no device to profile; counters are open to this user; {cupti}")


def _loads(machine: Machine, library: str) -> bool:
    try:
        machine.load(library)
    except OSError:
        return False
    return True


def _denied(errors: str) -> bool:
    return any(word in errors for word in ("INSUFFICIENT_PRIVILEGES", "ERR_NVGPUCTRPERM", "NOT_PERMITTED"))


def _is_privileged(machine: Machine) -> bool:
    for line in (machine.text("proc/self/status") or "").splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return any(int(value, 16) >> bit & 1 for bit in _CAPABILITIES.values())
    return False


def _nvml_devices(nvml: Any) -> Check:
    version = nvml.nvmlSystemGetDriverVersion()
    version = version.decode() if isinstance(version, bytes) else version
    count = int(nvml.nvmlDeviceGetCount())
    refused = [name for name in _READINGS if not _readable(nvml, name, count)]
    found = f"driver {version}, {plural(count, 'device')}"
    if not count:
        return Check("nvml", WARN, found, "see nvidia-smi: the driver runs, but has no device")
    if refused:
        remedy = "some GPUs and virtual machines cannot tell; runs will lack them, and clock changes go unnoticed"
        return Check("nvml", WARN, f"{found}; refused: {', '.join(refused)}", remedy)
    return Check("nvml", OK, f"{found}; clocks, power, temperature and memory can be read")


_READINGS = {
    "clocks": lambda nvml, handle: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
    "power": lambda nvml, handle: nvml.nvmlDeviceGetPowerUsage(handle),
    "temperature": lambda nvml, handle: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
    "memory": lambda nvml, handle: nvml.nvmlDeviceGetMemoryInfo(handle),
}


def _readable(nvml: Any, name: str, count: int) -> bool:
    try:
        for index in range(count):
            _READINGS[name](nvml, nvml.nvmlDeviceGetHandleByIndex(index))
    except nvml.NVMLError:
        return False
    return True


def _nvml_remedy(error: str) -> str:
    words = error.lower()
    if "mismatch" in words:
        return "the driver was updated while it ran: restart the machine, or reload its kernel modules"
    if "not found" in words:
        return "libnvidia-ml.so.1 is missing: in a container start it with NVIDIA_DRIVER_CAPABILITIES=compute,utility"
    if "permission" in words:
        return "this user may not open /dev/nvidiactl: add it to the group that owns it (often video)"
    return "see what nvidia-smi says"
