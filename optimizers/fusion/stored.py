"""Programs that were chosen before, kept on disk by what they were made from; written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch

from kernels.compiler.cache import default_folder, discard, is_whole, new_folder, publish, toolchain
from kernels.compiler.loaded import LoadedKernel
from kernels.compiler.stored_kernel import entry_of, load_kernel

_FORMAT = 1
_DECISION, _PROGRAM = "decision.json", "program.py"
_CODE = ("kernels/compiler", "optimizers/fusion")
_OF_A_PROGRAM = frozenset(
    ("lowered", "units", "bounds", "places", "slots", "staged", "regions", "products", "of_kind", "loops", "kernels")
)


@dataclass(frozen=True)
class StoredProgram:
    """A program as it was stored: what runs it is here, what it was made of is found by building it again.

    source, arena_bytes, constants: as a Program has them. excluded, rolled: what building it again needs.
    """

    source: str
    arena_bytes: int
    constants: tuple[torch.Tensor, ...]
    kernel_calls: int
    library_calls: int
    excluded: tuple[str, ...]
    rolled: bool
    rebuild: Callable[[StoredProgram], Any]
    """Returns the Program of this source."""

    def digest(self) -> str:
        """Return a hash of the program and its kernels."""
        return hashlib.sha256(self.source.encode()).hexdigest()[:24]

    @cached_property
    def whole(self) -> Any:
        """Return the Program, built again."""
        return self.rebuild(self)

    def __getattr__(self, name: str) -> Any:
        """Return what only the whole Program knows."""
        if name in _OF_A_PROGRAM:
            return getattr(self.whole, name)
        raise AttributeError(f"a stored program has no {name!r}")


def key_of(*parts: str) -> str:
    """Return the key of what is made from `parts` by this version on this machine, with this many threads."""
    settings = (str(torch.get_num_threads()), str(torch.get_default_dtype()), torch.backends.cpu.get_cpu_capability())
    text = "\0".join((str(_FORMAT), torch.__version__, *toolchain(), _code_hash(), *settings, *parts))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@cache
def _code_hash() -> str:
    """Return a hash of the source that makes programs and kernels."""
    root, digest = Path(__file__).parents[2], hashlib.sha256()
    for folder in _CODE:
        for path in sorted((root / folder).glob("*.py")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def save(key: str, program: Any, kernels: Mapping[str, Any], excluded: tuple[str, ...], rolled: bool) -> bool:
    """Keep a Program under its key; return whether it could be kept."""
    paths = {name: getattr(kernel, "path", None) for name, kernel in kernels.items()}
    entries = {name: path and entry_of(path) for name, path in paths.items()}
    constants = [_described(tensor) for tensor in program.constants]
    if None in entries.values() or None in constants:
        return False
    decision = {
        "kernels": entries,
        "arena_bytes": program.arena_bytes,
        "constants": constants,
        "kernel_calls": program.kernel_calls,
        "library_calls": program.library_calls,
        "excluded": list(excluded),
        "rolled": rolled,
    }
    # A folder that cannot be written costs the next start some seconds, nothing else.
    with contextlib.suppress(OSError):
        prepared = new_folder(_folder(), key)
        try:
            (prepared / _DECISION).write_text(json.dumps(decision, indent=1))
            (prepared / _PROGRAM).write_text(program.source)
            publish(prepared, _folder() / key)
        finally:
            discard(prepared)
        return True
    return False


def find(key: str, rebuild: Callable[[StoredProgram], Any]) -> tuple[StoredProgram, dict[str, LoadedKernel]] | None:
    """Return the program under a key and its kernels; None where it is not there, or any part of it is not whole."""
    entry = _folder() / key
    if not is_whole(entry):
        return None
    try:
        found = _read(entry, rebuild)
    except Exception:
        # Whatever a malformed entry raises: it is a miss.
        found = None
    if found is None:
        forget(key)  # or it would stay in the place of a good one
    return found


def _read(entry: Path, rebuild: Callable[[StoredProgram], Any]) -> tuple[StoredProgram, dict[str, LoadedKernel]] | None:
    """Return an entry's program and kernels, None where a kernel is lost. Raises what a malformed entry leads to."""
    decision = json.loads((entry / _DECISION).read_text())
    kernels: dict[str, LoadedKernel] = {}
    for name, folder in decision["kernels"].items():
        kernel = load_kernel(str(folder))
        if kernel is None:
            return None
        kernels[str(name)] = kernel
    program = StoredProgram(
        (entry / _PROGRAM).read_text(),
        int(decision["arena_bytes"]),
        tuple(_tensor(constant) for constant in decision["constants"]),
        int(decision["kernel_calls"]),
        int(decision["library_calls"]),
        tuple(map(str, decision["excluded"])),
        bool(decision["rolled"]),
        rebuild,
    )
    return program, kernels


def forget(key: str) -> None:
    """Remove what is kept under a key."""
    with contextlib.suppress(OSError):
        discard(_folder() / key)


def _folder() -> Path:
    return default_folder() / "decided"


def _described(tensor: torch.Tensor) -> dict[str, Any] | None:
    """Return a constant as plain JSON, exact; None for one that has no such form."""
    if tensor.dtype.is_complex or not tensor.is_contiguous():
        return None
    dtype = str(tensor.dtype).removeprefix("torch.")
    return {"dtype": dtype, "shape": list(tensor.shape), "values": tensor.flatten().tolist()}


def _tensor(described: Mapping[str, Any]) -> torch.Tensor:
    dtype = getattr(torch, described["dtype"])
    return torch.tensor(described["values"], dtype=dtype).reshape(described["shape"])
