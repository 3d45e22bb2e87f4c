"""Part: a kernel family's test cases on the device, against the float64 reference. It needs no pytest."""

from __future__ import annotations

import functools
import importlib

from benchmarks.gpu.findings import Found, Skip
from benchmarks.gpu.part import Task
from tests.cuda.case import Case
from tests.cuda.device import check_on_device, missing


def tasks(family: str) -> list[Task]:
    """Return a task for each form of each case in tests/cuda/FAMILY_cases.py."""
    cases: tuple[Case, ...] = importlib.import_module(f"tests.cuda.{family}_cases").CASES
    return [
        Task(f"{case.name}/{form}", functools.partial(run_case, case, form)) for case in cases for form in case.bounds
    ]


def run_case(case: Case, form: str) -> Found:
    """Return what was compared. Raises AssertionError, naming the first wrong element, where the device is wrong."""
    if why := missing():
        raise Skip(why)
    check_on_device(case, form)
    sizes = f"{case.sizes[-2]}, {case.sizes[-1]} and {case.device_size}"
    return Found(f"sizes {sizes}: within {case.tolerance:g} of float64, nothing written outside of the buffers")
