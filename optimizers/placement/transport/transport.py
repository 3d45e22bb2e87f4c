"""One-sided transfers between the workers of a job: who is reached how, and memory to write to."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

import torch

from kernels.transfer.words import read_word, wait_briefly
from optimizers.placement.transport import interfaces, lanes, trial
from optimizers.placement.transport.errors import TransportError
from optimizers.placement.transport.identity import Identity
from optimizers.placement.transport.library import find_library
from optimizers.placement.transport.memory import SharedMemory, tensor_at
from optimizers.placement.transport.peers import Peers
from optimizers.placement.transport.regions import DirectRegion, Offer, RemoteRegion, UcxRegion
from optimizers.placement.transport.rendezvous import Job, meet
from optimizers.placement.transport.secret import Secret
from optimizers.placement.transport.ucx import AUTOMATIC, Check, Endpoint, Engine, Registered

AUTO = "auto"
TIMEOUT_SECONDS = 60.0
_LONGEST_REASON = 400


@dataclass(frozen=True, slots=True)
class Link:
    """How a peer is reached.

    transport: "posix" (stores to memory that both map), or what UCX uses: "tcp", "cma", "rc_mlx5", ...
    direct:    whether transfers are stores of the sender's own, without UCX.
    is_rdma:   whether a network card that speaks verbs carries them; nothing else is called RDMA.
    """

    rank: int
    host: str
    pid: int
    transport: str
    direct: bool

    @property
    def is_rdma(self) -> bool:
        """Return whether a card carries the transfers by itself."""
        return lanes.is_verbs(self.transport)


class Local:
    """Memory that this worker offers to its peers.

    address, byte_count: of the memory; tensor(): its bytes.
    """

    def __init__(self, memory: SharedMemory, registered: Registered | None) -> None:
        self.memory, self._registered = memory, registered
        self.address, self.byte_count = memory.address, memory.byte_count

    def offer(self) -> Offer:
        """Return what peers need to know."""
        key = self._registered.key.hex() if self._registered else ""
        return Offer(self.address, self.byte_count, self.memory.descriptor, key)

    def tensor(self, offset: int = 0, shape: tuple[int, ...] | None = None, dtype: Any = torch.uint8) -> torch.Tensor:
        """Return a view of the memory: from `offset` (bytes) on, all of it where no shape is given."""
        flat = tensor_at(self.address, self.byte_count, self.memory)[offset:]
        if shape is None:
            return flat.view(dtype)
        size = torch.Size(shape).numel() * dtype.itemsize
        return flat[:size].view(dtype).view(shape)

    def close(self) -> None:
        """Return nothing; take the registration back; the memory goes with its last tensor."""
        if self._registered:
            self._registered.close()


class Transport:
    """A job's one-sided transfers as this worker sees them; made by open_transport."""

    def __init__(self, job: Job, peers: Peers, direct: bool, make_engine: Callable[[], Engine]) -> None:
        self.rank, self.world_size = job.rank, job.world_size
        self.timeout_seconds, self.peers = job.timeout_seconds, peers
        shared = {rank for rank, other in peers.identities.items() if direct and other.machine == peers.own.machine}
        self._engine, self._endpoints = self._connect(shared, make_engine)
        self._made: list[Any] = []
        self._names: dict[str, int] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._shared = shared
        self.links: tuple[Link, ...] = ()

    def _connect(self, shared: set[int], make: Callable[[], Engine]) -> tuple[Engine | None, dict[int, Endpoint]]:
        """Everyone makes an engine where anyone needs one: who is reached directly by us may need the others' help."""
        needed = len(shared) < len(self.peers.identities)
        answers = self.peers.gather("engine", b"yes" if needed else b"")
        if not needed and not any(answers.values()):
            return None, {}
        engine = make()
        ends: dict[int, Endpoint] = {}
        try:
            for rank, address in self.peers.gather("address", engine.address()).items():
                if rank not in shared:
                    ends[rank] = self._reached(engine, rank, address)
        except BaseException:
            for end in ends.values():
                end.close()
            engine.close()
            raise
        return engine, ends

    def _reached(self, engine: Engine, rank: int, address: bytes) -> Endpoint:
        try:
            return engine.connect(address, self._broken(rank))
        except TransportError as error:
            advice = "name another interface (UCX before 1.22 has no TCP over lo)"
            raise TransportError(f"{self.peers.name(rank)} is not reached: {error}; {advice}") from None

    def _broken(self, rank: int) -> Callable[[str], None]:
        return lambda reason: self.peers.fail(f"the link to {self.peers.name(rank)} broke: {reason}")

    def describe_links(self) -> tuple[Link, ...]:
        """Return how each peer is reached; what UCX uses shows once something was sent."""
        found = []
        for rank, other in self.peers.identities.items():
            end = self._endpoints.get(rank)
            name = "posix" if end is None else lanes.transport_of(end.description())
            found.append(Link(rank, other.host, other.pid, name, end is None))
        return tuple(found)

    def offer(self, memory: SharedMemory) -> Local:
        """Return memory that peers can be told of; raise TransportError where it cannot be registered."""
        registered = None
        if self._endpoints:
            registered = self._require_engine().register(memory.address, memory.byte_count)
        local = Local(memory, registered)
        self._made.append(local)
        return local

    def reach(self, rank: int, offer: Offer) -> RemoteRegion:
        """Return a peer's memory; raise TransportError, naming the peer, where it is not reached."""
        try:
            region = self._reach(rank, offer)
        except OSError as error:
            self.peers.check([rank])  # one that has left takes its memory along
            advice = "start the workers as one user, in one container, or open the transport with direct=False"
            raise TransportError(f"memory of {self.peers.name(rank)} is not ours to map ({error}); {advice}") from None
        self._made.append(region)
        return region

    def _reach(self, rank: int, offer: Offer) -> RemoteRegion:
        if rank in self._shared:
            return DirectRegion(self.peers.identities[rank].pid, offer)
        return UcxRegion(self._endpoints[rank], offer)

    def _require_engine(self) -> Engine:
        if self._engine is None:
            raise TransportError("this transport has no link through UCX; open it with direct=False")
        return self._engine

    def release(self, *things: Any) -> None:
        """Return nothing; let go of what offer() and reach() returned, before the transport closes."""
        for thing in things:
            self._made.remove(thing)
            thing.close()

    def unique(self, name: str) -> str:
        """Return a name for messages about the next thing of that name: the same on every worker."""
        with self._lock:
            number = self._names[name] = self._names.get(name, 0) + 1
        return f"{name}#{number}"

    def exchange(self, name: str, local: Local) -> dict[int, RemoteRegion]:
        """Return every peer's memory of that name; every worker calls this, in the same order."""
        offers = self.peers.gather(self.unique(name), local.offer().encode())
        return {rank: self.reach(rank, Offer.decode(data)) for rank, data in offers.items()}

    def arena(self, name: str, byte_count: int) -> tuple[Local, dict[int, RemoteRegion]]:
        """Return memory of our own and every peer's of that name; every worker calls this, in the same order."""
        local = self.offer(SharedMemory.create(name, byte_count))
        return local, self.exchange(f"arena {name}", local)

    def wait_word(self, address: int, goal: int, ranks: Iterable[int], what: str) -> None:
        """Return nothing once a word of ours is `goal` or above.

        ranks: who sets it. Raises TransportError that names them when they are gone, or silent for the time-out.
        """
        if read_word(address) >= goal:
            return
        needed = tuple(ranks)
        check = self.patience(needed, what)

        def unless_reached() -> None:  # who set the word and left has done its part
            if read_word(address) < goal:
                check()

        if any(rank in self._endpoints for rank in needed):
            self._require_engine().wait_word(address, goal, unless_reached)
            return
        while wait_briefly(address, goal) < goal:
            unless_reached()

    def patience(self, ranks: Iterable[int], what: str) -> Check:
        """Return a check that raises TransportError once a peer is gone or the time-out has passed from now."""
        needed = tuple(ranks)
        deadline = time.monotonic() + self.timeout_seconds

        def check() -> None:
            self.peers.check(needed)
            if time.monotonic() > deadline:
                names = " and ".join(self.peers.name(rank) for rank in needed)
                self.peers.fail(
                    f"{names} did not {what} within {self.timeout_seconds:g} s; the worker or its link stalls"
                )
                self.peers.check()

        return check

    def barrier(self) -> None:
        """Return nothing once every worker is here."""
        self.peers.gather("barrier", b"")

    def stop(self, error: BaseException) -> None:
        """Return nothing; tell the peers that this worker cannot go on, and why."""
        reason = " ".join(str(error).split()) or type(error).__name__
        self.peers.fail(f"{self.peers.own} stopped: {reason}"[:_LONGEST_REASON])

    def close(self) -> None:
        """Return nothing; end the links and let go of all memory; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self.peers.close()
        for thing in reversed(self._made):
            with contextlib.suppress(TransportError):
                thing.close()
        self._made.clear()
        for endpoint in self._endpoints.values():
            endpoint.close()
        if self._engine is not None:
            self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self.stop(error)
        self.close()


def open_transport(
    store: Any,
    rank: int,
    world_size: int,
    *,
    secret: bytes | str | None = None,
    interface: str | None = None,
    transports: str = AUTO,
    direct: bool = True,
    timeout_seconds: float = TIMEOUT_SECONDS,
    job: str = "hotbench",
) -> Transport:
    """Return this worker's transport once all workers of the job have met and tried their links.

    store:      torch.distributed.TCPStore, or a PrefixStore of one; torchrun starts it. It is not trusted.
    secret:     random bytes that all workers share; default: HOTBENCH_SECRET.
    interface:  network interface to listen on; default: HOTBENCH_INTERFACE, else the one that leads to the store.
    transports: "auto", or what UCX may use, as in UCX_TLS ("tcp", "rc", "posix,cma"); then nothing is stored directly.
    direct:     whether workers of one host store straight to each other's memory.
    job:        name of this transport among those that use the same store.
    Raises TransportError, one line that names the peer where one is missing, a stranger, or cannot be reached.
    """
    if not 0 <= rank < world_size:
        raise TransportError(f"rank {rank} of {world_size} workers does not exist; give one from 0 to {world_size - 1}")
    name, address = interfaces.choose(interface, store)
    deadline = time.monotonic() + timeout_seconds
    entry = Job(job, rank, world_size, Secret.given(secret), timeout_seconds, deadline)
    own = Identity.own(rank)
    peers = Peers(own, meet(entry, store, own, address), timeout_seconds)

    def make_engine() -> Engine:
        library = find_library()
        if isinstance(library, str):
            raise TransportError(library)
        return Engine(library, AUTOMATIC if transports == AUTO else transports, name)

    transport = None
    try:
        transport = Transport(entry, peers, direct and transports == AUTO, make_engine)
        return trial.tried(transport)
    except BaseException as error:
        peers.fail(f"{own} stopped: {' '.join(str(error).split())}"[:_LONGEST_REASON])
        transport.close() if transport is not None else peers.close()
        raise
