"""Runs a program: loads its source, owns the arena, binds addresses, and binds them again when a weight moves."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from analyzer.errors import HotbenchError
from kernels.compiler import beside
from kernels.compiler.cache import default_folder
from kernels.compiler.ir import IrError
from kernels.compiler.loaded import LoadedKernel
from optimizers.fusion.capture import UnfusableError
from optimizers.fusion.coschedule_run import Joiner
from optimizers.fusion.memory import ALIGNMENT
from optimizers.fusion.program import Program
from optimizers.fusion.stored import StoredProgram

KernelCall = Callable[..., None]
Run = Callable[..., tuple[Any, ...]]
_ADDRESS = torch.Tensor.data_ptr
_threads = torch.get_num_threads


def compile_kernels(program: Program) -> dict[str, LoadedKernel]:
    """Return each distinct kernel of a program by its name in the program's source.

    Raises UnfusableError for a region that the compiler refuses, HotbenchError where its cache can't be written.
    """
    threads = torch.get_num_threads()
    try:
        return dict(beside.compile_kernels(program.kernels, threads=threads))
    except IrError as error:
        raise UnfusableError(f"the kernel compiler refuses a region: {error}") from error
    except OSError as error:
        why = f"cannot write compiled kernels to {default_folder()}: {error.strerror or error}"
        raise HotbenchError(f"{why}; set HOTBENCH_CACHE to a folder that can be written") from error


def kernel_call(kernel: LoadedKernel, threads: int) -> KernelCall:
    """Return the fastest way to call a kernel on `threads` threads: `call(*addresses)`."""
    if threads == 1 or not kernel.parallel:
        return kernel.entry

    def call(*addresses: int) -> None:
        kernel(*addresses, threads=threads)

    return call


def load_source(source: str, digest: str) -> Callable[..., Run]:
    """Return the `bind` of a program's source, which is kept as a file so that tracebacks and people can read it."""
    path = _source_file(source, digest)
    namespace: dict[str, Any] = {"__name__": f"hotbench_program_{digest}"}
    exec(compile(source, str(path), "exec"), namespace)
    bind: Callable[..., Run] = namespace["bind"]
    return bind


def _source_file(source: str, digest: str) -> Path:
    path = default_folder() / "programs" / f"{digest}.py"
    with contextlib.suppress(OSError):  # a read-only cache folder costs the readable file, nothing else
        if not path.is_file() or path.read_text() != source:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".partial")
            with os.fdopen(handle, "w") as stream:
                stream.write(source)
            Path(temporary).replace(path)
    return path


def _unbound(*_: torch.Tensor) -> tuple[Any, ...]:
    raise RuntimeError("the program is not bound yet")


class Runner:
    """One program with its memory. Calls from several threads run one after the other: they share the arena."""

    def __init__(
        self,
        program: Program | StoredProgram,
        kernels: Mapping[str, LoadedKernel],
        wrap: Callable[[str, KernelCall], KernelCall] | None = None,
    ) -> None:
        self.program = program
        self.kernels = kernels
        self._wrap = wrap
        self._bind = load_source(program.source, program.digest())
        self._lock = threading.Lock()
        self._run: Run = _unbound
        self._threads = 0
        self._weights: tuple[torch.Tensor, ...] = ()
        self._addresses: list[int] = []
        # Made outside inference mode, or writing into it later would be refused.
        with torch.inference_mode(False):
            spare = torch.empty(program.arena_bytes + ALIGNMENT, dtype=torch.uint8)
        self._arena = spare[-spare.data_ptr() % ALIGNMENT :]

    def __call__(self, weights: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor]) -> tuple[Any, ...]:
        """Return the flat outputs. weights and inputs must be what the program was made for; the caller checks."""
        with self._lock:
            addresses = list(map(_ADDRESS, weights))
            if addresses != self._addresses or _threads() != self._threads:
                self._rebind(tuple(weights), addresses, _threads())
            return self._run(*inputs)

    def binding(self) -> tuple[Run, list[int], int, threading.Lock]:
        """Return the program as it is bound now, for weights at which addresses and on how many threads, and its lock.

        A binding stays right when the weights are bound at other addresses. The lock guards the arena.
        """
        with self._lock:
            return self._run, self._addresses, self._threads, self._lock

    def again(self) -> Runner:
        """Return a runner of the same program with memory of its own."""
        return Runner(self.program, self.kernels)

    def _rebind(self, weights: tuple[torch.Tensor, ...], addresses: list[int], threads: int) -> None:
        calls: dict[str, Any] = {name: kernel_call(kernel, threads) for name, kernel in self.kernels.items()}
        if self._wrap is not None:
            calls = {name: self._wrap(name, call) for name, call in calls.items()}
        else:
            calls["together"] = Joiner(self.kernels, dict(calls), threads)
        # Views made in inference mode could not be written into outside it.
        with torch.inference_mode(False), torch.no_grad():
            self._run = self._bind(self._arena, weights, self.program.constants, calls)
        # The weights are held on to: their memory can't be freed and given to others at the same address.
        self._weights, self._addresses, self._threads = weights, addresses, threads
