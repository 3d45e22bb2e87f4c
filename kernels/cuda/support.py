"""The one place that imports numba-cuda, and what this machine has of CUDA.

`numba.cuda` of plain numba is never used: it is an older target that emits no 128-bit accesses, and its presence
says nothing about a toolkit. Everything here asks for the numba-cuda package.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

INSTALL = "pip install -r requirements-cuda.txt"


class CudaUnavailable(RuntimeError):  # noqa: N818
    """CUDA cannot be used here; the message says what is missing and how to mend it."""


@dataclass(frozen=True, slots=True)
class CudaDescription:
    """What this machine has of CUDA.

    numba_cuda: the version of the numba-cuda package, None where it is absent.
    driver:     the CUDA version that the driver supports ("13.0"), None where no driver answers.
    devices:    how many devices the driver sees.
    toolkit:    folder of the NVVM compiler, None where it was not found.
    message:    one line: what is ready, or what to install.
    """

    numba_cuda: str | None
    driver: str | None
    devices: int
    toolkit: str | None
    message: str

    @property
    def ready(self) -> bool:
        """Return whether kernels can be compiled and launched."""
        return self.numba_cuda is not None and self.devices > 0 and self.toolkit is not None


def describe() -> CudaDescription:
    """Return what this machine has of CUDA, without importing numba-cuda or creating a context."""
    package = numba_cuda_version()
    driver, devices = _driver()
    toolkit = _toolkit()
    return CudaDescription(package, driver, devices, toolkit, _advice(package, driver, devices, toolkit))


def numba_cuda_version() -> str | None:
    """Return the installed version of the numba-cuda package, or None."""
    if importlib.util.find_spec("numba_cuda") is None:
        return None
    try:
        return metadata.version("numba-cuda")
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def cuda_module() -> Any:
    """Return the module `numba.cuda` of the numba-cuda package (its simulator under NUMBA_ENABLE_CUDASIM=1).

    Raises CudaUnavailable where the package is absent or cannot be loaded.
    """
    if numba_cuda_version() is None:
        raise CudaUnavailable(f"the package numba-cuda is not installed; run: {INSTALL}")
    try:
        from numba import cuda
    except ImportError as error:
        raise CudaUnavailable(f"numba-cuda does not load ({_one_line(error)}); run: {INSTALL}") from error
    if getattr(cuda, "implementation", None) != "NVIDIA":
        raise CudaUnavailable(f"numba.cuda is not the one of the package numba-cuda; run: {INSTALL}")
    return cuda


def require_device() -> None:
    """Return nothing; raise CudaUnavailable, saying how to mend it, where no kernel can be launched."""
    description = describe()
    if not description.ready:
        raise CudaUnavailable(description.message)


def is_simulator() -> bool:
    """Return whether numba-cuda runs kernels in its simulator (NUMBA_ENABLE_CUDASIM=1 before numba's import)."""
    from numba import config

    return bool(vars(config)["ENABLE_CUDASIM"])


def compile_ptx(kernel: Any, signature: Any, capability: tuple[int, int], threads: int | None = None) -> str:
    """Return the PTX of a kernel for a compute capability such as (9, 0); needs the toolkit, but no driver.

    threads: the most threads a block is launched with, where that is to bound a thread's registers.
    """
    options = {"launch_bounds": threads} if threads else {}
    code, _ = cuda_module().compile(
        kernel, signature, device=False, abi="numba", cc=capability, output="ptx", **options
    )
    return code.decode() if isinstance(code, bytes) else str(code)


def _driver() -> tuple[str | None, int]:
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None, 0
    version, devices = ctypes.c_int(), ctypes.c_int()
    if library.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return None, 0
    if library.cuInit(0) != 0 or library.cuDeviceGetCount(ctypes.byref(devices)) != 0:
        devices.value = 0
    return f"{version.value // 1000}.{version.value % 1000 // 10}", devices.value


def _toolkit() -> str | None:
    for folder in _toolkit_folders():
        if any(True for pattern in ("lib*/libnvvm.so*", "nvvm/lib*/libnvvm.so*") for _ in folder.glob(pattern)):
            return str(folder)
    return None


def _toolkit_folders() -> list[Path]:
    folders = [Path(os.environ[name]) for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    specification = importlib.util.find_spec("nvidia")
    for location in specification.submodule_search_locations or () if specification else ():
        folders += sorted(Path(location).glob("cu1[0-9]"))
    return [*folders, Path("/usr/local/cuda")]


def _advice(package: str | None, driver: str | None, devices: int, toolkit: str | None) -> str:
    if driver is None:
        return "no CUDA driver answers: kernels run on the CPU; install the NVIDIA driver to use a GPU"
    if devices == 0:
        return f"the driver (CUDA {driver}) sees no device: kernels run on the CPU; check nvidia-smi"
    if package is None:
        return f"{devices} device(s), but the package numba-cuda is not installed; run: {INSTALL}"
    if toolkit is None:
        return f"{devices} device(s), but no CUDA toolkit (libnvvm) was found; run: {INSTALL}"
    return f"ready: {devices} device(s), driver CUDA {driver}, numba-cuda {package}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
