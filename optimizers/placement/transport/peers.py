"""The other workers of a job: small messages to them, and whether they are still there.

Every two workers keep a connection. What goes over it is small and rare (where memory lies, barriers, good-byes); its
end tells at once that a worker is gone, however it ended.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable

from optimizers.placement.transport.errors import TransportError
from optimizers.placement.transport.frames import Channel
from optimizers.placement.transport.identity import Identity

_GOODBYE, _FAILURE = "goodbye", "failure"
_PART_SECONDS = 0.5
"""How often one who waits looks whether its time is up."""


class Peers:
    """Messages to and from the other workers, and the first failure that any of them saw."""

    def __init__(self, own: Identity, found: dict[int, tuple[Identity, Channel]], timeout_seconds: float) -> None:
        self.own = own
        self.identities = {rank: identity for rank, (identity, _) in sorted(found.items())}
        self.timeout_seconds = timeout_seconds
        self.failure = ""
        self._channels = {rank: channel for rank, (_, channel) in found.items()}
        self._messages: dict[tuple[int, str], deque[bytes]] = {}
        self._departed: set[int] = set()
        self._changed = threading.Condition()
        self._closing = False
        self._bell, self._bell_end = socket.socketpair()
        self._reader = threading.Thread(target=self._read, name="hotbench-peers", daemon=True)
        self._reader.start()

    def name(self, rank: int) -> str:
        """Return how messages name a peer."""
        return str(self.identities[rank])

    def send(self, rank: int, tag: str, payload: bytes) -> None:
        """Return nothing; send a message; raise TransportError that names a peer that is gone."""
        self.check()
        try:
            self._channels[rank].send(tag, payload)
        except OSError as error:
            self.fail(f"{self.name(rank)} is not reached: {error.strerror or error}")
            self.check()

    def receive(self, rank: int, tag: str) -> bytes:
        """Return the next message of this tag; raise TransportError when the peer is gone or silent for too long."""
        deadline = time.monotonic() + self.timeout_seconds
        with self._changed:
            while True:
                waiting = self._messages.get((rank, tag))
                if waiting:
                    return waiting.popleft()
                self.check([rank])
                if time.monotonic() > deadline:
                    break
                self._changed.wait(_PART_SECONDS)
        self.fail(f"{self.name(rank)} was silent for {self.timeout_seconds:g} s while {tag!r} was awaited")
        raise TransportError(self.failure)

    def gather(self, tag: str, payload: bytes) -> dict[int, bytes]:
        """Return what each peer gathers under the tag; every worker calls this in the same order."""
        for rank in self.identities:
            self.send(rank, tag, payload)
        return {rank: self.receive(rank, tag) for rank in self.identities}

    def check(self, needed: Iterable[int] = ()) -> None:
        """Return nothing; raise TransportError after a failure, or where a peer that is needed has left."""
        if self.failure:
            raise TransportError(self.failure)
        for rank in needed:
            if rank in self._departed:
                raise TransportError(f"{self.name(rank)} has closed its transport while it is still needed")

    def fail(self, reason: str) -> None:
        """Return nothing; note the first failure and tell the peers, who then stop too."""
        with self._changed:
            if self.failure or self._closing:
                return
            self.failure = reason
            self._changed.notify_all()
        for channel in self._channels.values():
            with contextlib.suppress(OSError):
                channel.socket.settimeout(_PART_SECONDS)
                channel.send(_FAILURE, reason.encode())

    def close(self) -> None:
        """Return nothing; say good-bye and end; a second call does nothing."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
        for channel in self._channels.values():
            with contextlib.suppress(OSError):
                channel.socket.settimeout(_PART_SECONDS)
                channel.send(_GOODBYE, b"")
        self._bell.close()
        self._reader.join()
        self._bell_end.close()
        for channel in self._channels.values():
            channel.socket.close()

    def _read(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._bell_end, selectors.EVENT_READ, None)
            for rank, channel in self._channels.items():
                selector.register(channel.socket, selectors.EVENT_READ, rank)
            while not self._closing:
                for key, _ in selector.select():
                    if key.data is not None and not self._take(key.data):
                        selector.unregister(key.fileobj)

    def _take(self, rank: int) -> bool:
        """Return whether more may come from this peer."""
        try:
            tag, payload = self._channels[rank].receive()
        except (EOFError, OSError) as error:
            if rank not in self._departed:
                self.fail(f"{self.name(rank)} went away: {_ending(error)}; see its own output for why")
            return False
        except (TransportError, ValueError) as error:
            self.fail(f"{self.name(rank)} sent what is not this job's: {error}")
            return False
        if tag == _FAILURE:
            self.fail(_passed_on(self.name(rank), payload.decode(errors="replace")))
            return True
        with self._changed:
            if tag == _GOODBYE:
                self._departed.add(rank)
            else:
                self._messages.setdefault((rank, tag), deque()).append(payload)
            self._changed.notify_all()
        return tag != _GOODBYE


def _ending(error: BaseException) -> str:
    return "its connection closed" if isinstance(error, EOFError) else str(error)


def _passed_on(name: str, reason: str) -> str:
    """Return the reason with who said it, unless it says so itself."""
    return reason if name in reason or " says: " in reason else f"{name} says: {reason}"
