"""The artifact of a fitted training step: the plan, and the engine as a package that needs torch alone."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import torch

from analyzer.errors import RecordError
from analyzer.reference import WorkloadReference
from analyzer.workload import Stepper, Workload, rebuild_workload, seed_everything

PACKAGE = "hotbench_swap"
PLAN_FILE = "swap_plan.json"
ROOT = "optimizers.swap.plan_file"
CHECKED_STEPS = 3
_IMPORT = re.compile(r"^from ((?:analyzer|optimizers)[\w.]*) import", re.MULTILINE)
_LOADER = '''"""Applies the swap plan of this folder to the model that it was made for; needs torch alone.

    import runpy
    runpy.run_path("DIR/load.py")["apply"](model, optimizer)
"""

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def apply(model, optimizer=None, folder=None):
    """Return the engine that carries the plan out in each training step; its `close` undoes it.

    Raises hotbench_swap.errors.SwapError, in one line, when the model is not the one that was planned for.
    folder: where to swap to; by default a temporary folder on a disk.
    """
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))
    from hotbench_swap.plan_file import apply_plan

    return apply_plan(FOLDER / "swap_plan.json", model, optimizer, folder)
'''


def artifact_files(plan: bytes) -> dict[str, bytes]:
    """Return the artifact's files by name: the plan, the loader, and the engine's modules, imports rewritten."""
    files = {PLAN_FILE: plan, "load.py": _LOADER.encode(), f"{PACKAGE}/__init__.py": b""}
    waiting, done = [ROOT], set[str]()
    while waiting:
        name = waiting.pop()
        if name in done:
            continue
        done.add(name)
        source = _source(name)
        files[f"{PACKAGE}/{_flat(name)}.py"] = _IMPORT.sub(_rewritten, source).encode()
        waiting += _IMPORT.findall(source)
    return files


def _source(name: str) -> str:
    module = sys.modules.get(name) or importlib.import_module(name)
    if module.__file__ is None:
        raise RecordError(f"the source of {name} is not there; install Hotbench from its sources to export")
    return Path(module.__file__).read_text(encoding="utf-8")


def _flat(name: str) -> str:
    """Return the module's name in the package: both kinds of errors have a module of their own."""
    return "base_errors" if name == "analyzer.errors" else name.rpartition(".")[2]


def _rewritten(found: re.Match[str]) -> str:
    return f"from {PACKAGE}.{_flat(found[1])} import"


def check_files(folder: Path, reference: WorkloadReference) -> float:
    """Return max|a-b| of the parameters after a few steps with the artifact in `folder`, and without it.

    Raises RecordError where the artifact's own code does not run.
    """
    plain = _parameters(rebuild_workload(reference))
    workload = rebuild_workload(reference)
    loader: dict[str, object] = {}
    try:
        code = compile((folder / "load.py").read_text(encoding="utf-8"), str(folder / "load.py"), "exec")
        loader["__file__"] = str(folder / "load.py")
        exec(code, loader)
        engine = loader["apply"](workload.model, workload.optimizer)  # type: ignore[operator]
        try:
            swapped = _parameters(workload)
        finally:
            engine.close()
    except (ImportError, AttributeError, KeyError) as error:
        raise RecordError(f"the artifact's code does not run ({error}); export it again") from error
    finally:
        _forget(folder)
    return max((float((left - right).abs().max()) for left, right in zip(plain, swapped, strict=True) if left.numel()),
               default=0.0)  # fmt: skip


def _parameters(workload: Workload) -> list[torch.Tensor]:
    seed_everything(0)
    stepper = Stepper(workload)
    for seed in range(CHECKED_STEPS):
        stepper.redraw(seed)
        stepper.step()
    return [parameter.detach().clone() for parameter in workload.model.parameters()]


def _forget(folder: Path) -> None:
    """Take the artifact's package out of this process: another folder's must not be taken for it."""
    if str(folder) in sys.path:
        sys.path.remove(str(folder))
    ours: Mapping[str, ModuleType] = {
        name: module for name, module in sys.modules.items() if name.split(".")[0] == PACKAGE
    }
    for name in list(ours):
        del sys.modules[name]
