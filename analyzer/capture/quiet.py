"""Keeps the profiler's own chatter off the user's standard error; everything else passes through."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

NOISE = re.compile(
    rb"SyncActivityProfilerHandler|ActivityProfilerController|execution_trace_observer\.cpp|^USDT:"
    rb"|Memory block of unknown size was allocated before the profiling|CUPTI initialization failed"
    rb"|ActivityProfilerProxy|profiler_kineto\.cpp|kineto_shim\.cpp|output_json\.cpp"
)
_END = b"\0hotbench end of capture\0\n"


@contextmanager
def quiet_profiler() -> Iterator[None]:
    """Drop the lines that the profiler and its trace observer print on file descriptor 2; forward all others at once.

    They are written by C++ code, past sys.stderr, and no setting silences them.
    """
    try:
        saved = os.dup(2)
    except OSError:
        # A process without standard error has nowhere to chatter.
        yield
        return
    _flush()
    reader, writer = os.pipe()
    done = threading.Event()
    # A daemon that reads to the end of file: a child process of the user's may hold the pipe open after we are done.
    forward = threading.Thread(target=_forward, args=(reader, saved, done), daemon=True)
    forward.start()
    os.dup2(writer, 2)
    os.close(writer)
    try:
        yield
    finally:
        _flush()
        os.write(2, _END)
        os.dup2(saved, 2)
        done.wait()


def _flush() -> None:
    if sys.stderr is not None:
        sys.stderr.flush()


def _forward(reader: int, target: int, done: threading.Event) -> None:
    try:
        with os.fdopen(reader, "rb") as lines:
            for line in lines:
                if line.endswith(_END):
                    _write(target, line[: -len(_END)])
                    done.set()
                else:
                    _write(target, line)
    finally:
        done.set()
        os.close(target)


def _write(target: int, line: bytes) -> None:
    if line and not NOISE.search(line):
        os.write(target, line)
