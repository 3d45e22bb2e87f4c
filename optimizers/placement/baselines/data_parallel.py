"""`gloo`: torch's DistributedDataParallel with its default buckets, all-reduced by gloo over TCP."""

from __future__ import annotations

from functools import partial

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from analyzer.workload import Workload
from optimizers.placement.baselines.backend import BackendError, World, optimizer_of
from optimizers.placement.step_times import Marks
from optimizers.placement.torch_stores import PrefixStore


class DataParallel:
    """Buckets of gradients go out while backward still runs; each rank runs its own optimizer.

    Configuration: gradient_as_bucket_view, default bucket sizes, and no hook: so gradients are divided by the number of
    ranks as they are laid into the buckets, for which a hook needs a pass of its own.
    """

    name = "gloo"
    transport = "gloo over tcp"

    def __init__(self) -> None:
        self._joined = False

    def start(self, world: World, workload: Workload, marks: Marks) -> torch.nn.Module:
        """Join the process group and wrap the model."""
        self._optimizer, self._marks = optimizer_of(workload), marks
        join_group(world)
        self._joined = True
        model = wrap(workload.model)
        model._set_ddp_runtime_logging_sample_rate(1)  # type: ignore[no-untyped-call]
        marks.ask_after = partial(under_way, model, marks)
        return model

    def gradient_ready(self, index: int) -> None:
        """Nothing to do: DistributedDataParallel has hooks of its own."""

    def update(self) -> None:
        """Run the optimizer; backward returned with all gradients averaged."""
        self._marks.all_exchanged()
        self._optimizer.step()

    def stop(self) -> None:
        """Leave the process group."""
        if self._joined:
            self._joined = False
            leave_group()


def under_way(model: DistributedDataParallel, marks: Marks) -> list[tuple[float, float]]:
    """Return from when the first bucket of the last step went out until its last gradient was ready.

    It is what DistributedDataParallel says of itself; that nothing is under way between two buckets, it does not say.
    """
    logger = model.logger
    if logger is None:
        return []
    logger.set_runtime_stats_and_log()
    nanoseconds = logger._get_ddp_logging_data().ints_map.get("backward_compute_comm_overlap_time", 0)
    return [(marks.last_ready - nanoseconds * 1e-9, marks.last_ready)]


def join_group(world: World) -> None:
    """Join torch's default process group, on gloo. Raises BackendError when a peer does not come in time."""
    if dist.is_initialized():
        raise BackendError("this process already has a torch process group; start the training in one of its own")
    try:
        dist.init_process_group(
            "gloo",
            store=PrefixStore("gloo", world.store),
            rank=world.rank,
            world_size=world.size,
            timeout=world.timeout,
        )
    except RuntimeError as error:
        raise BackendError(f"rank {world.rank} could not join its peers: {_first_line(error)}") from error


def leave_group() -> None:
    """Leave torch's default process group; the others need not come along."""
    dist.destroy_process_group()


def wrap(model: torch.nn.Module, bucket_megabytes: float | None = None) -> DistributedDataParallel:
    """Return the model with its gradients in buckets. Raises BackendError for a model that cannot be wrapped."""
    try:
        return DistributedDataParallel(model, gradient_as_bucket_view=True, bucket_cap_mb=bucket_megabytes)
    except (RuntimeError, ValueError) as error:
        raise BackendError(f"the model cannot be trained in parallel: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
