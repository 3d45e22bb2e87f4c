"""The marks of a training step: each saved and each used activation, counted alike in traced and in swapped steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import record_function
from torch.utils._python_dispatch import TorchDispatchMode

from optimizers.swap.errors import SwapError

MARK = "hotbench::mark"
"""What a profiler sees at each mark while `annotating` is on."""


class Handler(Protocol):
    """What is done at the marks of a step. Marks are counted from 0, the forward's begin."""

    def begin(self) -> TorchDispatchMode | None:
        """Start a step; return the mode that watches the forward's ops, if any."""

    def pack(self, mark: int, position: int, tensor: torch.Tensor) -> Any:
        """Return what autograd keeps for the tensor that it saves as the forward's number `position`."""

    def forward_end(self, mark: int) -> None:
        """The forward is over; nothing more is packed."""

    def unpack(self, mark: int, kept: Any) -> torch.Tensor:
        """Return the tensor that `pack` was given."""

    def before_update(self, mark: int) -> None:
        """The optimizer is about to read its state."""

    def after_update(self, mark: int) -> None:
        """The optimizer is done."""

    def is_busy(self) -> bool:
        """Return whether tensors of an earlier forward are still saved: a second one now is no part of the step."""


class StepHooks:
    """Calls a handler at the marks of each step of a model; `detach` leaves the model as it was.

    Only forwards that record a graph count. A forward that begins before the last one's backward is done is left alone.
    Raises SwapError for a model that is compiled or runs in several processes.
    """

    def __init__(
        self, model: torch.nn.Module, handler: Handler, optimizer: torch.optim.Optimizer | None = None
    ) -> None:
        refuse_unsupported(model)
        if any(_is_live(getattr(hook, "__self__", None)) for hook in model._forward_pre_hooks.values()):
            raise SwapError("the model carries a swap plan already; close what fit or apply_plan returned first")
        self.handler = handler
        self.mark = self.position = 0
        self.annotating = self.inert = False
        self._saving: saved_tensors_hooks | None = None
        self._mode: TorchDispatchMode | None = None
        handles: list[Any] = [
            model.register_forward_pre_hook(self._begin, prepend=True),
            model.register_forward_hook(self._end, always_call=True),
        ]
        if optimizer is not None:
            handles.append(optimizer.register_step_pre_hook(self._before_update))
            handles.append(optimizer.register_step_post_hook(self._after_update))
        self._removals: list[Callable[[], None]] = [handle.remove for handle in handles]

    def __reduce__(self) -> tuple[Callable[[], object], tuple[()]]:
        """Copies of the model, and files of it, carry hooks that do nothing: the engine stays with this one."""
        return _inert_hooks, ()

    def detach(self) -> None:
        """Take all hooks off."""
        self._leave_forward()
        for remove in self._removals:
            remove()
        self._removals.clear()

    def _begin(self, model: torch.nn.Module, args: Any) -> None:
        if self.inert:
            return
        refuse_unsupported(model)
        # A forward that raised inside of another hook may have left its hooks on.
        self._leave_forward()
        if not torch.is_grad_enabled() or self.handler.is_busy():
            return
        self.mark, self.position = 0, 0
        self._annotate()
        self._mode = self.handler.begin()
        self._saving = saved_tensors_hooks(self._pack, self._unpack)
        self._saving.__enter__()
        if self._mode is not None:
            self._mode.__enter__()  # type: ignore[no-untyped-call]

    def _end(self, model: torch.nn.Module, args: Any, output: Any) -> None:
        if self._saving is not None:
            self._leave_forward()
            self.handler.forward_end(self._next_mark())

    def _leave_forward(self) -> None:
        mode, saving = self._mode, self._saving
        self._mode = self._saving = None
        if mode is not None:
            mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        if saving is not None:
            saving.__exit__(None, None, None)

    def _next_mark(self) -> int:
        self.mark += 1
        self._annotate()
        return self.mark

    def _annotate(self) -> None:
        if self.annotating:
            with record_function(MARK):
                pass

    def _pack(self, tensor: torch.Tensor) -> Any:
        position = self.position
        self.position += 1
        # What is done here is no op of the forward.
        with torch._C._DisableTorchDispatch():
            return self.handler.pack(self._next_mark(), position, tensor)

    def _unpack(self, kept: Any) -> torch.Tensor:
        return self.handler.unpack(self._next_mark(), kept)

    def _before_update(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        self.handler.before_update(self._next_mark())

    def _after_update(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        self.handler.after_update(self._next_mark())


def _inert_hooks() -> StepHooks:
    """Return what a copy of a hooked model has: hooks that leave each of its forwards alone."""
    hooks = StepHooks.__new__(StepHooks)
    hooks.inert = True
    hooks._saving = hooks._mode = None
    return hooks


def _is_live(owner: object) -> bool:
    return isinstance(owner, StepHooks) and not owner.inert


def refuse_unsupported(model: torch.nn.Module) -> None:
    """Raise SwapError, in words, for a model that is compiled, parallel or not on the CPU."""
    elsewhere = next((str(tensor.device) for tensor in model.parameters() if tensor.device.type != "cpu"), "")
    if elsewhere:
        raise SwapError(f"the model is on {elsewhere}; this version swaps on the CPU only")
    if torch.compiler.is_compiling() or any(_is_compiled(module) for module in model.modules()):
        raise SwapError("the model runs under torch.compile, which swap does not reach into; give the eager model")
    parallel = (torch.nn.parallel.DistributedDataParallel, torch.nn.DataParallel)
    if any(isinstance(module, parallel) or "FullyShardedDataParallel" in type(module).__name__
           for module in model.modules()):  # fmt: skip
        raise SwapError("the model is wrapped for several processes, which swap does not do yet; give the plain model")
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if distributed and torch.distributed.get_world_size() > 1:
        raise SwapError("the step runs in several processes, which swap does not do yet; run it in one")


def _is_compiled(module: torch.nn.Module) -> bool:
    return type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None
