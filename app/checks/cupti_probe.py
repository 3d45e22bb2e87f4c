"""Profiles one CUDA kernel; a process of its own, as the profiler may crash or be refused.

python -m app.checks.cupti_probe     one JSON line: how many kernels the profiler saw
"""

from __future__ import annotations

import json
import sys


def kernels_seen() -> int:
    """Return how many kernels PyTorch's profiler sees of two that run."""
    import torch
    from torch._C._autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    x = torch.ones(1024, device="cuda")
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        (x * 2).sqrt()
        torch.cuda.synchronize()
    return sum(event.device_type == DeviceType.CUDA for event in profiler.events() or ())


if __name__ == "__main__":
    json.dump({"kernels": kernels_seen()}, sys.stdout)
    print()
