"""How the workers of a job find and recognise each other.

The store (torch's TCPStore, which torchrun starts) only says where each worker listens; it is not trusted. Two workers
then prove to each other, over a connection of their own, that they have the job's secret: each sends a random number
and gets back a proof of both. The worker of the higher rank connects, that of the lower one accepts.
"""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from optimizers.placement.transport.errors import TransportError
from optimizers.placement.transport.frames import Channel, read_exactly
from optimizers.placement.transport.identity import Identity
from optimizers.placement.transport.secret import PROOF_BYTES, Secret

NONCE_BYTES = 32
_LONGEST_IDENTITY = 4096
_LOOK_SECONDS = 0.05
_ANSWER_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Job:
    """What all workers of a job agree on, and when this one's patience ends (time.monotonic)."""

    name: str
    rank: int
    world_size: int
    secret: Secret
    timeout_seconds: float
    deadline: float

    @property
    def remaining_seconds(self) -> float:
        """Return the seconds left, never below a hundredth: 0 would switch a socket's time-out off."""
        return max(0.01, self.deadline - time.monotonic())


def meet(job: Job, store: Any, own: Identity, address: str) -> dict[int, tuple[Identity, Channel]]:
    """Return every peer by its rank, each recognised; raise TransportError that names who is missing or a stranger.

    store: torch.distributed.TCPStore or alike.
    address: of the interface to listen on.
    """
    found: dict[int, tuple[Identity, Channel]] = {}
    with socket.create_server((address, 0), backlog=job.world_size) as server:
        place = json.dumps([address, server.getsockname()[1]])
        try:
            start = _count_start(job, store)
            store.set(_key(job, start, job.rank), place)
            for rank in range(job.rank):
                found[rank] = _connect(job, store, start, own, rank, address)
            _accept_all(job, own, server, found)
        except BaseException:
            for _, channel in found.values():
                channel.socket.close()
            raise
    return found


def _count_start(job: Job, store: Any) -> int:
    """Return how often this rank has started the job: a job of the same name that has ended left its places behind."""
    try:
        return int(store.add(f"hotbench/{job.name}/starts/{job.rank}", 1))
    except Exception as error:  # torch raises several kinds
        reason = " ".join(str(error).split())[:200]
        raise TransportError(f"the store does not answer ({reason}); see whether its process still runs") from None


def _key(job: Job, start: int, rank: int) -> str:
    return f"hotbench/{job.name}/{start}/{rank}"


def _connect(job: Job, store: Any, start: int, own: Identity, rank: int, address: str) -> tuple[Identity, Channel]:
    while True:
        host, port = _place(job, store, start, rank)
        link = None
        try:
            link = socket.create_connection((host, port), job.remaining_seconds, source_address=(address, 0))
            return _recognise(job, link, own, rank)
        except (OSError, EOFError) as error:
            if link is not None:
                link.close()
            if time.monotonic() > job.deadline:
                wait = f"within {job.timeout_seconds:g} s"
                reason = f"does not answer at {host}:{port} {wait}: {error or 'it hung up'}"
                raise TransportError(f"rank {rank} of job {job.name!r} {reason}; see what stopped it") from None
            time.sleep(_LOOK_SECONDS)
        except TransportError:
            if link is not None:
                link.close()
            raise


def _place(job: Job, store: Any, start: int, rank: int) -> tuple[str, int]:
    try:
        store.wait([_key(job, start, rank)], timedelta(seconds=job.remaining_seconds))
        host, port = json.loads(store.get(_key(job, start, rank)))
    except Exception as error:  # torch raises several kinds, and RuntimeError where the store is gone
        raise TransportError(_missing(job, [rank], error)) from None
    return str(host), int(port)


def _missing(job: Job, ranks: list[int], error: BaseException | None = None) -> str:
    names = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {', '.join(map(str, ranks))}"
    waited = f"did not start within {job.timeout_seconds:g} s"
    cause = "" if error is None or "timeout" in str(error).lower() else f" ({type(error).__name__})"
    return f"{names} of job {job.name!r} {waited}{cause}; start all {job.world_size} workers, or allow more time"


def _accept_all(job: Job, own: Identity, server: socket.socket, found: dict[int, Any]) -> None:
    strangers = ""
    while len(found) < job.world_size - 1:
        server.settimeout(job.remaining_seconds)
        try:
            link, origin = server.accept()
        except TimeoutError:
            missing = [rank for rank in range(job.world_size) if rank != job.rank and rank not in found]
            raise TransportError(_missing(job, missing) + strangers) from None
        try:
            identity, channel = _recognise(job, link, own, None)
        except (OSError, EOFError, TransportError) as error:
            link.close()  # whoever it was: the job's workers may still come
            strangers = f"; a connection from {origin[0]} was refused: {error or 'it hung up'}"
            continue
        if identity.rank in found or not job.rank < identity.rank < job.world_size:
            link.close()
            strangers = f"; a second worker of rank {identity.rank} came from {origin[0]}"
            continue
        found[identity.rank] = (identity, channel)


def _recognise(job: Job, link: socket.socket, own: Identity, rank: int | None) -> tuple[Identity, Channel]:
    """Return who is at the other end; rank: whom we called, None where we were called."""
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.settimeout(min(_ANSWER_SECONDS, job.remaining_seconds) if rank is None else job.remaining_seconds)
    caller = rank is not None
    nonce, name = os.urandom(NONCE_BYTES), own.encode()
    link.sendall(nonce + len(name).to_bytes(4, "little") + name)
    other_nonce = read_exactly(link, NONCE_BYTES)
    length = int.from_bytes(read_exactly(link, 4), "little")
    if length > _LONGEST_IDENTITY:
        raise TransportError("who answers is no worker of Hotbench")
    other_name = read_exactly(link, length)
    about = [job.name.encode(), str(job.world_size).encode()]
    about += [nonce, name, other_nonce, other_name] if caller else [other_nonce, other_name, nonce, name]
    roles = (b"caller", b"called") if caller else (b"called", b"caller")
    link.sendall(job.secret.prove(roles[0], *about))
    who = f"rank {rank}" if caller else _claimed(other_name)
    proof = _proof(link, who)
    if not job.secret.proves(proof, roles[1], *about):
        advice = f"give every worker the same secret, job name and world size ({job.world_size} here)"
        raise TransportError(f"{who} does not prove the secret of job {job.name!r}; {advice}")
    identity = Identity.decode(other_name)
    if caller and identity.rank != rank:
        raise TransportError(f"rank {rank} of job {job.name!r} calls itself rank {identity.rank}; start each rank once")
    link.settimeout(job.timeout_seconds)
    return identity, Channel(link, job.secret.derive(b"session", *about), roles[0], roles[1])


def _proof(link: socket.socket, who: str) -> bytes:
    try:
        return read_exactly(link, PROOF_BYTES)
    except (EOFError, ConnectionError):
        raise TransportError(f"{who} did not accept our proof of the secret; give every worker the same one") from None


def _claimed(name: bytes) -> str:
    try:
        return f"who calls itself {Identity.decode(name)}"
    except ValueError:
        return "a stranger"
