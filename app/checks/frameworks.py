"""PyTorch's CUDA build, numba-cuda and its toolkit, and a kernel of ours that is really compiled."""

from __future__ import annotations

import json

from app.checks.check import ABSENT, OK, WARN, Check
from app.checks.driver import Driver, read_driver
from app.checks.machine import Machine
from kernels.cuda import support as cuda_support

_NVVM = ("nvidia-nvvm", "nvidia-cuda-nvcc", "nvidia-cuda-nvcc-cu12")


def check_torch(machine: Machine) -> Check:
    """Return which CUDA version PyTorch is built for, and whether that fits driver and devices."""
    driver = read_driver(machine)
    try:
        torch = machine.module("torch")
    except ImportError as error:
        return Check("torch cuda", WARN, f"PyTorch cannot be imported: {error}", "install PyTorch 2.11 or later")
    built = torch.version.cuda
    if built is None:
        if not driver.devices:
            return Check("torch cuda", ABSENT, f"PyTorch {torch.__version__} is built for the CPU alone")
        remedy = f"install the PyTorch build for CUDA {driver.cuda[0] if driver.cuda else ''}".rstrip()
        return Check(
            "torch cuda", WARN, f"PyTorch {torch.__version__} is built for the CPU, but there is a GPU", remedy
        )
    found = f"PyTorch {torch.__version__} for CUDA {built}"
    if not driver.devices:
        return Check("torch cuda", ABSENT, f"{found}; there is no GPU that it could use")
    remedy = _misfit(torch.cuda.get_arch_list(), built, driver)
    if remedy:
        return Check("torch cuda", WARN, found, remedy)
    if not torch.cuda.is_available():
        remedy = "restart this session; if it stays, see what torch.cuda.init() says"
        return Check("torch cuda", WARN, f"{found}, but it sees no GPU", remedy)
    return Check("torch cuda", OK, found)


def check_numba_cuda(machine: Machine) -> Check:
    """Return whether numba-cuda, its compiler and the driver fit each other."""
    driver, package = read_driver(machine), machine.version("numba-cuda")
    if package is None:
        if not driver.devices:
            return Check("numba-cuda", ABSENT, "not installed; only a GPU needs it")
        return Check("numba-cuda", WARN, "not installed: no kernel can run on the GPU", cuda_support.INSTALL)
    toolkit = next((version for version in map(machine.version, _NVVM) if version), None)
    found = f"{package}, compiler {toolkit or 'of the system'}"
    if toolkit and driver.cuda and _numbers(toolkit) > driver.cuda:
        needed = f"{driver.cuda[0]}.{driver.cuda[1]}"
        remedy = f"the driver reads code of CUDA {needed} at most: {cuda_support.INSTALL}"
        return Check("numba-cuda", WARN, f"{found}, newer than the driver's CUDA {needed}", remedy)
    return Check("numba-cuda", OK, found)


def check_kernels(machine: Machine) -> Check:
    """Return whether a fused pointwise kernel compiles and, where there is a device, computes what it should."""
    if machine.version("numba-cuda") is None:
        return Check("cuda kernels", ABSENT, "none can be compiled without numba-cuda; on the CPU none is needed")
    outcome = machine.run("app.checks.kernel_probe", ())
    if outcome.status != 0:
        remedy = f"run python -m app.checks.kernel_probe to see all of it; {cuda_support.INSTALL}"
        return Check("cuda kernels", WARN, f"a pointwise kernel fails: {outcome.last_error}", remedy)
    found = json.loads(outcome.output.splitlines()[-1])
    if found["ran"]:
        return Check("cuda kernels", OK, f"a pointwise kernel was compiled, ran on {found['device']}, and is right")
    return Check(
        "cuda kernels", OK, f"a pointwise kernel was compiled for {found['target']}; it did not run: there is no GPU"
    )


def _misfit(architectures: list[str], built: str, driver: Driver) -> str:
    """Return what to do where PyTorch fits the driver or a device badly, "" where it fits."""
    assert driver.cuda is not None
    if _numbers(built)[0] > driver.cuda[0]:
        return f"update the driver, or install the PyTorch build for CUDA {driver.cuda[0]}"
    majors = {name.removeprefix("sm_").rstrip("af")[:-1] for name in architectures if name.startswith("sm_")}
    foreign = [d for d in driver.devices if architectures and str(d.capability[0]) not in majors]
    if foreign:
        capability = "".join(map(str, foreign[0].capability))
        return f"this build has no code for {foreign[0].name} (sm_{capability}): install one that has"
    return ""


def _numbers(version: str) -> tuple[int, int]:
    parts = [int(part) for part in version.split(".")[:2] if part.isdigit()]
    return (parts[0], parts[1]) if len(parts) == 2 else (0, 0)
