"""One peer on one case in a process of its own:
`python -m benchmarks.quantization_worker CASE PEER THREADS BLOCK_SECONDS [TEXTS] [ANSWERS_FILE]`.

Its first line is {"compile_seconds", "facts", "said", "classes"} or {"refused": reason}; then each line that it reads
is answered by {"seconds": of one step, the median of a block of steps}. It ends with its input. Its answers to TEXTS
texts go to ANSWERS_FILE as a NumPy array, where there are such.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from typing import Any

import numpy as np
import torch

from benchmarks.fusion_worker import line_of, median_of_block, steps_of
from benchmarks.quantization_cases import case_of
from benchmarks.quantization_prepared import Prepared


def main(case_id: str, peer: str, threads: int, block_seconds: float, texts: int = 0, answers_file: str = "") -> None:
    # Compilers write to standard output: the answers go to a copy of it that they do not have.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    torch.set_num_threads(threads)
    case = case_of(case_id)
    try:
        start = time.perf_counter()
        family: Any = importlib.import_module(f"benchmarks.quantization_{case.family}")
        made: Prepared = family.prepared(case, peer, texts) if texts else family.prepared(case, peer)
        made.step()
        seconds = time.perf_counter() - start
        if made.answers is not None and answers_file:
            np.save(answers_file, made.answers())
        steps = 1 if case.once else steps_of(made.step, block_seconds)
    except Exception as error:
        # Whatever a peer fails with is its reason to be missing; where it failed goes to standard error.
        traceback.print_exc()
        answer({"refused": line_of(error)})
        return
    answer({"compile_seconds": seconds, "facts": dict(made.facts), "said": made.said, "classes": list(made.classes)})
    for _ in sys.stdin:
        if case.once:
            start = time.process_time()
            made.step()
            answer({"seconds": time.process_time() - start})
        else:
            answer({"seconds": median_of_block(made.step, steps, 4 * block_seconds)})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), *map(int, sys.argv[5:6]), *sys.argv[6:7])
