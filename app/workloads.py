"""The workloads that folders offer, found without importing anybody's code; and where a run can be worked on again.

A folder's file is read as text: only a worker's or a job's own process ever runs it. Standard library alone.
"""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyzer.errors import WorkloadError

if TYPE_CHECKING:
    from analyzer.run import Run
    from app.store import Entry
    from app.store.workers import Worker
    from app.web.context import ServerSettings

LOCAL = "local"
MAX_FILE_BYTES = 1 << 20
MAX_FILES = 2000
_MAX_DEPTH = 8
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})


@dataclass(frozen=True, slots=True)
class WorkloadFile:
    """One function that a folder offers, or one file that cannot be read (`problem` says why).

    name:        "sub/file.py:function", relative to the folder; without ":function" where there is a problem.
    source_hash: SHA-256 of the file's bytes.
    about:       first line of the function's docstring.
    """

    name: str
    source_hash: str
    about: str = ""
    problem: str = ""

    @property
    def function(self) -> str:
        """Return the function's name; "" where there is a problem."""
        return self.name.rpartition(":")[2] if ":" in self.name else ""

    def as_dict(self) -> dict[str, str]:
        """Return the fields as plain JSON values."""
        return asdict(self)


def find_workloads(folder: Path) -> tuple[WorkloadFile, ...]:
    """Return what `folder` offers, sorted by name: functions annotated `-> Workload` or that return `Workload(…)`.

    Hidden folders, links that lead out and files over 1 MiB are left out; a file that is no Python is told of.
    """
    found: list[WorkloadFile] = []
    root = folder.resolve()
    for path in _python_files(root):
        try:
            state = path.stat()
        except OSError:
            continue
        found += _offered(path, path.relative_to(root).as_posix(), (state.st_mtime_ns, state.st_size))
    return tuple(sorted(found, key=lambda item: item.name))


def check_allowed(name: str, folders: Iterable[Path]) -> str:
    """Return the absolute `file.py:function` that `name` (absolute, or relative to one of `folders`) means.

    Raises WorkloadError where it lies in none of the folders, links followed, or is no file there.
    """
    text, separator, function = name.rpartition(":")
    if not separator or not text or not function.isidentifier() or "\0" in text:
        raise WorkloadError(f"{name!r} names no workload; write path/to/file.py:function")
    roots = [folder.resolve() for folder in folders]
    if not roots:
        raise WorkloadError(f"{name!r} may not be run: no folder of workloads was named at the start (--workloads DIR)")
    for root in roots:
        path = (root / text).resolve()
        if path.is_relative_to(root) and path.is_file() and path.suffix == ".py":
            return f"{path}:{function}"
    known = ", ".join(str(root) for root in roots)
    raise WorkloadError(f"{name!r} is no file in the folders of workloads ({known}); choose one that is listed")


def find_source(source_hash: str, function: str, folders: Iterable[Path]) -> str | None:
    """Return the absolute `file.py:function` of the file with that hash in one of `folders`; None without one."""
    for folder in folders:
        root = folder.resolve()
        for path in _python_files(root):
            if _read(path) is not None and _hash(path) == source_hash:
                return f"{path}:{function}"
    return None


def offers(workloads: Iterable[Mapping[str, Any]], wanted: Mapping[str, Any]) -> bool:
    """Return whether one of `workloads` (WorkloadFile as plain values) is the `wanted` {"name", "source_hash"}.

    The file may lie elsewhere: its content and the function count.
    """
    function = str(wanted.get("name", "")).rpartition(":")[2]
    return any(
        item.get("source_hash") == wanted.get("source_hash")
        and str(item.get("name", "")).rpartition(":")[2] == function
        for item in workloads
    )


def needs_of(run_entry: Entry, run: Run, settings: ServerSettings, workers: Sequence[Worker] = ()) -> dict[str, Any]:
    """Return the `needs` of a job that works on this run again: optimize, compare, or export of what came of it.

    A run of the server's own machine: {"place": "local"}. One that a worker captured goes to a worker that has the
    file as it was and the same kind of device: {"workload": {"name", "source_hash"}, "device"}.
    Raises WorkloadError where `workers` (app.store.workers) are given and none of them could ever do it.
    """
    if is_local(run_entry):
        return {"place": LOCAL}
    wanted = {"name": run.workload.name, "source_hash": run.workload.source_hash}
    needs = {"workload": wanted, "device": run.device.kind}
    if not workers or any(can_do(worker.about, worker.id, needs) for worker in workers if worker.revoked is None):
        return needs
    here = find_source(run.workload.source_hash, run.workload.function, settings.workloads)
    remedy = f"profile {here} here" if here is not None else "profile it anew"
    raise WorkloadError(
        f"no worker offers {run.workload.name} as it was when {run.id} was captured on {place_name(run_entry)}; "
        f"start a worker there again with --workloads, or {remedy}"
    )


def is_local(entry: Entry) -> bool:
    """Return whether the value was made on the server's own machine, and so names files of it."""
    return bool(entry.summary.get("place", LOCAL) == LOCAL)


def place_name(entry: Entry) -> str:
    """Return the name of the worker that the value came from; "this machine" for one that was made here."""
    return "this machine" if is_local(entry) else str(entry.summary.get("place_name", entry.summary["place"]))


def check_local(entry: Entry) -> None:
    """Raise WorkloadError for a value from a worker: its files and its code are of another machine, never run here."""
    if not is_local(entry):
        raise WorkloadError(
            f"{entry.id} comes from worker {place_name(entry)!r}, whose files are not here; use the page, which gives "
            "the work back to a worker, or profile the workload on this machine"
        )


def can_do(about: Mapping[str, Any], worker: str, needs: Mapping[str, Any]) -> bool:
    """Return whether a worker that tells `about` itself ({"workloads", "devices"}) can do a job with these needs."""
    place = needs.get("place")
    if place is not None and place != worker:
        return False
    device = needs.get("device")
    if device is not None and device not in about.get("devices", ()):
        return False
    wanted = needs.get("workload")
    if isinstance(wanted, Mapping):
        return offers(about.get("workloads", ()), wanted)
    return place is not None


def _python_files(root: Path) -> Iterator[Path]:
    """Yield the readable .py files below `root` in a fixed order, at most MAX_FILES."""
    count = 0
    for place, folders, names in os.walk(root):
        here = Path(place)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _SKIPPED)
        if len(here.relative_to(root).parts) >= _MAX_DEPTH:
            folders[:] = []
        for name in sorted(names):
            path = here / name
            if name.startswith(".") or path.suffix != ".py" or not path.resolve().is_relative_to(root):
                continue
            count += 1
            if count > MAX_FILES:
                return
            yield path


@lru_cache(maxsize=2 * MAX_FILES)
def _offered(path: Path, name: str, _stamp: tuple[int, int]) -> tuple[WorkloadFile, ...]:
    """Return what one file offers; a worker asks again and again, so that an unchanged file is not read anew."""
    source = _read(path)
    if source is None:
        return ()
    digest = hashlib.sha256(source).hexdigest()
    try:
        tree = ast.parse(source, filename=name)
    except (SyntaxError, ValueError, RecursionError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        return (WorkloadFile(name, digest, problem=f"no Python that can be read: {_words(error)}{line}"),)
    return tuple(
        WorkloadFile(f"{name}:{node.name}", digest, _first_line(node))
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and _is_workload(node)
    )


def _is_workload(function: ast.FunctionDef) -> bool:
    """Return whether it can be called without arguments and gives a Workload."""
    arguments = function.args
    required = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
    if required > 0 or any(default is None for default in arguments.kw_defaults):
        return False
    if function.returns is not None:
        return _last_name(function.returns) == "Workload"
    return any(
        isinstance(node, ast.Return) and isinstance(node.value, ast.Call) and _last_name(node.value.func) == "Workload"
        for node in ast.walk(function)
    )


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value.strip().rpartition(".")[2]
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _first_line(function: ast.FunctionDef) -> str:
    return (ast.get_docstring(function) or "").strip().partition("\n")[0][:200]


def _words(error: Exception) -> str:
    return error.msg if isinstance(error, SyntaxError) else str(error)


def _read(path: Path) -> bytes | None:
    """Return a file's bytes; None for one that is too big or may not be read."""
    try:
        return path.read_bytes() if path.stat().st_size <= MAX_FILE_BYTES else None
    except OSError:
        return None


def _hash(path: Path) -> str:
    return hashlib.sha256(_read(path) or b"").hexdigest()
