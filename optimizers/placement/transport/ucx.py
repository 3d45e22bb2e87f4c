"""UCX, driven: one context and one worker a process; every call under one lock, every wait with an end.

A put is complete at the sender when its memory may change, not when its bytes are at the target: `flush` says that.
Order between puts is promised by nothing but a flush (measured: torn deliveries with a fence on UCX 1.13).
Over TCP, one-sided transfers are emulated: the target's worker has to be driven too. A thread does that while nobody
else drives it; it sleeps on the worker's file descriptor, and costs nothing while nothing comes.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import select
import threading
import time
from collections.abc import Callable
from typing import Any

from kernels.transfer import progress
from kernels.transfer.words import read_word
from optimizers.placement.transport import bindings
from optimizers.placement.transport.errors import TransportError
from optimizers.placement.transport.library import Library

_IDLE_ROUNDS, _OFFERS = 16, 16
"""Idle looks before the core is offered, and offers before the thread sleeps: the peer may need this very core."""
_NAP_SECONDS = 0.001
_SLEEP_SECONDS = 0.2
# Small segments make a put of a few KiB wait for TCP's acknowledgement: 40 us instead of 1 ms between namespaces.
_TCP_SEGMENTS = {"TCP_TX_SEG_SIZE": "256k", "TCP_RX_SEG_SIZE": "256k"}
AUTOMATIC = "^sysv"
"""Whatever UCX finds, except for System V segments: those outlive a process that is killed."""

Check = Callable[[], None]
"""Raises where waiting on is of no use: a peer is gone, the time is up."""


class Engine:
    """One UCX context and worker."""

    def __init__(self, library: Library, transports: str, interface: str) -> None:
        self.library = library
        self._ucx = bindings.declare(library.load())
        self._context = self._open(library, transports, interface)
        self._lock = threading.Lock()
        self._undriven = threading.Event()
        self._undriven.set()
        self._closing = False
        worker, self._parameters = ctypes.c_void_p(), bindings.RequestParameters()
        wanted = bindings.WorkerParameters(field_mask=1, thread_mode=bindings.THREADS_SERIALIZED)
        self.expect(self._ucx.ucp_worker_create(self._context, ctypes.byref(wanted), ctypes.byref(worker)), "a worker")
        self._worker = worker.value
        descriptor = ctypes.c_int()
        self.expect(self._ucx.ucp_worker_get_efd(self._worker, ctypes.byref(descriptor)), "the worker's events")
        self._descriptor = descriptor.value
        self._advance, self._check = (
            _address(function) for function in (self._ucx.ucp_worker_progress, self._ucx.ucp_request_check_status)
        )
        self._driver = threading.Thread(target=self._drive, name="hotbench-ucx", daemon=True)
        self._driver.start()
        atexit.register(self._stop)  # a thread inside of UCX while the process ends would crash it

    def _open(self, library: Library, transports: str, interface: str) -> int | None:
        ucx, configuration, context = self._ucx, ctypes.c_void_p(), ctypes.c_void_p()
        self.expect(ucx.ucp_config_read(None, None, ctypes.byref(configuration)), "UCX's configuration")
        settings = {"TLS": transports, "WARN_UNUSED_ENV_VARS": "n", **_TCP_SEGMENTS}
        if "UCX_NET_DEVICES" not in os.environ:  # who named cards for RDMA wants those
            settings["NET_DEVICES"] = interface
        for name, value in settings.items():
            status = ucx.ucp_config_modify(configuration, name.encode(), value.encode())
            self.expect(status, f"the setting {name}={value}")
        features = bindings.FEATURE_RMA | bindings.FEATURE_WAKEUP
        wanted = bindings.Parameters(field_mask=1 | 256, features=features, name=b"hotbench")
        major, minor, _ = library.version
        status = ucx.ucp_init_version(major, minor, ctypes.byref(wanted), configuration, ctypes.byref(context))
        ucx.ucp_config_release(configuration)
        self.expect(status, f"a context for transports {transports!r} on interface {interface!r}")
        return context.value

    def expect(self, status: int, what: str) -> None:
        """Return nothing; raise TransportError where a status is an error."""
        if status < 0:
            raise TransportError(f"{self.library} refuses {what}: {bindings.status_text(self._ucx, status)}")

    def address(self) -> bytes:
        """Return what a peer needs in order to reach this worker."""
        place, length = ctypes.c_void_p(), ctypes.c_size_t()
        with self._lock:
            status = self._ucx.ucp_worker_get_address(self._worker, ctypes.byref(place), ctypes.byref(length))
            self.expect(status, "the worker's address")
            data = ctypes.string_at(place, length.value)
            self._ucx.ucp_worker_release_address(self._worker, place)
        return data

    def connect(self, address: bytes, failed: Callable[[str], None]) -> Endpoint:
        """Return the endpoint to the worker of that address; failed: called with the reason when a transfer fails.

        Without UCX's own handling of peers that die: that would forbid puts without copies, and shared memory.
        """
        source = ctypes.create_string_buffer(address, len(address))
        wanted = bindings.EndpointParameters(field_mask=1, address=ctypes.cast(source, ctypes.c_void_p))
        endpoint = ctypes.c_void_p()
        with self._lock:
            status = self._ucx.ucp_ep_create(self._worker, ctypes.byref(wanted), ctypes.byref(endpoint))
        self.expect(status, "an endpoint")
        return Endpoint(self, endpoint.value, failed)

    def register(self, address: int, byte_count: int) -> Registered:
        """Return memory that peers may reach; raise TransportError where it cannot be registered."""
        handle, key, length = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_size_t()
        wanted = bindings.MapParameters(field_mask=1 | 2, address=address, length=byte_count)
        with self._lock:
            status = self._ucx.ucp_mem_map(self._context, ctypes.byref(wanted), ctypes.byref(handle))
            advice = "raise the limit of locked memory (ulimit -l), or use smaller buckets"
            self.expect(status, f"to register {byte_count} bytes; {advice}")
            status = self._ucx.ucp_rkey_pack(self._context, handle, ctypes.byref(key), ctypes.byref(length))
            self.expect(status, "a key for registered memory")
            data = ctypes.string_at(key, length.value)
            self._ucx.ucp_rkey_buffer_release(key)
        return Registered(self, handle.value, data)

    def complete(self, request: int | None, check: Check) -> str:
        """Return nothing once a request is complete, or why it failed; raise what check raises."""
        status = bindings.error_of(request)
        if status == 0 and request:
            status = self._until(
                lambda: progress.progress_request(self._advance, self._worker, self._check, request, _IDLE_ROUNDS),
                lambda status: status != bindings.IN_PROGRESS,
                check,
            )
            with self._lock:
                self._ucx.ucp_request_free(request)
        return bindings.status_text(self._ucx, status) if status < 0 else ""

    def wait_word(self, word: int, goal: int, check: Check) -> None:
        """Return nothing once the word at this address, which a peer puts, is `goal` or above."""
        if read_word(word) >= goal:
            return
        self._until(
            lambda: progress.progress_until(self._advance, self._worker, word, goal, _IDLE_ROUNDS),
            lambda value: value >= goal,
            check,
        )

    def _until(self, burst: Callable[[], int], reached: Callable[[int], bool], check: Check) -> int:
        self._undriven.clear()
        try:
            offers = 0
            while True:
                with self._lock:
                    value = burst()
                if reached(value):
                    return value
                check()
                offers += 1
                if offers < _OFFERS:
                    os.sched_yield()
                elif self._armed():
                    self._sleep(_NAP_SECONDS)
                else:  # events are there that are not for us yet: who they wait for may need this core
                    os.sched_yield()
        finally:
            self._undriven.set()

    def _sleep(self, seconds: float) -> None:
        events = select.poll()  # one for each use: two threads may sleep at once
        events.register(self._descriptor, select.POLLIN)
        events.poll(seconds * 1000)

    def _armed(self) -> bool:
        with self._lock:
            return bool(self._ucx.ucp_worker_arm(self._worker) != bindings.BUSY)

    def _drive(self) -> None:
        """Drive the worker while nobody waits for it: a peer's put may need this end's help."""
        while not self._closing:
            if not self._undriven.wait(_SLEEP_SECONDS):
                continue
            with self._lock:
                progress.progress_all(self._advance, self._worker, 2)
                idle = self._ucx.ucp_worker_arm(self._worker) != bindings.BUSY
            if idle:
                self._sleep(_SLEEP_SECONDS)

    def _stop(self) -> None:
        self._closing = True
        self._driver.join()

    def close(self) -> None:
        """Return nothing; end the worker, after its endpoints and registered memory."""
        if self._closing:
            return
        self._stop()
        atexit.unregister(self._stop)
        with self._lock:
            self._ucx.ucp_worker_destroy(self._worker)
            self._ucx.ucp_cleanup(self._context)


class Registered:
    """Memory that peers may reach with the key."""

    def __init__(self, engine: Engine, handle: int | None, key: bytes) -> None:
        self.handle, self.key = handle, key
        self._engine = engine

    def close(self) -> None:
        """Return nothing; take the registration back."""
        with self._engine._lock:
            self._engine._ucx.ucp_mem_unmap(self._engine._context, self.handle)


class Endpoint:
    """The way to one peer."""

    def __init__(self, engine: Engine, handle: int | None, failed: Callable[[str], None]) -> None:
        self.handle = handle
        self._engine, self._failed = engine, failed
        self._keys: list[int | None] = []

    def unpack(self, key: bytes) -> int | None:
        """Return the handle of a peer's key."""
        engine, handle = self._engine, ctypes.c_void_p()
        with engine._lock:
            status = engine._ucx.ucp_ep_rkey_unpack(self.handle, key, ctypes.byref(handle))
        engine.expect(status, "a peer's key")
        self._keys.append(handle.value)
        return handle.value

    def forget(self, key: int | None) -> None:
        """Return nothing; destroy a key's handle."""
        self._keys.remove(key)
        with self._engine._lock:
            self._engine._ucx.ucp_rkey_destroy(key)

    def put(self, source: int, byte_count: int, target: int, key: int | None) -> int | None:
        """Return the request (None when it is complete) that stores to the peer; complete() then frees the source."""
        engine = self._engine
        with engine._lock:
            request: int | None = engine._ucx.ucp_put_nbx(
                self.handle, source, byte_count, target, key, ctypes.byref(engine._parameters)
            )
        return request

    def get(self, destination: int, byte_count: int, source: int, key: int | None) -> int | None:
        """Return the request (None when it is complete) that loads from the peer."""
        engine = self._engine
        with engine._lock:
            request: int | None = engine._ucx.ucp_get_nbx(
                self.handle, destination, byte_count, source, key, ctypes.byref(engine._parameters)
            )
        return request

    def flush(self) -> int | None:
        """Return the request that is complete once all that was put is in the peer's memory."""
        engine = self._engine
        with engine._lock:
            request: int | None = engine._ucx.ucp_ep_flush_nbx(self.handle, ctypes.byref(engine._parameters))
        return request

    def complete(self, request: int | None, check: Check, silent: bool = False) -> None:
        """Return nothing once a request of this endpoint is complete; raise TransportError where its link broke.

        silent: whether that is no failure of the job.
        """
        reason = self._engine.complete(request, check)
        if reason:
            if not silent:
                self._failed(reason)
            check()
            raise TransportError(f"a transfer failed: {reason}")

    def description(self) -> str:
        """Return what UCX says of the lanes to this peer."""
        return _printed(lambda stream: self._engine._ucx.ucp_ep_print_info(self.handle, stream))

    def close(self) -> None:
        """Return nothing; destroy the keys and drop the link without waiting for the peer."""
        engine = self._engine
        with engine._lock:
            for key in self._keys:
                engine._ucx.ucp_rkey_destroy(key)
            self._keys.clear()
            request = engine._ucx.ucp_ep_close_nb(self.handle, bindings.CLOSE_FORCE)
        if request and not bindings.error_of(request):
            with engine._lock:
                progress.progress_request(engine._advance, engine._worker, engine._check, request, 10_000)
                engine._ucx.ucp_request_free(request)


def wait_until(deadline: float, reason: Callable[[], str]) -> Check:
    """Return a check that raises TransportError with the reason once time.monotonic() is past the deadline."""

    def check() -> None:
        if time.monotonic() > deadline:
            raise TransportError(reason())

    return check


def _address(function: Any) -> int:
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)


def _printed(write: Callable[[Any], None]) -> str:
    """Return what a C function writes to a stream."""
    library = ctypes.CDLL(None)
    library.open_memstream.restype = ctypes.c_void_p
    text, length = ctypes.c_void_p(), ctypes.c_size_t()
    stream = ctypes.c_void_p(library.open_memstream(ctypes.byref(text), ctypes.byref(length)))
    write(stream)
    library.fclose(stream)
    data = ctypes.string_at(text, length.value)
    library.free(text)
    return data.decode(errors="replace")
