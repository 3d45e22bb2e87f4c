"""One peer on one case in a process of its own: `python -m benchmarks.fusion_worker CASE PEER THREADS BLOCK_SECONDS`.

Its first line is {"compile_seconds", "deviation", "said"} or {"refused": reason}; then each line that it reads is
answered by {"seconds": of one step, the median of a block of steps}. It ends with its input.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import torch

from analyzer.errors import HotbenchError
from benchmarks.fusion_models import built, case_of
from benchmarks.fusion_peers import EAGER, deviation, prepare, step_of

LARGEST_DEVIATION = 1e-3
FEWEST_STEPS = 3


def main(case_id: str, peer: str, threads: int, block_seconds: float) -> None:
    # Compilers write to standard output: the answers go to a copy of it that they do not have.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    torch.set_num_threads(threads)
    try:
        step, ready = _ready(case_id, peer)
    except Exception as error:
        # Whatever a peer fails with is its reason to be missing; where it failed goes to standard error.
        traceback.print_exc()
        answer({"refused": line_of(error)})
        return
    steps = steps_of(step, block_seconds)
    answer(ready)
    for _ in sys.stdin:
        answer({"seconds": median_of_block(step, steps, 4 * block_seconds)})


def _ready(case_id: str, peer: str) -> tuple[Callable[[], Any], dict[str, Any]]:
    case = case_of(case_id)
    reference = built(case)
    expected = step_of(case, prepare(case, EAGER, reference), reference, tuple(reference.model.parameters()))()
    made = built(case)
    start = time.perf_counter()
    prepared = prepare(case, peer, made)
    owner = made.library if peer == "nn.LSTM" and made.library is not None else made.model
    step = step_of(case, prepared, made, tuple(owner.parameters()))
    result = step()
    seconds = time.perf_counter() - start
    gap = deviation(result, expected)
    if not gap <= LARGEST_DEVIATION:
        raise HotbenchError(f"its results differ from eager's by {gap:.2g} of the largest value")
    return step, {"compile_seconds": seconds, "deviation": gap, "said": prepared.said()}


def line_of(error: Exception) -> str:
    """Return what an error says, in one line."""
    words = " ".join(str(error).split())
    text = words if isinstance(error, HotbenchError) else f"{type(error).__name__}: {words}"
    return text if len(text) <= 300 else f"{text[:297]}..."


def steps_of(step: Callable[[], Any], block_seconds: float) -> int:
    """Return how many steps fill a block; this warms up as well."""
    step()
    return max(FEWEST_STEPS, round(block_seconds / max(median_of_block(step, FEWEST_STEPS, block_seconds), 1e-7)))


def median_of_block(step: Callable[[], Any], steps: int, limit_seconds: float) -> float:
    """Return the median seconds of the steps; on a busy machine of as many as fit the limit."""
    samples: list[float] = []
    while len(samples) < FEWEST_STEPS or (len(samples) < steps and sum(samples) < limit_seconds):
        start = time.perf_counter()
        step()
        samples.append(time.perf_counter() - start)
    return statistics.median(samples)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
