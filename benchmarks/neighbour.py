"""A busy neighbour: `python -m benchmarks.neighbour SEED` burns one or two cores in bursts until its input closes."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

BUFFER_BYTES = 8 << 20
SHORTEST_SECONDS, LONGEST_SECONDS = 0.02, 1.0


def burst(seconds: float) -> None:
    """Keep a core and its caches busy: hashing a buffer larger than a core's cache lets go of the interpreter lock."""
    buffer = bytes(BUFFER_BYTES)
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        hashlib.blake2b(buffer).digest()


def burn(seed: int) -> None:
    """Burn in bursts of random length, on one core or two, with pauses of random length between them, for ever."""
    draw = random.Random(seed)
    while True:
        length = draw.uniform(SHORTEST_SECONDS, LONGEST_SECONDS)
        threads = [threading.Thread(target=burst, args=(length,)) for _ in range(draw.choice((1, 2)))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        time.sleep(draw.uniform(SHORTEST_SECONDS, LONGEST_SECONDS))


@contextmanager
def busy_neighbour(seed: int) -> Iterator[int]:
    """Have a neighbour at work for as long as the block lasts; its process id is given."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.neighbour", str(seed)], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        yield process.pid
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.stdin is not None:
            process.stdin.close()
        process.wait()


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    # Without its parent the pipe closes, and it must not burn on.
    threading.Thread(target=_end_with_input, daemon=True).start()
    burn(int(sys.argv[1]))
