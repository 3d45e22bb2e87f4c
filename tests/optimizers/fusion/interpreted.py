"""Programs whose kernels the NumPy interpreter runs: they test lowering, grouping and memory without a compiler."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from kernels.compiler.kinds import kind_of
from kernels.compiler.loop_ir import LoopProgram
from kernels.compiler.loop_reference import evaluate_loop
from kernels.compiler.loop_verify import verify_loop
from optimizers.fusion.accuracy import difference
from optimizers.fusion.capture import capture
from optimizers.fusion.lower import lower
from optimizers.fusion.module import FusedModule
from optimizers.fusion.program import Program, build_program
from optimizers.fusion.runtime import Runner

ITEM = {"float32": np.float32, "float64": np.float64, "int32": np.int32, "int64": np.int64, "bool": np.bool_}


class InterpretedKernel:
    """Looks like a CompiledKernel; its entry evaluates the region on the memory at the addresses."""

    parallel = False

    def __init__(self, region: Any) -> None:
        kind_of(region).verify(region)
        self.region = region
        self.source = ""

    def entry(self, *addresses: int) -> None:
        arrays = []
        for buffer, address in zip(self.region.buffers, addresses, strict=True):
            dtype = np.dtype(ITEM[buffer.dtype])
            memory = (ctypes.c_char * (buffer.elements * dtype.itemsize)).from_address(address)
            arrays.append(np.frombuffer(memory, dtype=dtype))
        kind_of(self.region).evaluate(self.region, arrays, False)


class InterpretedLoop:
    """Looks like the CompiledKernel of a loop; its entry evaluates the loop program on the memory at the addresses."""

    parallel = False

    def __init__(self, program: LoopProgram) -> None:
        verify_loop(program)
        self.program = program
        self.source = ""

    def entry(self, *addresses: int) -> None:
        memories = [
            np.frombuffer((ctypes.c_char * buffer.nbytes).from_address(address), dtype=np.uint8)
            for buffer, address in zip(self.program.buffers, addresses, strict=True)
        ]
        evaluate_loop(self.program, memories)


def interpreted(program: Program) -> dict[str, Any]:
    kernels = {name: kernel for name, kernel in program.kernels.items() if not isinstance(kernel, LoopProgram)}
    regions: dict[str, Any] = {name: InterpretedKernel(kernel) for name, kernel in kernels.items()}
    return {**regions, **{loop.name: InterpretedLoop(loop.program) for loop in program.loops}}


class Function(torch.nn.Module):
    """A function as a module, with weights where it needs some."""

    def __init__(self, function: Callable[..., Any], **weights: torch.Tensor) -> None:
        super().__init__()
        self.function = function
        for name, weight in weights.items():
            self.register_parameter(name, torch.nn.Parameter(weight, requires_grad=False))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        weights = list(self._parameters.values())
        return self.function(*args, *weights, **kwargs)


def fused_module(
    model: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None, rolled: bool = False
) -> FusedModule:
    captured = capture(model, args, kwargs or {})
    program = build_program(lower(captured), "a test", rolled)
    return FusedModule(model, captured, Runner(program, interpreted(program)))


def assert_same(result: Any, reference: Any, max_error: float | None = None) -> None:
    flat, spec = pytree.tree_flatten(result)
    expected, expected_spec = pytree.tree_flatten(reference)
    assert spec == expected_spec
    found = difference(flat, expected, max_error)
    assert not found.reason, found.reason


def _steps(tensor: torch.Tensor) -> list[int]:
    """The strides that matter: those of axes with more than one element."""
    return [stride for stride, extent in zip(tensor.stride(), tensor.shape, strict=True) if extent > 1]


def assert_fuses(
    function: Callable[..., Any] | torch.nn.Module, *args: Any, kernels: int | None = None, strides: bool = True
) -> FusedModule:
    """Fail unless the program of `function` gives eager's results, shapes, dtypes and strides on `args`."""
    model = function if isinstance(function, torch.nn.Module) else Function(function)
    with torch.no_grad():
        fused = fused_module(model, args)
        result, reference = fused(*args), model(*args)
    assert not fused.fallbacks, fused.fallbacks
    assert_same(result, reference)
    for ours, theirs in zip(pytree.tree_leaves(result), pytree.tree_leaves(reference), strict=True):
        if strides and isinstance(theirs, torch.Tensor):
            assert _steps(ours) == _steps(theirs), (ours.stride(), theirs.stride())
    if kernels is not None:
        assert fused.runner.program.kernel_calls == kernels, fused.runner.program.source
    return fused
