"""The program of a captured graph for a CUDA device: regions, loops as persistent kernels, the library for the rest."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from optimizers.fusion.capture import Captured, UnfusableError
from optimizers.fusion.cuda_kernels import CudaKernel, cuda_kernels
from optimizers.fusion.cuda_wavefront import merge_loops
from optimizers.fusion.lower import lower
from optimizers.fusion.program import Program, build_program
from optimizers.fusion.reroll import reroll

_LIBRARYS = ("bmm", "baddbmm", "convolution", "embedding", "_scaled_dot_product")
"""What the CPU has kernels of its own for; on a GPU the library computes it, by the beginning of its name."""


_LANES = 2
"""More than one: memory that is reused at once would keep independent kernels from running side by side."""
WAVEFRONT, LOOPS, STRAIGHT = "wavefront", "loops", "straight"
FORMS = (WAVEFRONT, LOOPS, STRAIGHT)
"""Loops that feed each other as one, each loop by itself, or every step's ops fused one by one."""


def cuda_program(
    captured: Captured, title: str, excluded: Collection[str] = (), forms: Sequence[str] = FORMS
) -> tuple[Program, dict[str, CudaKernel]]:
    """Return the program in the first of the forms that can be built, and its kernels, not compiled yet.

    Raises UnfusableError where nothing is left to fuse, and for a region that has no CUDA text.
    """
    _require_one_device(captured)
    names = frozenset(excluded) | library_nodes(captured)
    for form in forms[:-1]:
        try:
            return _built(captured, title, names, form)
        except UnfusableError:
            continue  # a loop that does not fit the persistent kernel: the next form has smaller ones, or none
    return _built(captured, title, names, forms[-1])


def _built(captured: Captured, title: str, names: frozenset[str], form: str) -> tuple[Program, dict[str, CudaKernel]]:
    lowered = lower(captured, names)
    if form != STRAIGHT:
        lowered = reroll(lowered)
    program = build_program(merge_loops(lowered) if form == WAVEFRONT else lowered, title, lanes=_LANES)
    kernels = cuda_kernels(program)
    if not kernels:
        raise UnfusableError("nothing to fuse: no op in it can be fused")
    return program, kernels


def _require_one_device(captured: Captured) -> None:
    # A kernel would take the address of memory that its device cannot reach.
    for node in captured.graph.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and value.device not in (captured.device, torch.device("meta")):
            raise UnfusableError(
                f"{node.name} is on {value.device}, the model on {captured.device}; keep all on one device"
            )


def library_nodes(captured: Captured) -> frozenset[str]:
    """Return the names that keep the kernels for the CPU out of a program: products, attention, convolutions."""
    names = {"@nchw"}
    for node in captured.graph.graph.nodes:
        if node.op == "call_function":
            names |= {f"{node.name}@product", f"{node.name}@attention"}
            base = str(node.target).removeprefix("aten.")
            if base.startswith(_LIBRARYS):
                names.add(node.name)
    return frozenset(names)
