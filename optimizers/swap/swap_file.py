"""A file that swapped storages go to: without a name, past the page cache where the file system allows."""

from __future__ import annotations

import ctypes
import errno
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from optimizers.swap.errors import SwapError

BLOCK_BYTES = 4096
CHUNK_BYTES = 1 << 20
FOLDER_VARIABLE = "HOTBENCH_SWAP"
IN_MEMORY = ("tmpfs", "ramfs")


def round_up(size: int, block: int = BLOCK_BYTES) -> int:
    """Return the size in whole blocks."""
    return -(-size // block) * block


class Staging:
    """Memory that one lane copies through: direct reads and writes need addresses and sizes in whole blocks."""

    def __init__(self, size: int = CHUNK_BYTES) -> None:
        self.bytes = round_up(size)
        # A tensor, so that it counts as the step's memory, as all else does.
        self.memory = torch.empty(self.bytes + BLOCK_BYTES, dtype=torch.uint8)
        self.address = round_up(self.memory.data_ptr())

    def release(self) -> None:
        """Give the memory back; nothing is copied through it any more."""
        self.memory = torch.empty(0, dtype=torch.uint8)


class SwapFile:
    """Storages at fixed places of one file. Its space is taken at once, so that it cannot run out later.

    It has no name: the system frees it when the process ends, however it ends. direct: the page cache is passed by.
    Raises SwapError where the folder cannot hold it.
    """

    def __init__(self, folder: Path, capacity_bytes: int) -> None:
        self.folder, self.capacity_bytes = folder, round_up(capacity_bytes)
        self.descriptor, self.direct = _open_nameless(folder)
        try:
            if self.capacity_bytes:
                os.posix_fallocate(self.descriptor, 0, self.capacity_bytes)
        except OSError as error:
            self.close()
            wanted = f"{self.capacity_bytes:,} bytes"
            reason = error.strerror or str(error)
            raise SwapError(f"{folder} cannot hold the {wanted} that are swapped ({reason}); name another") from error

    def close(self) -> None:
        """Give the space back; harmless when that has been done."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def write(self, address: int, size: int, offset: int, staging: Staging) -> None:
        """Copy `size` bytes of memory to the file's `offset`. Raises OSError."""
        for done in range(0, size, staging.bytes):
            count = min(staging.bytes, size - done)
            if self.direct:
                ctypes.memmove(staging.address, address + done, count)
                self._transfer(os.pwrite, staging.address, round_up(count), offset + done)
            else:
                self._transfer(os.pwrite, address + done, count, offset + done)

    def read(self, address: int, size: int, offset: int, staging: Staging) -> None:
        """Copy `size` bytes at the file's `offset` to memory. Raises OSError."""
        for done in range(0, size, staging.bytes):
            count = min(staging.bytes, size - done)
            if self.direct:
                self._transfer(_read_into, staging.address, round_up(count), offset + done)
                ctypes.memmove(address + done, staging.address, count)
            else:
                self._transfer(_read_into, address + done, count, offset + done)

    def _transfer(self, call: Callable[[int, Any, int], int], address: int, count: int, offset: int) -> None:
        done = 0
        while done < count:
            moved = call(self.descriptor, (ctypes.c_char * (count - done)).from_address(address + done), offset + done)
            if moved <= 0:
                raise OSError(errno.EIO, f"the swap file ends at byte {offset + done}")
            done += moved


def _read_into(descriptor: int, memory: Any, offset: int) -> int:
    return os.preadv(descriptor, [memory], offset)


def _open_nameless(folder: Path) -> tuple[int, bool]:
    flags = os.O_RDWR | os.O_CLOEXEC
    for direct in (getattr(os, "O_DIRECT", 0), 0):
        try:
            return os.open(folder, flags | os.O_TMPFILE | direct, 0o600), bool(direct)
        except (OSError, AttributeError):
            continue
    try:
        descriptor, name = tempfile.mkstemp(prefix="hotbench-swap-", dir=folder)
        Path(name).unlink()
    except OSError as error:
        raise SwapError(f"cannot make a swap file in {folder}: {error.strerror}; name a folder on a disk") from error
    return descriptor, False


def swap_folder(named: str | Path | None = None) -> Path:
    """Return the folder for swap files: the one named, $HOTBENCH_SWAP, or the first temporary folder on a disk.

    Raises SwapError for a folder that is missing or lies in memory: what goes there frees none.
    """
    chosen = named or os.environ.get(FOLDER_VARIABLE)
    if chosen:
        folder = Path(chosen).expanduser()
        if not folder.is_dir():
            raise SwapError(f"no folder {str(chosen)!r} to swap to; make it, or name another")
        if file_system_of(folder) in IN_MEMORY:
            raise SwapError(f"{folder} lies in memory ({file_system_of(folder)}); name a folder on a disk to swap to")
        return folder
    candidates = [Path("/var/tmp"), Path(tempfile.gettempdir()), Path.home()]
    for folder in candidates:
        if folder.is_dir() and os.access(folder, os.W_OK) and file_system_of(folder) not in IN_MEMORY:
            return folder
    raise SwapError(f"no temporary folder on a disk to swap to; set {FOLDER_VARIABLE} to one")


def file_system_of(folder: Path) -> str:
    """Return the type of the file system that the folder lies on; "" where the system does not say."""
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return ""
    real = folder.resolve()
    return _longest(mounts, real)


def _longest(mounts: Iterable[str], folder: Path) -> str:
    found, depth = "", -1
    for line in mounts:
        _, place, kind, *_ = line.split(" ")
        mount = Path(place.replace("\\040", " "))
        # The last of several mounts at one place is the one in view.
        if (mount == folder or mount in folder.parents) and len(mount.parts) >= depth:
            found, depth = kind, len(mount.parts)
    return found
