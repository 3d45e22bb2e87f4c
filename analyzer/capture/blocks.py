"""Blocks of steps: how many, how long, and how a block runs with nothing recorded."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from analyzer.capture.stepops import StepOps
from analyzer.workload import Stepper

WARM_UP = 3
LEAST_STEPS = 5
MOST_STEPS = 200
PASS_SECONDS = 1.0
BLOCK_SECONDS = 0.02
LONG_STEP_SECONDS = 0.25
LEAST_BLOCKS = 5


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """How many blocks of how many steps.

    lead_in: an untimed step goes before each block.    open_ended: a recorder that needs more blocks may have them.
    """

    blocks: int
    steps: int
    lead_in: bool
    open_ended: bool = False

    @property
    def all_steps(self) -> int:
        """Return the steps of all blocks."""
        return self.blocks * self.steps


@dataclass(frozen=True)
class RecordedBlock:
    """What a recorded block of steps took in CPU time, starting and reading the recorder excluded, and its steps."""

    cpu_seconds: float
    steps: tuple[StepOps, ...]


class StepRecorder(Protocol):
    """Runs blocks of steps and records their ops."""

    def prepare(self, stepper: Stepper, plan: BlockPlan) -> BlockPlan:
        """Return the plan to follow, once the recorder has seen what it needs to; it may run a step for that."""

    def block(self, stepper: Stepper, plan: BlockPlan) -> RecordedBlock:
        """Return one recorded block of `plan.steps` steps."""


def waiter(device: str) -> Callable[[], None]:
    """Return the function that waits for the device: launches alone are no finished step."""
    if device.startswith("cuda"):
        return lambda: torch.cuda.synchronize(device)
    return lambda: None


def warm_up(stepper: Stepper, device: str) -> float:
    """Run steps until caches, allocators and optimizer state are there; return the quickest one's seconds."""
    wait = waiter(device)
    quickest = float("inf")
    for _ in range(WARM_UP):
        begin = time.perf_counter()
        stepper.step()
        wait()
        quickest = min(quickest, time.perf_counter() - begin)
    return quickest


def plan_blocks(step_seconds: float, steps: int | None) -> BlockPlan:
    """Return a plan for about a second of steps each way, a block long enough for the CPU clock.

    A long step needs no lead-in: what it takes to fill the caches again is little against it.
    """
    short = step_seconds < LONG_STEP_SECONDS
    least = 2 * LEAST_STEPS if short else LEAST_STEPS
    wanted = min(max(round(PASS_SECONDS / step_seconds), least), MOST_STEPS) if steps is None else steps
    in_block = min(max(round(BLOCK_SECONDS / step_seconds), 1), max(wanted // LEAST_BLOCKS, 1))
    return BlockPlan(-(-wanted // in_block), in_block, short, open_ended=steps is None)


def plain_block(stepper: Stepper, wait: Callable[[], None], plan: BlockPlan, seconds: list[float]) -> float:
    """Run a block of steps, append their wall-clock seconds and return the CPU seconds of all.

    The lead-in is the same in a recorded block: reading a record has just emptied the caches.
    """
    if plan.lead_in:
        stepper.step()
        wait()
    cpu = time.process_time()
    for _ in range(plan.steps):
        begin = time.perf_counter()
        stepper.step()
        wait()
        seconds.append(time.perf_counter() - begin)
    return time.process_time() - cpu
