"""A launch as a variant of an experiment: the experiment drives rank 0, which takes the other ranks along."""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from typing import Any

from analyzer.launch import Launch
from analyzer.record import from_plain, to_plain
from analyzer.workload import Arguments, Workload
from optimizers.placement.baselines.backend import BackendError, World
from optimizers.placement.launch import BUILD_SECONDS, LOOPBACK, PlacementLaunch, meeting_point, start
from optimizers.placement.rank import Rank
from optimizers.placement.rank_process import make_rank
from optimizers.placement.workers import Workers


def experiment_launch(launch: PlacementLaunch, name: str) -> Launch:
    """Return it as a variant of an experiment: one step of the variant is one step of all ranks.

    Rank 0 lives in the variant's process, where outputs, peak and metrics are read; the others are its children.
    """
    return Launch(name, "optimizers.placement.variant:rebuild", to_plain(launch), launch.threads)


def rebuild(argument: dict[str, Any]) -> Workload:
    """Return the workload whose step runs all ranks of a launch (given as a dict): rank 0 here, the others beside it.

    The other processes end with the workload, or with this process. Raises BackendError where they cannot start.
    """
    launch = from_plain(PlacementLaunch, argument)
    with ExitStack() as stack:
        store, meeting = meeting_point(launch.timeout_seconds)
        workers = stack.enter_context(start(launch, meeting, range(1, launch.world_size), {}))
        workers.send("build", launch=to_plain(launch))
        world = World(0, launch.world_size, store, LOOPBACK, launch.timeout_seconds, meeting.secret)
        rank = stack.enter_context(make_rank(argument, world))
        workers.replies(BUILD_SECONDS + launch.timeout_seconds)
        beside = _Beside(rank, workers, launch.timeout_seconds)
        stage = rank.workload
        found = Workload(
            model=stage.model,
            inputs=beside.inputs,
            loss=stage.loss,
            optimizer=stage.optimizer,
            step=beside.step,
            evaluate=stage.evaluate,
            device=stage.device,
        )
        weakref.finalize(beside, stack.pop_all().close)
    return found


class _Beside:
    """Drives rank 0 in this process and the others in theirs, in lockstep."""

    def __init__(self, rank: Rank, workers: Workers, timeout_seconds: float) -> None:
        self._rank, self._workers, self._timeout_seconds = rank, workers, timeout_seconds
        self._seed = 0

    def inputs(self, seed: int) -> Arguments:
        """Return rank 0's batch, and remember the seed for the others."""
        self._seed = seed
        self._rank.draw(seed)
        return self._rank.workload.batch(self._rank.batch_seed(seed))

    def step(self, model: Any, batch: Arguments) -> Any:
        """Run one step of all ranks; return rank 0's loss."""
        self._workers.send("step-alike", seed=self._seed)
        try:
            loss, _ = self._rank.step()
        except BackendError:
            # A peer's own words say more than what rank 0 saw of it.
            self._workers.replies(self._timeout_seconds)
            raise
        self._workers.replies(self._timeout_seconds)
        return loss
