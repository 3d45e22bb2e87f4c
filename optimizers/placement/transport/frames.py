"""Messages between two workers over a socket, each with a proof that the one who sent it has the job's secret."""

from __future__ import annotations

import socket
import struct
import threading
from dataclasses import dataclass, field

from optimizers.placement.transport.errors import TransportError
from optimizers.placement.transport.secret import PROOF_BYTES, Secret

_HEADER = struct.Struct("<II")  # bytes of the tag, bytes of the payload
LONGEST = 64 << 20
"""More than the description of any arena: a longer message is not ours."""


def read_exactly(source: socket.socket, count: int) -> bytes:
    """Return the next `count` bytes; raise EOFError where the other side closed, OSError where the link failed."""
    parts, missing = [], count
    while missing:
        part = source.recv(min(missing, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


@dataclass(slots=True)
class Channel:
    """One of two ends: what is sent is proved with its own name and number, so that no message counts twice."""

    socket: socket.socket
    secret: Secret
    own: bytes
    other: bytes
    _sent: int = 0
    _received: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, tag: str, payload: bytes) -> None:
        """Return nothing; send a message; raise OSError where the link is gone or stalled."""
        with self._lock:
            name = tag.encode()
            proof = self.secret.prove(self.own, self._sent.to_bytes(8, "little"), name, payload)
            self._sent += 1
            self.socket.sendall(_HEADER.pack(len(name), len(payload)) + name + payload + proof)

    def receive(self) -> tuple[str, bytes]:
        """Return the next message; raise EOFError, OSError, or TransportError for one that proves nothing."""
        name_bytes, payload_bytes = _HEADER.unpack(read_exactly(self.socket, _HEADER.size))
        if name_bytes + payload_bytes > LONGEST:
            raise TransportError(f"a message of {name_bytes + payload_bytes} bytes is none of this job's")
        body = read_exactly(self.socket, name_bytes + payload_bytes + PROOF_BYTES)
        name, payload, proof = body[:name_bytes], body[name_bytes:-PROOF_BYTES], body[-PROOF_BYTES:]
        if not self.secret.proves(proof, self.other, self._received.to_bytes(8, "little"), name, payload):
            raise TransportError("a message does not prove the job's secret")
        self._received += 1
        return name.decode(), payload
