"""The engine's way to a tier: a swap file and a lane each way."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from pathlib import Path

import torch

from optimizers.swap.entries import Copying
from optimizers.swap.itinerary import BYTES_IN_FLIGHT
from optimizers.swap.lanes import Lane, Ticket
from optimizers.swap.swap_file import BLOCK_BYTES, CHUNK_BYTES, Staging, SwapFile, round_up

_log = logging.getLogger("hotbench")

SHARE_OF_PEAK = 64
LEAST_CHUNK_BYTES = 32 << 10


def chunk_for(peak_bytes: int) -> int:
    """Return the bytes that a lane copies at a time: little beside the step's peak, and at most CHUNK_BYTES."""
    return min(max(round_up(peak_bytes // SHARE_OF_PEAK), LEAST_CHUNK_BYTES), CHUNK_BYTES)


def reserve_for(chunk_bytes: int) -> int:
    """Return the memory that the two lanes take themselves."""
    return 2 * (chunk_bytes + BLOCK_BYTES)


class FileTier:
    """Copies storages to a file and back in the background. Raises SwapError where the file cannot be made."""

    def __init__(
        self, folder: Path, capacity_bytes: int, chunk_bytes: int = CHUNK_BYTES, bytes_in_flight: int = BYTES_IN_FLIGHT
    ) -> None:
        self.file = SwapFile(folder, capacity_bytes)
        self.bytes_in_flight = bytes_in_flight
        self._out, self._in = Lane("hotbench swap out"), Lane("hotbench swap in")
        self._out_staging, self._in_staging = Staging(chunk_bytes), Staging(chunk_bytes)
        self._flying: deque[tuple[Ticket, int]] = deque()
        self._flying_bytes = 0
        self.trouble = ""

    def note_failure(self, error: Exception) -> None:
        """Note, and say once, that the file takes no more: nothing leaves from now on."""
        if not self.trouble:
            self.trouble = f"the swap file cannot be written ({error}); what was to leave stays in memory from now on"
            _log.warning("%s", self.trouble)

    def copy_out(self, storage: torch.UntypedStorage, offset: int) -> Copying:
        """Return the copy of the storage to the file's `offset`; wait first while too much is on its way."""
        size = storage.nbytes()
        while self._flying and (self._flying[0][0].done or self._flying_bytes + size > self.bytes_in_flight):
            ticket, landed = self._flying.popleft()
            ticket.wait()
            self._flying_bytes -= landed
        ticket = self._out.issue(_Job(self.file.write, storage, offset, self._out_staging))
        self._flying.append((ticket, size))
        self._flying_bytes += size
        return Copying(ticket, storage)

    def copy_in(self, size: int, offset: int) -> Copying:
        """Return the copy of the bytes at the file's `offset` into new memory."""
        # Made by the caller's thread, which also gives it back: one allocator's account.
        storage = torch.empty(size, dtype=torch.uint8).untyped_storage()
        return Copying(self._in.issue(_Job(self.file.read, storage, offset, self._in_staging)), storage)

    def close(self) -> None:
        """Finish what is on its way and give the file back."""
        self._out.close()
        self._in.close()
        self.file.close()
        self._out_staging.release()
        self._in_staging.release()


class _Job:
    """One copy; it holds the memory that it works on, since whoever asked for it may be gone by then."""

    __slots__ = ("call", "offset", "staging", "storage")

    def __init__(
        self,
        call: Callable[[int, int, int, Staging], None],
        storage: torch.UntypedStorage,
        offset: int,
        staging: Staging,
    ) -> None:
        self.call, self.storage, self.offset, self.staging = call, storage, offset, staging

    def __call__(self) -> None:
        self.call(self.storage.data_ptr(), self.storage.nbytes(), self.offset, self.staging)
