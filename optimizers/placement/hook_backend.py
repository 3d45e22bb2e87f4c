"""`hotbench`: DistributedDataParallel whose buckets our transport moves, through the hook that users register, too."""

from __future__ import annotations

from typing import Any

import torch

from analyzer.workload import Workload
from optimizers.placement.baselines.backend import World, optimizer_of
from optimizers.placement.baselines.data_parallel import join_group, leave_group, wrap
from optimizers.placement.hook import HookState, ddp_hook
from optimizers.placement.step_times import Marks
from optimizers.placement.torch_stores import PrefixStore


class HookBackend:
    """Buckets go out as one-sided writes while backward still runs; each rank runs its own optimizer.

    settings: bucket_megabytes, and whatever HookState.open takes (form, transports, interface, direct).
    """

    name = "hotbench"

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = dict(settings)
        self._bucket_megabytes = self._settings.pop("bucket_megabytes", None)
        self.transport = ""
        self._state: HookState | None = None
        self._joined = False

    def start(self, world: World, workload: Workload, marks: Marks) -> torch.nn.Module:
        """Join the process group (for its broadcast at the start), open the transport, wrap the model."""
        self._optimizer, self._marks = optimizer_of(workload), marks
        join_group(world)
        self._joined = True
        self._state = HookState.open(
            PrefixStore("hotbench", world.store),
            world.rank,
            world.size,
            secret=world.secret.encode() or None,
            timeout_seconds=world.timeout_seconds,
            **self._settings,
        )
        self.transport = self._state.transport
        model = wrap(workload.model, self._bucket_megabytes)
        model.register_comm_hook(self._state, ddp_hook)
        return model

    def gradient_ready(self, index: int) -> None:
        """Nothing to do: DistributedDataParallel has hooks of its own."""

    def update(self) -> None:
        """Run the optimizer; backward returned with all gradients averaged."""
        self._marks.all_exchanged()
        assert self._state is not None
        for bucket in self._state.exchanges:
            self._marks.message(bucket.begun_seconds, bucket.finished_seconds)
        self._state.clear_times()
        self._optimizer.step()

    def stop(self) -> None:
        """Close the transport and leave the process group."""
        if self._state is not None:
            self._state.close()
            self._state = None
        if self._joined:
            self._joined = False
            leave_group()
