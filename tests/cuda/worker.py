"""Runs inside the toolchain environment: simulates or compiles the kernels that a test process sends.

The two cannot share a process: NUMBA_ENABLE_CUDASIM=1 decides when numba is imported. Jobs and replies are pickles on
standard input and output; whatever a kernel prints goes to standard error.
"""

from __future__ import annotations

import os
import pickle
import sys
from typing import Any

from tests.cuda.jobs import Failure


def serve(incoming: Any, outgoing: Any) -> None:
    """Return when `incoming` is closed; answer each job with its result or a Failure."""
    while True:
        try:
            job = pickle.load(incoming)
        except EOFError:
            return
        try:
            reply: Any = job.run()
        except Exception as error:
            reply = Failure(f"{type(error).__name__}: {error}")
        pickle.dump(reply, outgoing)
        outgoing.flush()


if __name__ == "__main__":
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, outgoing)
