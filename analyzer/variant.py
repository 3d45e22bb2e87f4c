"""The process of one variant: `python -m analyzer.variant` answers one JSON request a line with one JSON line.

It takes the pipes away from the user's code first: what that prints goes to standard error, what it reads is empty.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import torch

from analyzer.accuracy import collect_outputs, nudge_parameters
from analyzer.errors import HotbenchError, WorkloadError
from analyzer.peak import peak_live_bytes, stored_bytes
from analyzer.record import to_plain
from analyzer.timing import SAMPLE_SECONDS, DeviceClock, ProcessClock, lead_in, settle, take_samples
from analyzer.workload import Stepper, Workload, WorkloadReference, prepare, rebuild_workload, seed_everything


def rebuild_baseline(argument: dict[str, Any]) -> Workload:
    """Return the workload of a WorkloadReference (given as a dict), built afresh and prepared."""
    reference = WorkloadReference.from_dict(argument)
    workload = rebuild_workload(reference)
    prepare(workload, reference.device)
    return workload


def build(entry: str, argument: dict[str, Any]) -> Workload:
    """Return the Workload that `module:function` builds from `argument`. Raises WorkloadError where it cannot."""
    module_name, separator, function_name = entry.partition(":")
    if not separator:
        raise WorkloadError(f"{entry!r} names no entry; write module:function")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise WorkloadError(f"cannot find {entry}: {error}") from error
    try:
        workload = function(argument)
    except HotbenchError:
        raise
    except Exception as error:
        raise WorkloadError(f"{entry} raised {type(error).__name__}: {error}") from error
    if not isinstance(workload, Workload):
        raise WorkloadError(f"{entry} returned a {type(workload).__name__}; return a Workload")
    return workload


def stay_on(core: int) -> None:
    """Run on one core from now on, where the system allows it."""
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setaffinity(0, {core})


def device_event() -> Any:
    """Return a CUDA event that notes the time."""
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


@dataclass(slots=True)
class Session:
    """A built workload and the requests that can be made of it; each method's result is plain JSON."""

    stepper: Stepper | None = None
    clock: ProcessClock = field(default_factory=ProcessClock)
    step_seconds: float = 0.0
    padding: list[bytearray] = field(default_factory=list)

    def build(
        self, entry: str, argument: dict[str, Any], threads: int, layout: int = 0, core: int | None = None
    ) -> dict[str, Any]:
        """Build the workload afresh; say whether it trains, how many bytes its state has, how long it took.

        layout: seed of where on the heap the build lies. core: where a build of one thread runs from now on.
        """
        start = time.monotonic()
        torch.set_num_threads(threads)
        self._forget(layout)
        seed_everything(0)
        workload = build(entry, argument)
        self.stepper = Stepper(workload)
        # A step of the user's own may have workers beside it: it keeps all cores.
        if core is not None and threads == 1 and workload.step is None:
            stay_on(core)
        if torch.cuda.is_available() and torch.device(workload.device or "cpu").type == "cuda":
            self.clock = DeviceClock(device_event)
        return {
            "training": workload.training,
            "state_bytes": stored_bytes(workload.model),
            "seconds": time.monotonic() - start,
        }

    def _forget(self, layout: int) -> None:
        """Drop the present build, and move the heap on, so that the next build lies at other addresses."""
        self.stepper = None
        gc.unfreeze()
        gc.collect()
        sizes = random.Random(layout)
        self.padding = [bytearray(sizes.randrange(64, 1 << 16)) for _ in range(16)]

    def outputs(self, seeds: list[int], path: str, nudge: bool = False) -> dict[str, Any]:
        """Write what the workload computes from `seeds` to a safetensors file, and evaluate it.

        nudge: round every parameter up or down by one unit in the last place first.
        """
        stepper = self._stepper()
        if nudge:
            nudge_parameters(stepper.workload.model)
        count = collect_outputs(stepper, seeds, Path(path))
        evaluate = stepper.workload.evaluate
        metrics = {} if evaluate is None else evaluate(stepper.workload.model)
        stepper.redraw(0)
        return {"tensors": count, "metrics": {name: float(value) for name, value in metrics.items()}}

    def peak(self) -> dict[str, Any]:
        """Return the highest live bytes of the allocator in one step."""
        return {"peak_bytes": peak_live_bytes(self._stepper())}

    def clock_rate(self) -> dict[str, Any]:
        """Return the GPU's clock in MHz; None on a CPU."""
        return {"megahertz": float(torch.cuda.clock_rate()) if isinstance(self.clock, DeviceClock) else None}

    def settle(self, seconds: float, least: int) -> dict[str, Any]:
        """Run warm-up steps; return the quickest one's seconds."""
        self.step_seconds = settle(self._stepper().step, self.clock, seconds, least)
        return {"step_seconds": self.step_seconds, "sample_seconds": SAMPLE_SECONDS}

    def block(self, count: int, repeats: int) -> dict[str, Any]:
        """Time a block of `count` samples of `repeats` steps, after a short lead-in."""
        step = self._stepper().step
        lead_in(step, self.clock, self.step_seconds)
        return {"samples": [to_plain(sample) for sample in take_samples(step, self.clock, count, repeats)]}

    def _stepper(self) -> Stepper:
        if self.stepper is None:
            raise WorkloadError("the variant was asked to run before it was built")
        return self.stepper


REQUESTS: dict[str, Callable[..., dict[str, Any]]] = {
    "build": Session.build,
    "outputs": Session.outputs,
    "peak": Session.peak,
    "settle": Session.settle,
    "block": Session.block,
    "clock": Session.clock_rate,
}


def serve(requests: TextIO, replies: TextIO) -> None:
    """Answer each request line until the requests end."""
    session = Session()
    for line in requests:
        message = json.loads(line)
        name = message.pop("request")
        try:
            reply = REQUESTS[name](session, **message)
        except HotbenchError as error:
            reply = {"error": str(error)}
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(to_plain(reply)) + "\n")
        replies.flush()


def take_pipes() -> tuple[TextIO, TextIO]:
    """Return (requests, replies) of this process's pipes; user code that reads or prints gets neither from now on."""
    requests, replies = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, replies


def die_with_parent() -> None:
    """Have this process killed when the one that started it ends, where the system can do that."""
    # PR_SET_PDEATHSIG: a parent that is killed outright cannot stop us itself.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


if __name__ == "__main__":
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(*take_pipes())
    sys.exit(0)
