"""Runs a program on a CUDA device: recorded once into a CUDA graph on memory of its own, then replayed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch

from optimizers.fusion.cuda_kernels import CudaKernel
from optimizers.fusion.cuda_together import LaunchQueue, Together
from optimizers.fusion.memory import ALIGNMENT
from optimizers.fusion.program import Program
from optimizers.fusion.runtime import load_source

Flat = tuple[Any, ...]
Replay = Callable[[], object]


class Recorder(Protocol):
    """Records what a function queues on the device."""

    def record(self, function: Callable[[], Flat]) -> tuple[Flat, Replay]:
        """Return what the function returned, and what does its work again into the same tensors."""


class GraphRecorder:
    """Records into a CUDA graph."""

    def record(self, function: Callable[[], Flat]) -> tuple[Flat, Replay]:
        """Return the function's tensors, which every replay fills anew, and the replay.

        What a graph cannot hold, such as an op that waits for the device, raises torch's RuntimeError.
        """
        # The libraries' handles and workspaces must be there before: a capture may not make them.
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            function()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = function()
        return result, graph.replay


class CudaRunner:
    """One program with its memory on one device. Calls from several threads run one after the other.

    Inputs are copied into tensors of its own, since a graph's addresses are fixed; outputs are copied for the caller.
    together: given, small kernels that do not depend on each other are launched as one.
    """

    def __init__(
        self,
        program: Program,
        kernels: Mapping[str, CudaKernel],
        recorder: Recorder | None = None,
        together: Together | None = None,
    ) -> None:
        self.program = program
        self.kernels = kernels
        self.together = together
        self._recorder = recorder or GraphRecorder()
        self._bind = load_source(program.source, program.digest())
        self._lock = threading.Lock()
        self._weights: tuple[torch.Tensor, ...] = ()
        self._addresses: list[int] | None = None
        self._inputs: list[torch.Tensor] = []
        self._outputs: Flat = ()
        self._replay: Replay = tuple
        self._kept: tuple[Any, ...] = ()

    def __call__(self, weights: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor]) -> Flat:
        """Return the flat outputs. weights and inputs must be what the program was made for; the caller checks."""
        with self._lock, torch.no_grad():
            addresses = [weight.data_ptr() for weight in weights]
            if addresses != self._addresses:
                self._record(tuple(weights), inputs)
                self._addresses = addresses
            self._take(inputs)
            self._replay()
            return self._handed_out(inputs)

    def again(self) -> CudaRunner:
        """Return a runner of the same program with memory and a graph of its own."""
        return CudaRunner(self.program, self.kernels, self._recorder, self.together)

    def _record(self, weights: tuple[torch.Tensor, ...], inputs: Sequence[torch.Tensor]) -> None:
        device = (*weights, *inputs)[0].device
        # Made outside inference mode, or writing into them later would be refused.
        with torch.inference_mode(False), torch.no_grad(), torch.device(device):
            spare = torch.empty(self.program.arena_bytes + ALIGNMENT, dtype=torch.uint8)
            arena = spare[-spare.data_ptr() % ALIGNMENT :]
            constants = tuple(constant.to(device) for constant in self.program.lowered.constants)
            launches = {name: kernel.bound(device) for name, kernel in self.kernels.items()}
            self._inputs = [_like(given) for given in inputs]
            self._take(inputs)
            held: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
            if self.together is not None:
                kept = (arena, *weights, *constants, *self._inputs)
                queue = LaunchQueue(self.together, self.kernels, launches, device, kept)
                launches, held = queue.launches, queue.held
            run = self._bind(arena, weights, constants, launches)

            def step() -> Flat:
                with held():
                    result: Flat = run(*self._inputs)
                return result

            self._outputs, self._replay = self._recorder.record(step)
        # Held on to: the graph writes to their addresses.
        self._weights, self._kept = weights, (arena, constants, launches, run)

    def _take(self, inputs: Sequence[torch.Tensor]) -> None:
        for own, given in zip(self._inputs, inputs, strict=True):
            # Elements of an expanded tensor share memory: such are copied as they lie.
            span = _span(given)
            if span > 4 * given.numel():
                own.copy_(given)
            elif span:
                own.as_strided((span,), (1,)).copy_(given.as_strided((span,), (1,)))

    def _handed_out(self, inputs: Sequence[torch.Tensor]) -> Flat:
        """Return the outputs for the caller: what aliases an input or a weight does so still, the rest is copied."""
        aliased = {_storage(own): (own, given) for own, given in zip(self._inputs, inputs, strict=True)}
        aliased |= {_storage(weight): (weight, weight) for weight in self._weights}
        copies: dict[int, torch.Tensor] = {}

        def handed(value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            storage = _storage(value)
            if storage in aliased and value.numel():
                own, given = aliased[storage]
                offset = value.storage_offset() - own.storage_offset() + given.storage_offset()
                return given.as_strided(value.shape, value.stride(), offset)
            if storage not in copies:
                copies[storage] = _whole(value).clone()
            return copies[storage].as_strided(value.shape, value.stride(), value.storage_offset())

        return tuple(handed(value) for value in self._outputs)


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return all of a tensor's storage as its elements, in a row."""
    elements = tensor.untyped_storage().nbytes() // tensor.element_size()
    return tensor.as_strided((elements,), (1,), 0)


def _span(tensor: torch.Tensor) -> int:
    """Return the elements from a tensor's first to its last in memory; 0 of an empty one."""
    if not tensor.numel():
        return 0
    return 1 + sum((extent - 1) * stride for extent, stride in zip(tensor.shape, tensor.stride(), strict=True))


def _like(given: torch.Tensor) -> torch.Tensor:
    """Return memory with the strides of an input, elements that share memory there sharing it here."""
    flat = torch.empty(_span(given), dtype=given.dtype, device=given.device)
    return flat.as_strided(given.shape, given.stride())
