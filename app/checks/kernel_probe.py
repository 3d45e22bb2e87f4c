"""Compiles a fused pointwise kernel and, where there is a device, runs it; a process of its own, as it may crash.

python -m app.checks.kernel_probe     one JSON line: ran, and on which device or for which target
"""

from __future__ import annotations

import json
import sys

import numpy as np

from kernels import pointwise
from kernels.compiler.ir import Access, Buffer, Region, Store, Value
from kernels.cuda import kernel as cuda_kernel
from kernels.cuda import support as cuda_support

ELEMENTS = 1003
TARGET = (9, 0)


def scaled_silu(elements: int) -> Region:
    """Return y = x * sigmoid(x) over so many elements."""
    every = Access(0, 0, (1,))
    values = (
        Value("load", "float32", access=every),
        Value("sigmoid", "float32", (0,)),
        Value("mul", "float32", (0, 1)),
    )
    buffers = (Buffer("x", "float32", elements), Buffer("y", "float32", elements, written=True))
    return Region((elements,), 0, buffers, values, (Store(2, Access(1, 0, (1,))),))


def probe() -> dict[str, object]:
    """Return what was done; raise where the kernel does not compile, does not run or computes something else."""
    region = scaled_silu(ELEMENTS)
    launcher = pointwise.Launcher(region)
    if not cuda_support.describe().devices:
        for source in launcher.sources.values():
            function, signature = cuda_kernel.device_function(source), cuda_kernel.signature(source)
            cuda_support.compile_ptx(function, signature, TARGET)
        return {"ran": False, "target": f"sm_{TARGET[0]}{TARGET[1]}"}
    cuda = cuda_support.cuda_module()
    x = np.random.default_rng().standard_normal(ELEMENTS).astype(np.float32)
    given, result = cuda.to_device(x), cuda.device_array(ELEMENTS, np.float32)
    launcher.launch((given, result), 0)
    wanted = pointwise.reference(region, [x, np.empty_like(x)])[1]
    error = float(np.max(np.abs(result.copy_to_host() - wanted)))
    if not error < 1e-5:
        raise ArithmeticError(f"the kernel ran, but its result is wrong by {error:.3g}")
    return {"ran": True, "device": str(cuda.get_current_device().name.decode())}


if __name__ == "__main__":
    json.dump(probe(), sys.stdout)
    print()
