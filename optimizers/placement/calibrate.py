"""Measures what exchanges of gradients cost on this machine: `python -m optimizers.placement.calibrate`.

Each backend exchanges buffers of rising size between processes that compute next to nothing. Of several steps the
median counts, as it does where a step is measured; their quartiles go into the low and the high of what is predicted.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path

from analyzer.device import processor_name, usable_cores
from analyzer.errors import HotbenchError
from analyzer.measurement import measure_quartiles
from analyzer.progress import Progress, silent
from analyzer.workload import Stepper
from optimizers.placement.backend_costs import BACKEND_COSTS
from optimizers.placement.backends import unavailable
from optimizers.placement.buckets import DDP_FIRST_BYTES
from optimizers.placement.calibration import Calibration, merge, save_calibration
from optimizers.placement.calibration_workload import BURDENS, seed_of
from optimizers.placement.calibration_workload import exchange as exchange_workload
from optimizers.placement.costs import MeasuredExchange, Point, Rates
from optimizers.placement.launch import MOST_RANKS, PlacementLaunch, Ranks
from optimizers.placement.rank_work import Beside, StepWork, beside_pace, cores_taken, expected_slowest
from optimizers.placement.step_times import StepTimes

SIZES = (4 << 10, 64 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20)
SLOW_SIZES = (4 << 10, 64 << 10, 1 << 20, 4 << 20)
"""Of backends with a server, which need seconds where the others need milliseconds."""
_MODULE = "optimizers.placement.calibration_workload"
_BURDENS = {"width": 384, "repeats": 12, "bytes": 64 << 20}
_SHORT_BURDENS = {"width": 384, "repeats": 5, "bytes": 24 << 20}
"""Over before a large exchange is, unless that is quick, so that all of the computing has the exchange beside it."""
_BURDEN_STEPS = 16
_SECONDS_EACH = 0.3
_MOST_STEPS = 40
_TENSORS = 33
_LEAST_STEPS = 5
SERVED = tuple(item.name for item in BACKEND_COSTS if item.form == "parameter-server")


def calibrate(
    world_size: int = 2,
    backends: Sequence[str] = (),
    *,
    threads: int = 1,
    sizes: Sequence[int] = (),
    rates: Rates | None = None,
    progress: Progress = silent,
) -> Calibration:
    """Return what the backends cost here between `world_size` processes; those that cannot run here are noted.

    rates: what a core gives while all are busy, where it is known already.

    Raises HotbenchError where a process of a backend that should run does not.
    """
    names = tuple(backends) or tuple(item.name for item in BACKEND_COSTS)
    missing = {name: reason for name in names if (reason := unavailable(name))}
    usable = [name for name in names if name not in missing]
    found: list[MeasuredExchange] = []
    work: dict[str, StepWork] = {}
    if rates is None:
        progress("all cores at once", 0.0)
        rates = measure_rates(usable[0], threads) if usable else Rates()
    for place, name in enumerate(usable):
        progress(f"exchanges of {name} between {world_size} processes", place / (len(usable) + 1))
        chosen = sorted(set(sizes or (SLOW_SIZES if name in SERVED else SIZES)))
        measured = [_exchange(name, world_size, threads, size) for size in chosen]
        crowded = None
        if world_size * threads >= usable_cores() and name not in SERVED:
            crowded = measure_beside(name, world_size, threads, measured, rates)
        points = tuple(item.point for item in measured)
        found.append(MeasuredExchange(name, world_size, points, source(), crowded))
        work[name] = _work(measured, _exchange(name, world_size, threads, chosen[0], _TENSORS))
    progress("calibrated", 1.0)
    return Calibration(processor_name(), usable_cores(), rates, tuple(found), work, missing)


def source() -> str:
    """Return where and when something is measured."""
    return f"measured: on this machine ({processor_name()}, {usable_cores()} cores), {time.strftime('%Y-%m-%d')}"


@dataclass(frozen=True, slots=True)
class MeasuredPoint:
    """An exchange of one size; the rest of its step, and what a step more than alone that is, with a core to itself."""

    point: Point
    computed_seconds: float
    more_seconds: float


def _exchange(backend: str, world_size: int, threads: int, size: int, tensors: int = 1) -> MeasuredPoint:
    """Return what exchanges of one size take, and the rest of their steps."""
    argument = {"bytes": size, "tensors": tensors}
    launch = PlacementLaunch(f"{_MODULE}:exchange", argument, backend, world_size, threads)
    with Ranks(launch) as ranks:
        first = ranks.steps(3).steps[-1].seconds
        count = int(min(max(_SECONDS_EACH / max(first, 1e-4), _LEAST_STEPS), _MOST_STEPS))
        before = processor_seconds(ranks.process_ids)
        steps = ranks.steps(count).steps
        spent = (processor_seconds(ranks.process_ids) - before) / count
    exposed = measure_quartiles([step.exposed_seconds for step in steps], "s")
    computed = statistics.median(step.compute_seconds for step in steps)
    middle = exposed.median or 1.0
    spent = max(spent - computed * world_size, 0.0)
    point = Point(size, exposed.median, spent, exposed.low / middle, exposed.high / middle)
    # More ranks than cores share them: what one does with a core to itself takes that part of it.
    share = min(usable_cores() / (world_size * threads), 1.0)
    return MeasuredPoint(point, computed, max(computed * share - _alone_seconds(argument), 0.0))


def _work(measured: Sequence[MeasuredPoint], parted: MeasuredPoint) -> StepWork:
    """Return what a rank does each step, from exchanges of rising size and one of the smallest in _TENSORS parts."""
    least, most = measured[0], measured[-1]
    larger = most.point.bytes - least.point.bytes
    by_byte = max(most.more_seconds - least.more_seconds, 0.0) / larger if larger else 0.0
    by_tensor = max(parted.more_seconds - least.more_seconds, 0.0) / (_TENSORS - 1)
    return StepWork(least.more_seconds, by_tensor, by_byte)


def measure_beside(
    backend: str, world_size: int, threads: int, measured: Sequence[MeasuredPoint], rates: Rates
) -> Beside | None:
    """Return the backend's largest exchange beside computing on all cores; None where it is too small for a bucket."""
    least, most = measured[0], measured[-1]
    if most.point.bytes <= DDP_FIRST_BYTES:
        return None
    seeds = [BURDENS.index(burden) for burden in BURDENS] * (_BURDEN_STEPS + 1)
    steps = []
    for size in (least.point.bytes, most.point.bytes):
        argument = {**_SHORT_BURDENS, "exchanged": size}
        launch = PlacementLaunch(f"{_MODULE}:beside", argument, backend, world_size, threads)
        with Ranks(launch) as ranks:
            steps.append(ranks.steps(len(seeds), seeds).steps[len(BURDENS) :])
    copied = most.computed_seconds - least.computed_seconds
    found = []
    for place, rate in enumerate((rates.processor, rates.memory)):
        small, large = (over_median(part[place :: len(BURDENS)]) for part in steps)
        left = max(large.exposed_seconds - small.exposed_seconds, 0.0)
        done = max(most.point.seconds - left, 0.0)
        longer = large.compute_seconds - small.compute_seconds - copied
        pace = beside_pace(most.point.seconds, left, large.hidden_seconds)
        found.append((pace, cores_taken(usable_cores(), rate, longer, done)))
    (first, processor), (second, memory) = found
    return Beside((first + second) / 2, processor, memory)


def over_median(steps: Sequence[StepTimes]) -> StepTimes:
    """Return the median of each part of the steps."""
    parts = [statistics.median(values) for values in zip(*(astuple(step) for step in steps), strict=True)]
    return StepTimes(*parts)


def measure_rates(backend: str, threads: int) -> Rates:
    """Return what a core gives while all are busy, against one that is busy alone: in products, and in copies."""
    world_size = min(max(usable_cores() // threads, 2), MOST_RANKS)
    found, slowest = {}, []
    with Ranks(PlacementLaunch(f"{_MODULE}:burdens", _BURDENS, backend, world_size, threads)) as ranks:
        for burden in BURDENS:
            # Alone and together in turn: a neighbour of the machine is in the way of both.
            seeds = [seed_of(burden, alone) for alone in (True, False)] * (_BURDEN_STEPS + 1)
            taken = [times[2:] for times in ranks.steps(len(seeds), seeds).ranks]
            alone, together = (
                statistics.median(step.compute_seconds for step in taken[0][place::2]) for place in (0, 1)
            )
            found[burden] = min(alone / together, 1.0) if together > 0 else 1.0
            for step in zip(*(times[1::2] for times in taken), strict=True):
                seconds = [rank.compute_seconds for rank in step]
                slowest.append(max(seconds) / statistics.mean(seconds) - 1.0)
    waited = statistics.median(slowest) * expected_slowest(2) / expected_slowest(world_size)
    return Rates(found["products"], found["copies"], waited)


def _alone_seconds(argument: dict[str, int]) -> float:
    """Return what the step that computes next to nothing takes in one process without any exchange."""
    stepper = Stepper(exchange_workload(argument))
    alone = []
    for _ in range(_MOST_STEPS):
        begin = time.perf_counter()
        stepper.step()
        alone.append(time.perf_counter() - begin)
    return statistics.median(alone)


def processor_seconds(process_ids: Sequence[int]) -> float:
    """Return the processor time that all threads of these processes have had; 0 where the system does not tell."""
    total = 0
    for process in process_ids:
        for path in Path(f"/proc/{process}/task").glob("*/schedstat"):
            # A thread may end between the listing and the reading.
            with suppress(OSError, ValueError, IndexError):
                total += int(path.read_text().split()[0])
    return total * 1e-9


def main(arguments: Sequence[str] | None = None) -> int:
    """Calibrate this machine, keep the result, and print it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m optimizers.placement.calibrate", description=__doc__)
    parser.add_argument("--world-size", type=int, default=2, help="processes that exchange (default 2)")
    parser.add_argument("--backends", default="", help="names with commas between (default: all that run here)")
    parser.add_argument("-o", "--output", type=Path, help="also write this machine as a cluster in YAML")
    given = parser.parse_args(arguments)
    names = [name for name in given.backends.split(",") if name]
    try:
        found = calibrate(given.world_size, names, progress=lambda text, _: print(text, file=sys.stderr))
        path = save_calibration(merge(found))
        if given.output is not None:
            given.output.write_text(found.as_cluster(given.world_size), encoding="utf-8")
    except (HotbenchError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(found.table())
    print(f"kept in {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
