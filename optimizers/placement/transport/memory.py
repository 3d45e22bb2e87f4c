"""Host memory that the workers of one host share: files without a name, so that none is ever left behind."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from optimizers.placement.transport.errors import TransportError

PAGE_BYTES = mmap.PAGESIZE


class SharedMemory:
    """Memory of this process that peers on the same host may map.

    descriptor: of the file behind it, for as long as `owner` lives.
    """

    def __init__(self, descriptor: int, address: int, byte_count: int, owner: Any) -> None:
        self.descriptor, self.address, self.byte_count, self.owner = descriptor, address, byte_count, owner

    @classmethod
    def create(cls, name: str, byte_count: int) -> SharedMemory:
        """Return zeroed memory; raise TransportError where the host has not that much."""
        file = _File(name, byte_count)
        return cls(file.descriptor, file.address, byte_count, file)

    @classmethod
    def adopt(cls, tensor: torch.Tensor) -> SharedMemory:
        """Return the memory of a host tensor's storage, moved in place: every view of it follows.

        torch moves the bytes to shared memory and swaps them in; nothing may be writing to the storage meanwhile.
        Raises TransportError where the host has not that much shared memory.
        """
        if tensor.nbytes == 0:
            raise TransportError("an empty tensor has no memory to share; leave it out")
        storage: Any = tensor.untyped_storage()
        try:
            descriptor, byte_count = storage._share_fd_cpu_()
        except RuntimeError as error:
            _remove_named_by(str(error))
            raise TransportError(_no_memory(tensor.nbytes, str(error).splitlines()[0])) from None
        return cls(descriptor, storage.data_ptr(), byte_count, storage)


class MappedMemory:
    """A peer's SharedMemory, mapped here: what is stored to it is stored there."""

    def __init__(self, pid: int, descriptor: int, byte_count: int) -> None:
        """Map it; raise OSError where the peer's memory is not ours to see."""
        file = os.open(f"/proc/{pid}/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(file, byte_count)
        finally:
            os.close(file)
        self._view: Any = np.frombuffer(self._map, np.uint8)
        self.address = int(self._view.ctypes.data)
        self.byte_count = byte_count

    def close(self) -> None:
        """Return nothing; unmap it, or leave that to the last tensor that shows it."""
        self._view = None


class _File:
    def __init__(self, name: str, byte_count: int) -> None:
        free = _free_bytes()
        if byte_count > free:  # the kernel would promise it, and end a process for it later
            raise TransportError(_no_memory(byte_count, f"{free} are free"))
        self.descriptor = os.memfd_create(f"hotbench-{name}", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self.descriptor, byte_count)
            self._map = mmap.mmap(self.descriptor, byte_count)
        except (OSError, OverflowError, ValueError) as error:
            os.close(self.descriptor)
            raise TransportError(_no_memory(byte_count, str(error))) from None
        self._view: Any = np.frombuffer(self._map, np.uint8)
        self.address = int(self._view.ctypes.data)

    def __del__(self) -> None:
        if hasattr(self, "_view"):
            os.close(self.descriptor)


def _free_bytes() -> int:
    """Return the memory that this host, and this process's control group, still have."""
    found = [line.split()[1] for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvail")]
    free = [int(kib) * 1024 for kib in found]
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):  # no control group, or none with a limit
        most, used = ((group / f"memory.{name}").read_text() for name in ("max", "current"))
        free.append(int(most) - int(used))
    return max(0, min(free, default=1 << 62))


def _remove_named_by(error: str) -> None:
    """Return nothing; remove the file that torch made and then could not make large enough: it leaves it behind."""
    for name in re.findall(rf"</(torch_{os.getpid()}_\w+)>", error):
        (Path("/dev/shm") / name).unlink(missing_ok=True)


def _no_memory(byte_count: int, reason: str) -> str:
    return f"{byte_count} bytes of shared memory are not to be had ({reason}); use fewer slots or smaller buckets"


def tensor_at(address: int, byte_count: int, owner: Any) -> torch.Tensor:
    """Return the bytes at an address as a uint8 tensor, which keeps `owner` alive."""
    if byte_count == 0:
        return torch.empty(0, dtype=torch.uint8)
    buffer = (ctypes.c_uint8 * byte_count).from_address(address)
    buffer._owner = owner  # type: ignore[attr-defined]
    return torch.frombuffer(buffer, dtype=torch.uint8)
