"""Fixtures that several parts share: the examples, and runs captured of them once a session."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from analyzer.capture import capture
from analyzer.run import Run
from analyzer.workload import load_workload
from kernels.compiler.cache import default_folder

EXAMPLES = Path(__file__).parent.parent / "examples"
WORKLOADS = (
    "lstm.py:workload",
    "lstm.py:training",
    "gru_variant.py:workload",
    "transformer.py:encoder",
    "transformer.py:training",
    "cnn.py:workload",
    "minilm.py:workload",
)


def pytest_configure() -> None:
    """Keep kernels, and what applying took, apart from the user's: a run of the tests must not move their forecasts."""
    os.environ.setdefault("HOTBENCH_CACHE", str(default_folder().with_name("kernels-of-tests")))
    # A shell's background job is started with Ctrl-C ignored, and every command the tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Leave what collecting made out of every later garbage collection: with thousands of tests each takes seconds."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def example_path() -> Callable[[str], str]:
    """Return a function from "lstm.py:workload" to the name with the example's absolute path."""
    return lambda name: str(EXAMPLES / name)


@cache
def _captured(name: str) -> Run:
    workload, reference = load_workload(str(EXAMPLES / name))
    return capture(workload, reference, steps=2, threads=1)


@pytest.fixture(scope="session")
def captured() -> Callable[[str], Run]:
    """Return a function from "lstm.py:workload" to a run of it: two steps on one thread, captured once."""
    return _captured
