"""The communication hook of DistributedDataParallel: `model.register_comm_hook(state, hotbench.ddp_hook)`.

Buckets are averaged by a thread of their own, in the order in which backward makes them ready, while it makes the next
ones. The thread sleeps while no bucket is under way.
"""
# No postponed annotations here: register_comm_hook compares the hook's with the classes themselves.

import queue
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.distributed
from torch._C._distributed_c10d import GradBucket
from torch.futures import Future

from optimizers.placement.bucket_memory import BucketMemory
from optimizers.placement.shares import ALL_REDUCE, shares
from optimizers.placement.transport.errors import TransportError
from optimizers.placement.transport.transport import Transport, open_transport

_REMEMBERED = 100_000
PATIENCE_SECONDS = 300.0
"""One worker may evaluate while the others wait in backward; one that dies is noticed at once all the same."""


@dataclass(frozen=True, slots=True)
class BucketTimes:
    """When a bucket was handed to the hook, taken up and averaged, on the clock of time.perf_counter.

    step:  counted from 0, a step ends with its last bucket.
    index: of the bucket in its step.
    """

    step: int
    index: int
    bytes_moved: int
    ready_seconds: float
    begun_seconds: float
    finished_seconds: float


class HookState:
    """What the hook needs between buckets: the transport, the buckets' shared memory, the thread.

    form: "all-reduce" (every worker sums its share) or "parameter-server" (rank 0 sums all).
    """

    def __init__(self, transport: Transport, form: str = ALL_REDUCE) -> None:
        shares(form, 0, transport.world_size)  # refuses a form that there is not
        self.transport_layer, self.form = transport, form
        self.exchanges: deque[BucketTimes] = deque(maxlen=_REMEMBERED)
        self._memory: dict[int, BucketMemory] = {}
        self._step = 0
        self._queue: queue.SimpleQueue[tuple[int, bool, torch.Tensor, Any, float] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="hotbench-buckets", daemon=True)
        self._thread.start()

    @classmethod
    def open(
        cls,
        store: Any = None,
        rank: int | None = None,
        world_size: int | None = None,
        form: str = ALL_REDUCE,
        timeout_seconds: float = PATIENCE_SECONDS,
        **options: Any,
    ) -> Self:
        """Return the state of a new transport; options: as of open_transport.

        store, rank, world_size: of the default process group where they are not given.
        Raises TransportError where peers are missing, strangers or cannot be reached.
        """
        if store is None or rank is None or world_size is None:
            if not torch.distributed.is_initialized():
                raise TransportError("there is no process group; call torch.distributed.init_process_group first")
            store = torch.distributed.distributed_c10d._get_default_store() if store is None else store
            rank = torch.distributed.get_rank() if rank is None else rank
            world_size = torch.distributed.get_world_size() if world_size is None else world_size
        return cls(open_transport(store, rank, world_size, timeout_seconds=timeout_seconds, **options), form)

    @property
    def transport(self) -> str:
        """Return the transports in use towards the peers: "posix", "tcp", "posix+tcp", ...; "none" without peers."""
        return "+".join(sorted({link.transport for link in self.transport_layer.links})) or "none"

    @property
    def failure(self) -> str:
        """Return why the workers stopped, in one line, or nothing."""
        return self.transport_layer.peers.failure

    def submit(self, index: int, last: bool, tensor: torch.Tensor) -> "Future[torch.Tensor]":
        """Return the future of the mean of a bucket, which replaces the bucket."""
        done: Future[Any] = Future()
        result: Future[torch.Tensor] = done.then(_value)
        self._queue.put((index, last, tensor, done, time.perf_counter()))
        return result

    def clear_times(self) -> None:
        """Return nothing; forget the times of the buckets so far."""
        self.exchanges.clear()

    def close(self) -> None:
        """Return nothing; finish what is under way, end the thread and the transport."""
        self._queue.put(None)
        self._thread.join()
        self._memory.clear()
        self.transport_layer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            index, last, tensor, done, ready = task
            begun = time.perf_counter()
            try:
                memory = self._memory_of(index, tensor)
                memory.average()
            except Exception as error:  # whatever it was: backward, which waits for the future, raises it
                self.transport_layer.peers.fail(f"{self.transport_layer.peers.own} stopped: {error}")
                done.set_result(self.failure or str(error))
                continue
            finished = time.perf_counter()
            self.exchanges.append(BucketTimes(self._step, index, memory.bytes_moved, ready, begun, finished))
            self._step += last
            done.set_result(tensor)

    def _memory_of(self, index: int, tensor: torch.Tensor) -> BucketMemory:
        """Return the bucket's memory; the model makes new buckets once it knows in which order gradients are ready."""
        known = self._memory.get(index)
        if known is not None and known.tensor.data_ptr() == tensor.data_ptr() and known.tensor.shape == tensor.shape:
            return known
        if known is not None:
            known.close()
        if tensor.device.type != "cpu":
            raise TransportError(f"bucket {index} is on {tensor.device}; the hook averages buckets in host memory")
        made = self._memory[index] = BucketMemory(self.transport_layer, tensor, self.form)
        return made


def ddp_hook(state: HookState, bucket: GradBucket) -> Future[torch.Tensor]:
    """Return the future of a bucket's mean over all workers; for DistributedDataParallel.register_comm_hook."""
    return state.submit(bucket.index(), bucket.is_last(), bucket.buffer())


def _value(done: "Future[Any]") -> torch.Tensor:
    value = done.value()
    if isinstance(value, str):
        raise TransportError(value)
    result: torch.Tensor = value
    return result
