"""Memory that a worker offers, and how a peer writes to it: by stores where both see it, through UCX where not."""

from __future__ import annotations

import contextlib
import ctypes
import json
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from kernels.transfer.words import WORD_BYTES, set_word
from optimizers.placement.transport.errors import TransportError
from optimizers.placement.transport.memory import MappedMemory
from optimizers.placement.transport.ucx import Check, Endpoint, wait_until

_CLOSING_SECONDS = 0.5
_WORDS = 64
"""Words that may be on their way to one peer's memory."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a peer needs in order to reach memory of another worker.

    descriptor: of the file behind it, -1 where it is no shared memory.
    key: of UCX, hexadecimal; empty where it is not registered.
    """

    address: int
    byte_count: int
    descriptor: int
    key: str

    def encode(self) -> bytes:
        """Return the offer as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> Offer:
        """Return the offer of JSON."""
        return cls(**json.loads(data))


class RemoteRegion(Protocol):
    """A peer's memory. Offsets and sizes are in bytes; nothing is checked against overlap."""

    byte_count: int

    @property
    def mapped_address(self) -> int:
        """Return where the memory is in this process, 0 where it is not."""

    def put(self, source: int, offset: int, byte_count: int) -> None:
        """Return nothing; begin to store `byte_count` bytes from the address `source`, which must not change yet."""

    def flush(self, check: Check) -> None:
        """Return nothing once all that was put is in the peer's memory."""

    def set_word(self, offset: int, value: int, check: Check) -> None:
        """Return nothing; set a word of the peer's, after a flush where it speaks of what was put."""

    def get(self, destination: int, offset: int, byte_count: int, check: Check) -> None:
        """Return nothing once the bytes are at the address `destination`."""

    def close(self) -> None:
        """Return nothing; let go of the peer's memory."""


class DirectRegion:
    """A peer's memory on the same host: stores of this process go there."""

    def __init__(self, pid: int, offer: Offer) -> None:
        self._memory = MappedMemory(pid, offer.descriptor, offer.byte_count)
        self.byte_count = offer.byte_count

    @property
    def mapped_address(self) -> int:
        """Return where the memory is in this process."""
        return self._memory.address

    @property
    def memory(self) -> MappedMemory:
        """Return what keeps the mapping alive."""
        return self._memory

    def put(self, source: int, offset: int, byte_count: int) -> None:
        """Return nothing; store the bytes."""
        _expect_within(offset, byte_count, self.byte_count)
        ctypes.memmove(self._memory.address + offset, source, byte_count)

    def flush(self, check: Check) -> None:
        """Return nothing: the word that follows is stored after the bytes."""

    def set_word(self, offset: int, value: int, check: Check) -> None:
        """Return nothing; store the word and wake who waits for it."""
        set_word(self._memory.address + offset, value)

    def get(self, destination: int, offset: int, byte_count: int, check: Check) -> None:
        """Return nothing; load the bytes."""
        _expect_within(offset, byte_count, self.byte_count)
        ctypes.memmove(destination, self._memory.address + offset, byte_count)

    def close(self) -> None:
        """Return nothing; unmap it."""
        self._memory.close()


class UcxRegion:
    """A peer's memory behind a network."""

    mapped_address = 0

    def __init__(self, endpoint: Endpoint, offer: Offer) -> None:
        self._endpoint = endpoint
        self._address, self.byte_count = offer.address, offer.byte_count
        self._key = endpoint.unpack(bytes.fromhex(offer.key))
        self._puts: list[int | None] = []
        self._words: Any = np.zeros(_WORDS, np.int64)
        self._said: deque[int | None] = deque()
        self._turn = 0

    def put(self, source: int, offset: int, byte_count: int) -> None:
        """Return nothing; begin to put the bytes."""
        _expect_within(offset, byte_count, self.byte_count)
        if byte_count:
            self._puts.append(self._endpoint.put(source, byte_count, self._address + offset, self._key))

    def flush(self, check: Check) -> None:
        """Return nothing once the bytes of every put are in the peer's memory."""
        puts, self._puts = self._puts, []
        for request in (self._endpoint.flush(), *puts):  # the flush ends last: one wait for all of them
            self._endpoint.complete(request, check)

    def set_word(self, offset: int, value: int, check: Check) -> None:
        """Return nothing; put the word; whoever waits next also drives this put."""
        if len(self._said) == _WORDS:
            self._endpoint.complete(self._said.popleft(), check)
        self._words[self._turn] = value
        source = int(self._words.ctypes.data) + WORD_BYTES * self._turn
        self._turn = (self._turn + 1) % _WORDS
        self._said.append(self._endpoint.put(source, WORD_BYTES, self._address + offset, self._key))

    def get(self, destination: int, offset: int, byte_count: int, check: Check) -> None:
        """Return nothing once the bytes are here."""
        _expect_within(offset, byte_count, self.byte_count)
        if byte_count:
            request = self._endpoint.get(destination, byte_count, self._address + offset, self._key)
            self._endpoint.complete(request, check)

    def close(self) -> None:
        """Return nothing; destroy the key, once nothing that uses it is under way."""
        check = wait_until(time.monotonic() + _CLOSING_SECONDS, lambda: "the peer takes nothing any more")
        with contextlib.suppress(TransportError):
            for request in (*self._puts, *self._said):
                self._endpoint.complete(request, check, silent=True)
        self._endpoint.forget(self._key)


def _expect_within(offset: int, byte_count: int, most: int) -> None:
    if offset < 0 or byte_count < 0 or offset + byte_count > most:
        raise TransportError(f"bytes {offset} to {offset + byte_count} are not within the peer's {most} bytes")
