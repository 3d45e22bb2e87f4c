"""The simulator of optimizers.placement against steps that were measured: 12 configurations of 2 and 4 processes.

    python -m benchmarks.placement_simulator [--only ID,...] [--json]

Each model is captured once, alone, with one thread; this machine's exchanges are calibrated; then each configuration is
predicted from these alone, and measured. Two hosts are network namespaces joined by a link of limited rate: they need
root, and are left out visibly without it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass

from analyzer.capture import capture
from analyzer.errors import HotbenchError
from analyzer.workload import load_workload
from benchmarks.placement_hosts import FRAME_BYTES, two_hosts
from benchmarks.placement_hosts import unavailable as no_hosts
from benchmarks.placement_models import name_of
from optimizers.placement.buckets import DDP_CAP_BYTES
from optimizers.placement.calibrate import calibrate
from optimizers.placement.calibration import Calibration
from optimizers.placement.cluster import Cluster, Host, Link
from optimizers.placement.costs import Costs
from optimizers.placement.launch import Ranks, placement_launch
from optimizers.placement.plans import DistributedPlan, StepProfile, profile_of
from optimizers.placement.predict import Prediction, predict
from optimizers.placement.this_machine import this_machine

SIZES = (4 << 10, 4 << 20, 24 << 20)
STEPS = 24
WARMUP = 4
HEADER_BYTES, ETHERNET_BYTES = 52, 14
"""Of a frame: IP and TCP with time stamps, which count as its content, and Ethernet, which does not."""
UNMEASURED_SHARE = 0.3
"""Of a core that TCP takes, where this machine's was not calibrated: assumed."""
MUST = 0.15
AIM = 0.08


@dataclass(frozen=True, slots=True)
class Configuration:
    """One step to predict and to measure. megabits: of the link between two hosts; None on one host."""

    id: str
    model: str
    backend: str
    world_size: int
    bucket_megabytes: float | None = None
    megabits: float | None = None


CONFIGURATIONS = (
    Configuration("mlp-gloo-2", "mlp", "gloo", 2),
    Configuration("lstm-gloo-2", "lstm", "gloo", 2),
    Configuration("cnn-gloo-2", "cnn", "gloo", 2),
    Configuration("mlp-hotbench-2", "mlp", "hotbench", 2),
    Configuration("lstm-hotbench-2-buckets-4", "lstm", "hotbench", 2, 4.0),
    Configuration("cnn-hotbench-2-buckets-1", "cnn", "hotbench", 2, 1.0),
    Configuration("mlp-gloo-4", "mlp", "gloo", 4),
    Configuration("mlp-hotbench-4", "mlp", "hotbench", 4),
    Configuration("cnn-hotbench-4", "cnn", "hotbench", 4),
    Configuration("mlp-gloo-2-hosts-1000", "mlp", "gloo", 2, megabits=1000.0),
    Configuration("cnn-gloo-2-hosts-500", "cnn", "gloo", 2, megabits=500.0),
    Configuration("lstm-hotbench-2-hosts-1000", "lstm", "hotbench", 2, megabits=1000.0),
)


@dataclass(frozen=True, slots=True)
class Row:
    """A configuration's seconds: predicted (with the bounds of its estimate), measured (median, quartiles).

    error: relative, of the prediction.
    """

    case: str
    predicted: float
    predicted_low: float
    predicted_high: float
    measured: float
    low: float
    high: float
    error: float
    predicted_exposed: float
    measured_exposed: float

    @property
    def is_inside(self) -> bool:
        """Return whether the measured median lies between the estimate's bounds."""
        return self.predicted_low <= self.measured <= self.predicted_high


def capture_profile(model: str) -> StepProfile:
    """Return one worker's step as a capture in this process sees it."""
    workload, reference = load_workload(name_of(model))
    return profile_of(capture(workload, reference, threads=1))


def measure(item: Configuration) -> list[tuple[float, float]]:
    """Return (seconds, exposed seconds) of each measured step, the mean over ranks."""
    _, reference = load_workload(name_of(item.model))
    settings: dict[str, object] = {}
    if item.bucket_megabytes is not None:
        settings["bucket_megabytes"] = item.bucket_megabytes
    with ExitStack() as stack:
        hosts = stack.enter_context(nullcontext() if item.megabits is None else two_hosts(item.megabits))
        where = {} if hosts is None else {"places": hosts.places(item.world_size), "meeting": hosts.meeting()}
        if hosts is not None and item.backend == "hotbench":
            # Else it finds that both hosts are one machine, and uses its memory.
            settings |= {"transports": "tcp", "interface": hosts.interface}
        launch = placement_launch(reference, item.backend, world_size=item.world_size, settings=settings)
        ranks = stack.enter_context(Ranks(launch, **where))
        ranks.steps(WARMUP)
        return [(step.seconds, step.exposed_seconds) for step in ranks.steps(STEPS).steps]


def cluster_of(item: Configuration, costs: Costs) -> Cluster:
    """Return this machine, or two hosts that share its cores, joined by a link of the rate that was set."""
    here = this_machine(item.world_size)
    if item.megabits is None:
        return here
    host = here.hosts[0]
    source = f"set: tbf at {item.megabits:g} Mbit/s, which counts the headers of frames"
    rate = item.megabits * 1e6 / 8 * (FRAME_BYTES - HEADER_BYTES) / (FRAME_BYTES + ETHERNET_BYTES)
    link = Link("link", "network", 5e-5, rate, source, processor_share(costs, rate))
    return Cluster("two namespaces", (Host("host", 2, 1, 1, 0, host.memory_bytes, host.inside, link),))


def processor_share(costs: Costs, bytes_per_second: float) -> float:
    """Return the share of a core that either end of TCP spends at a rate: as gloo spends on one host, by the byte."""
    found = next((item for item in costs.measured if (item.backend, item.world_size) == ("gloo", 2)), None)
    if found is None:
        return UNMEASURED_SHARE
    point = found.points[-1]
    return min(point.processor_seconds / 2 / point.bytes * bytes_per_second, 1.0)


def predicted(item: Configuration, profile: StepProfile, costs: Costs) -> Prediction:
    """Return what a step would take."""
    cap = DDP_CAP_BYTES if item.bucket_megabytes is None else int(item.bucket_megabytes * (1 << 20))
    plan = DistributedPlan("all-reduce", item.backend, item.world_size, cap_bytes=cap)
    return predict(profile, plan, cluster_of(item, costs), costs)


def calibrations(items: Sequence[Configuration]) -> Calibration | None:
    """Return what exchanges on one host cost for the backends and worlds of the configurations."""
    wanted = sorted({(item.world_size, item.backend) for item in items if item.megabits is None})
    merged: Calibration | None = None
    for world_size, backend in wanted:
        rates = None if merged is None else merged.rates
        found = calibrate(world_size, [backend], sizes=SIZES, rates=rates)
        exchanges = (*(merged.exchanges if merged else ()), *found.exchanges)
        # Of the smallest world: there each rank has a core.
        work = {**found.work, **(merged.work if merged else {})}
        merged = Calibration(found.processor, found.cores, found.rates, exchanges, work)
    return merged


def rows(items: Sequence[Configuration], profiles: Mapping[str, StepProfile], costs: Costs) -> Iterator[Row]:
    """Yield each configuration, predicted first and measured after."""
    for item in items:
        expected = predicted(item, profiles[item.model], costs)
        taken = measure(item)
        seconds = sorted(step for step, _ in taken)
        middle = statistics.median(seconds)
        quarter = len(seconds) // 4
        yield Row(
            item.id,
            expected.seconds,
            expected.step.low,
            expected.step.high,
            middle,
            seconds[quarter],
            seconds[-quarter - 1],
            expected.seconds / middle - 1.0,
            expected.exposed_seconds,
            statistics.median(exposed for _, exposed in taken),
        )


def shown(row: Row) -> str:
    """Return a row as a line of text."""
    return (
        f"{row.case:28} predicted {row.predicted * 1e3:8.2f} ms ({row.predicted_low * 1e3:.2f} to "
        f"{row.predicted_high * 1e3:.2f}), measured {row.measured * 1e3:8.2f} "
        f"({row.low * 1e3:.2f} to {row.high * 1e3:.2f}), error {row.error:+.1%}; "
        f"exposed {row.predicted_exposed * 1e3:.2f} / {row.measured_exposed * 1e3:.2f}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict and measure; return 0, 1 where a configuration is off by more than it may be, 2 on bad input."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.placement_simulator", description=__doc__)
    parser.add_argument("--only", default="", help="ids with commas between")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args(arguments)
    wanted = [name for name in given.only.split(",") if name]
    items = [item for item in CONFIGURATIONS if not wanted or item.id in wanted]
    missing = []
    if no_hosts():
        missing = [{"peer": item.id, "why": no_hosts()} for item in items if item.megabits is not None]
        items = [item for item in items if item.megabits is None]
    try:
        profiles = {model: capture_profile(model) for model in sorted({item.model for item in items})}
        calibration = calibrations(items)
        costs = Costs() if calibration is None else calibration.costs()
        found = []
        for row in rows(items, profiles, costs):
            print(shown(row), file=sys.stderr, flush=True)
            found.append(row)
    except HotbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    inside = sum(row.is_inside for row in found)
    print(f"{inside} of {len(found)} measured steps lie within the bounds of their estimate", file=sys.stderr)
    if given.json:
        print(json.dumps({"rows": [asdict(row) for row in found], "missing": missing}))
    return int(any(abs(row.error) > MUST for row in found))


if __name__ == "__main__":
    sys.exit(main())
