"""Jobs of several workers inside of one test: each worker a thread, or a process where one is to be killed."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch.distributed

from optimizers.placement.transport import Transport, open_transport
from optimizers.placement.transport.interfaces import addresses
from optimizers.placement.transport.library import available

SECRET = b"a secret of the tests' own"
SECONDS = 20.0
"""The workers' patience: only a test of impatience ever waits for so long."""


def network() -> str:
    """Return an interface that UCX can use for TCP between processes of this host, not the loopback, or skip."""
    found = [name for name in addresses() if name != "lo"]
    if available() or not found:
        pytest.skip(available() or "there is no network interface but the loopback, which UCX 1.20 cannot use")
    return found[0]


def tcp() -> dict[str, Any]:
    """Return the options of a job whose workers talk through UCX over TCP."""
    return {"transports": "tcp", "interface": network()}


def run(world_size: int, body: Callable[[Transport], Any], **options: Any) -> list[Any]:
    """Return what each worker's body returned, by rank; raise what the first of them raised."""
    results = outcomes(world_size, body, **options)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def outcomes(world_size: int, body: Callable[[Transport], Any], **options: Any) -> list[Any]:
    """Return what each worker's body returned or raised, by rank."""
    store = options.pop("store", None) or torch.distributed.HashStore()
    results: list[Any] = [None] * world_size

    def work(rank: int) -> None:
        own = {name: value[rank] if isinstance(value, list) else value for name, value in options.items()}
        try:
            arguments: dict[str, Any] = {"secret": SECRET, "timeout_seconds": SECONDS, **own}
            with open_transport(store, rank, world_size, **arguments) as transport:
                results[rank] = body(transport)
                transport.barrier()
        except Exception as error:
            results[rank] = error

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@functools.cache
def _server() -> Any:
    """Return what forks workers from a process that has the modules already, so that each starts at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["optimizers.placement.hook", "tests.optimizers.placement.transport.worlds"])
    return context


def _enter(body: Callable[..., None], rank: int, world_size: int, port: int, end: Any, options: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    store = torch.distributed.TCPStore("127.0.0.1", port, is_master=False)
    try:
        body(store, rank, world_size, end, **options)
    except Exception as error:
        end.send(f"{type(error).__name__}: {error}")
    end.close()


class Processes:
    """Workers in processes of their own, each with a pipe to the test."""

    def __init__(self, world_size: int, body: Callable[..., None], **options: Any) -> None:
        self._store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self.pipes, self.workers = [], []
        for rank in range(world_size):
            end, other = _server().Pipe()
            arguments = (body, rank, world_size, self._store.port, other, options)
            worker = _server().Process(target=_enter, args=arguments, daemon=True)
            worker.start()
            other.close()
            self.pipes.append(end)
            self.workers.append(worker)

    def said(self, rank: int) -> Any:
        """Return the next thing that a worker says."""
        assert self.pipes[rank].poll(SECONDS * 3), f"rank {rank} says nothing"
        return self.pipes[rank].recv()

    def signal(self, rank: int, number: int) -> None:
        """Send a signal to a worker."""
        os.kill(self.workers[rank].pid, number)

    def end(self) -> None:
        """End every worker, however it is."""
        for worker in self.workers:
            if worker.is_alive():
                os.kill(worker.pid, signal.SIGKILL)
            worker.join()


@contextmanager
def processes(world_size: int, body: Callable[..., None], **options: Any) -> Iterator[Processes]:
    """Give workers that are ended with the block."""
    made = Processes(world_size, body, **options)
    try:
        yield made
    finally:
        made.end()


def segments() -> tuple[set[str], str]:
    """Return the shared segments of this host: POSIX by name, System V as the kernel lists them."""
    listed = Path("/proc/sysvipc/shm")
    return {path.name for path in Path("/dev/shm").iterdir()}, listed.read_text() if listed.exists() else ""


def wait_for(condition: Callable[[], bool]) -> None:
    """Return once the condition holds; fail after a long while."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "what was awaited did not come about"
        time.sleep(0.01)
