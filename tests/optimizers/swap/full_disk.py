"""Run as a process of its own: what happens to a training step whose disk is full. Prints one JSON object.

python -m tests.optimizers.swap.full_disk FOLDER filler: fills the disk under FOLDER with a file.
python -m tests.optimizers.swap.full_disk FOLDER limit: forbids files beyond a size instead, where none can be filled.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from analyzer.errors import HotbenchError
from analyzer.workload import Stepper
from optimizers.swap import swap_file
from optimizers.swap.engine import Engine
from optimizers.swap.fit import fit, timeline_of
from optimizers.swap.itinerary import Itinerary
from optimizers.swap.make_itinerary import make_itinerary
from optimizers.swap.moves import Tier
from optimizers.swap.plan import plan, smallest_budget
from optimizers.swap.snapshot import Snapshot
from optimizers.swap.tracer import trace_step
from tests.optimizers.swap.training_models import training, weights_after

TIER = Tier("disk", 1e9, 1e9, 1e-4)
MODEL = "recurrent"
STEPS = 4
LEFT_BYTES = 128 << 10


@contextlib.contextmanager
def full(folder: Path, kind: str) -> Iterator[None]:
    """Leave next to nothing on the disk, or for any file."""
    if kind == "limit":
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (LEFT_BYTES, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        return
    filler = folder / "filler"
    space = os.statvfs(folder)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize - LEFT_BYTES)
    try:
        yield
    finally:
        filler.unlink()


def itinerary() -> Itinerary:
    """Return trips that need far more than what is left."""
    trace = trace_step(Stepper(training(MODEL)), timed_steps=1)
    traced = timeline_of(trace, (TIER,), ("swap",))
    found = plan(traced.timeline, smallest_budget(traced.timeline, (TIER,), ("swap",)), (TIER,), ("swap",))
    made = make_itinerary(trace, traced, found.moves, 32 << 10)  # type: ignore[union-attr]
    assert made.file_bytes > 4 * LEFT_BYTES
    return made


def refusal_of_fit(folder: Path, kind: str) -> tuple[str, bool]:
    """Return in what words a fit stops, and whether the model then trains as if nothing had been asked."""
    workload = training(MODEL)
    with full(folder, kind):
        try:
            fit(workload, "60%", folder=folder).close()
            words = ""
        except HotbenchError as error:
            words = str(error)
    return words, weights_after(workload, STEPS) == weights_after(training(MODEL), STEPS)


def main(folder: Path, kind: str) -> dict[str, object]:
    """Return what happened."""
    torch.set_num_threads(1)
    # What lies in memory is refused as a place to swap to; here it stands for a disk.
    swap_file.IN_MEMORY = ()  # type: ignore[assignment]
    plain, trips = weights_after(training(MODEL), STEPS), itinerary()
    found: dict[str, object] = {}
    found["fit"], found["fit leaves the model"] = refusal_of_fit(folder, kind)
    attentive = training("attentive")
    weights_after(attentive, 1)
    with full(folder, kind):
        try:
            Snapshot(attentive.model, attentive.optimizer, folder)
        except HotbenchError as error:
            found["state"] = str(error)
    with full(folder, kind):
        try:
            Engine(training(MODEL).model, trips, folder)
        except HotbenchError as error:
            found["no room at the start"] = str(error)
    workload = training(MODEL)
    engine = Engine(workload.model, trips, folder, workload.optimizer)
    if kind == "filler":
        with full(folder, kind):
            found["reserved: same weights"] = weights_after(workload, STEPS) == plain
        found["reserved: trouble"] = engine.trouble
    engine.close()
    # A disk that promises more than it has: what was reserved is not there when it is written.
    os.posix_fallocate, reserve = lambda *_: None, os.posix_fallocate  # type: ignore[assignment]
    workload = training(MODEL)
    engine = Engine(workload.model, trips, folder, workload.optimizer)
    os.posix_fallocate = reserve
    with full(folder, kind):
        found["promised: same weights"] = weights_after(workload, STEPS) == plain
    found["promised: trouble"] = engine.trouble
    engine.close()
    found["left behind"] = sorted(path.name for path in folder.iterdir())
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2])))
