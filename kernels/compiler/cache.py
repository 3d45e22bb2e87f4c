"""The folder of compiled kernels: one sub-folder an entry, written whole or not at all, checked on every read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
from numba.core import config

_settings: Any = config
_MANIFEST = "manifest.json"
_MODULES = (
    "ir", "passes", "levels", "nest", "signs", "source", "expression", "accumulate",
    "print_points", "print_rows", "print_columns", "print_numba", "prelude", "intrinsics", "verify", "footprint",
)  # fmt: skip


def default_folder() -> Path:
    """Return HOTBENCH_CACHE, or the user's own cache folder for kernels."""
    if configured := os.environ.get("HOTBENCH_CACHE"):
        return Path(configured)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hotbench" / "kernels"


def entry_key(kind: str, what: str, sources: tuple[str, ...] = ()) -> str:
    """Return a hash of all that a compiled kernel depends on: itself, versions, processor, printer and prelude.

    what: the key of what it computes, or its text; sources: modules that it is made of beside those of regions.
    """
    text = "\n".join((kind, what, *toolchain(), compiler_hash(sources)))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@cache
def toolchain() -> tuple[str, ...]:
    """Return the versions and the processor that machine code is good for."""
    python = f"{sys.implementation.cache_tag}-{sys.version_info.micro}"
    features = llvm.get_host_cpu_features().flatten()
    chosen = f"{_settings.CPU_NAME} {_settings.CPU_FEATURES}"
    return (python, numba.__version__, llvmlite.__version__, llvm.get_host_cpu_name(), features, chosen)


@cache
def compiler_hash(sources: tuple[str, ...] = ()) -> str:
    """Return a hash of the source that makes kernels: another printer or prelude makes other ones.

    sources: patterns of further modules of this package, or of others by their path from here.
    """
    here, digest = Path(__file__).parent, hashlib.sha256()
    patterns = (*(f"{module}.py" for module in _MODULES), *sources)
    for path in sorted({path for pattern in patterns for path in here.glob(pattern)}):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def is_whole(entry: Path) -> bool:
    """Return whether every file of an entry is there as it was written."""
    try:
        expected = json.loads((entry / _MANIFEST).read_text())
        return isinstance(expected, dict) and bool(expected) and expected == _hashes(entry)
    except (OSError, ValueError):
        return False


def new_folder(root: Path, key: str) -> Path:
    """Return a fresh folder beside the entries, in which one can be prepared."""
    root.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f".{key}-", dir=root))


def publish(prepared: Path, entry: Path) -> None:
    """Make the prepared folder the entry, in one step. If another process was first, its entry stays."""
    (prepared / _MANIFEST).write_text(json.dumps(_hashes(prepared), indent=1, sort_keys=True))
    for _ in range(2):
        try:
            prepared.rename(entry)
            return
        except OSError:
            if is_whole(entry):
                break
            discard(entry)
    shutil.rmtree(prepared, ignore_errors=True)


def discard(entry: Path) -> None:
    """Remove an entry; it is renamed first, so that nobody reads half of it."""
    if entry.exists():
        doomed = Path(tempfile.mkdtemp(prefix=".discarded-", dir=entry.parent))
        try:
            entry.rename(doomed / entry.name)
        except FileNotFoundError:
            pass  # another process discarded it first
        finally:
            shutil.rmtree(doomed, ignore_errors=True)


def _hashes(entry: Path) -> dict[str, str]:
    """Return the SHA-256 of each file but the manifest and Python's byte code, by its path in the entry."""
    files = [path for path in sorted(entry.rglob("*")) if path.is_file() and path.suffix != ".pyc"]
    return {
        str(path.relative_to(entry)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name != _MANIFEST
    }
