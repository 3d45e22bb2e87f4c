"""A stand-in for the device, for the launchers' tests."""

from __future__ import annotations

import pytest

from kernels.cuda import kernel as cuda_kernel
from kernels.cuda import launch as cuda_launch
from kernels.cuda import support as cuda_support
from tests.kernels.device_stand_in import Recorder


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Return what notes each launch; the device has two multiprocessors."""
    recorder = Recorder()
    monkeypatch.setattr(cuda_support, "cuda_module", lambda: recorder)
    monkeypatch.setattr(cuda_kernel, "device_kernel", lambda source: recorder)
    monkeypatch.setattr(cuda_launch, "current_device", lambda: 0)
    monkeypatch.setattr(cuda_launch, "multiprocessors", lambda: 2)
    return recorder
