"""Data-parallel training of a workload, timed.

python -m optimizers.placement FILE.py:FUNCTION --backend hotbench --world-size 2      starts the ranks here
torchrun --nproc-per-node 2 -m optimizers.placement FILE.py:FUNCTION --backend gloo    is one of them, on any host
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from analyzer.errors import HotbenchError
from analyzer.record import to_plain
from analyzer.workload import load_workload
from optimizers.placement.backends import NAMES, OURS
from optimizers.placement.launch import WARMUP_STEPS, MeasuredSteps, PlacementLaunch, placement_launch, run_steps
from optimizers.placement.rank_process import make_rank, world_from_environment
from optimizers.placement.step_times import StepTimes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, or 2 on bad input or a rank that failed."""
    options = _parser().parse_args(arguments)
    try:
        settings = dict(_setting(item) for item in options.set)
        _, reference = load_workload(options.workload)
        under_torchrun = "RANK" in os.environ
        launch = placement_launch(
            reference,
            options.backend,
            world_size=int(os.environ["WORLD_SIZE"]) if under_torchrun else options.world_size,
            threads=options.threads,
            timeout_seconds=options.timeout,
            settings=settings,
        )
        measured = _as_rank(launch, options.steps) if under_torchrun else run_steps(launch, options.steps)
    except HotbenchError as error:
        print(f"optimizers.placement: {error}", file=sys.stderr)
        return 2
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(summary(measured)) if options.json else in_words(measured))
    return 0


def summary(measured: MeasuredSteps) -> dict[str, Any]:
    """Return what was measured as plain JSON."""
    return {
        "backend": measured.backend,
        "transport": measured.transport,
        "ranks": len(measured.ranks),
        "steps": len(measured.steps),
        "median_step": to_plain(measured.median),
        "last_losses": [losses[-1] for losses in measured.losses],
    }


def in_words(measured: MeasuredSteps) -> str:
    """Return what was measured as one line."""
    found = measured.median
    return (
        f"{measured.backend} ({measured.transport}): {found.seconds * 1e3:.2f} ms a step, "
        f"{found.compute_seconds * 1e3:.2f} computing, {found.exposed_seconds * 1e3:.2f} waiting for communication, "
        f"{found.hidden_seconds * 1e3:.2f} of communication hidden; loss {measured.losses[0][-1]:.6g}"
    )


def _as_rank(launch: PlacementLaunch, steps: int) -> MeasuredSteps:
    """Return the steps of this process's rank, one of those that torchrun started."""
    with make_rank(to_plain(launch), world_from_environment(launch.timeout_seconds)) as rank:
        transport = rank.backend.transport
        found = [rank.step() for _ in range(WARMUP_STEPS + steps)][WARMUP_STEPS:]
    times: tuple[StepTimes, ...] = tuple(step for _, step in found)
    return MeasuredSteps(launch.backend, transport, (times,), (tuple(float(loss) for loss, _ in found),))


def _setting(text: str) -> tuple[str, Any]:
    """Return NAME and VALUE of NAME=VALUE, the value as JSON where it is some. Raises HotbenchError for other text."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise HotbenchError(f"--set {text!r} sets nothing; write NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m optimizers.placement", description=__doc__.split("\n")[0])
    parser.add_argument("workload", metavar="FILE.py:FUNCTION", help="a training workload")
    parser.add_argument("--backend", choices=NAMES, default=OURS, help="how gradients are exchanged")
    parser.add_argument("--world-size", type=int, default=2, help="ranks to start here (torchrun says it otherwise)")
    parser.add_argument("--steps", type=int, default=20, help="timed steps")
    parser.add_argument("--threads", type=int, default=1, help="threads of each rank")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds after which a silent peer counts as gone")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="of the backend hotbench")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


if __name__ == "__main__":
    sys.exit(main())
