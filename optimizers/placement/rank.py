"""One rank of a data-parallel training: its workload, its way to exchange gradients, its steps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch

from analyzer.errors import HotbenchError, WorkloadError
from analyzer.workload import Arguments, Workload, seed_everything
from optimizers.placement.baselines.backend import Backend, World, optimizer_of, trainable
from optimizers.placement.step_times import Marks, StepTimes


class Rank:
    """Runs the steps of one rank. Use it as a context manager: leaving it stops the exchange.

    The batch of rank r for seed s is `inputs(s * size + r)`, so that no two ranks ever train on the same one.
    """

    def __init__(self, workload: Workload, backend: Backend, world: World) -> None:
        self.workload, self.backend, self.world = workload, backend, world
        self.marks = Marks()
        optimizer_of(workload)
        self._seed: int | None = None
        self._batch: Arguments = ((), {})
        self._stack = contextlib.ExitStack()
        self._stack.callback(backend.stop)
        try:
            self._module = backend.start(world, workload, self.marks)
        except BaseException:
            self._stack.close()
            raise
        for index, (_, parameter) in enumerate(trainable(workload)):
            handle = parameter.register_post_accumulate_grad_hook(self._written(index))  # type: ignore[no-untyped-call]
            self._stack.callback(handle.remove)
        self.draw(0)

    def __enter__(self) -> Rank:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the exchange; harmless when it has been stopped already."""
        self._stack.close()

    def draw(self, seed: int) -> None:
        """Use this rank's batch of the seed from now on."""
        if seed != self._seed:
            self._batch = self.workload.batch(self.batch_seed(seed))
            self._seed = seed

    @property
    def seed(self) -> int | None:
        """Return the seed of the present batch."""
        return self._seed

    def batch_seed(self, seed: int) -> int:
        """Return the seed of this rank's batch."""
        return seed * self.world.size + self.world.rank

    def seed_generators(self, seed: int) -> None:
        """Seed the global generators, each rank's differently."""
        seed_everything(self.batch_seed(seed))

    def step(self) -> tuple[Any, StepTimes]:
        """Run one step; return this rank's loss (or what the workload's own step returns), and the times.

        Raises WorkloadError with the user's own error in one line, BackendError for a peer that is gone.
        """
        try:
            return self._step()
        except HotbenchError:
            raise
        except Exception as error:
            words = str(error).strip().splitlines() or [type(error).__name__]
            raise WorkloadError(
                f"the step of rank {self.world.rank} raised {type(error).__name__}: {words[0]}"
            ) from error

    def _step(self) -> tuple[Any, StepTimes]:
        workload = self.workload
        optimizer = optimizer_of(workload)
        assert workload.loss is not None
        args, kwargs = self._batch
        self.marks.begin()
        optimizer.zero_grad(set_to_none=True)
        loss = workload.loss(self._module(*args, **kwargs), self._batch)
        loss.backward()  # type: ignore[no-untyped-call]
        self.backend.update()
        return loss.detach(), self.marks.end()

    def _written(self, index: int) -> Callable[[torch.Tensor], None]:
        def written(_: torch.Tensor) -> None:
            self.marks.gradient_ready()
            self.backend.gradient_ready(index)

        return written
