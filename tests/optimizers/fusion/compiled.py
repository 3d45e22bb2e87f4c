"""Models through torch.compile beside eager copies of themselves, with kernels that NumPy interprets."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from optimizers.fusion.backend import HotbenchBackend
from optimizers.fusion.program import Program

Loss = Callable[[Any], torch.Tensor]


@dataclass
class Counted:
    """Every program that was built while a test ran."""

    programs: list[Program]

    @property
    def kernel_calls(self) -> int:
        return sum(program.kernel_calls for program in self.programs)


def squares(output: Any) -> torch.Tensor:
    """A loss that weighs every element of every floating output differently."""
    total = torch.zeros(())
    for leaf in pytree.tree_leaves(output):
        if isinstance(leaf, torch.Tensor) and leaf.is_floating_point():
            weights = torch.linspace(0.5, 1.5, leaf.numel(), dtype=leaf.dtype).view(leaf.shape)
            total = total + (leaf * leaf * weights).sum() + leaf.sum()
    return total


def compiled(model: Callable[..., Any], backend: HotbenchBackend, **options: Any) -> Callable[..., Any]:
    return torch.compile(model, backend=backend, options={"measure": False, **options})


def gradients(model: torch.nn.Module, args: tuple[Any, ...]) -> list[torch.Tensor]:
    found = [p.grad for p in model.parameters()] + [
        a.grad for a in args if isinstance(a, torch.Tensor) and a.requires_grad
    ]
    return [gradient for gradient in found if gradient is not None]


def _run(call: Callable[..., Any], model: torch.nn.Module, args: tuple[Any, ...], loss: Loss) -> list[torch.Tensor]:
    """One forward and backward; the loss, the outputs and all gradients."""
    model.zero_grad()
    for arg in args:
        if isinstance(arg, torch.Tensor):
            arg.grad = None
    torch.manual_seed(7)
    output = call(*args)
    value = loss(output)
    value.backward()
    leaves = [leaf.detach() for leaf in pytree.tree_leaves(output) if isinstance(leaf, torch.Tensor)]
    return [value.detach(), *leaves, *gradients(model, args)]


def _double(arg: Any) -> Any:
    if isinstance(arg, torch.Tensor) and arg.is_floating_point():
        return arg.detach().double().requires_grad_(arg.requires_grad)
    return arg


def assert_trains(
    model: torch.nn.Module,
    *args: Any,
    backend: HotbenchBackend,
    steps: int = 3,
    loss: Loss = squares,
    against_float64: bool = True,
    make: Callable[[torch.nn.Module], torch.optim.Optimizer] | None = None,
    inputs: Callable[[int], tuple[Any, ...]] | None = None,
    **options: Any,
) -> None:
    """Fail unless `steps` optimizer steps are eager's: outputs, gradients, parameters, buffers.

    Errors are held against a float64 model: not more than twice eager's own, and a rounding.
    """
    eager, exact = copy.deepcopy(model), copy.deepcopy(model).double()
    call = compiled(model, backend, **options)
    make = make or (lambda m: torch.optim.SGD(m.parameters(), lr=0.01))
    parameters = list(model.parameters())
    optimizers = [make(m) for m in (model, eager, exact)] if parameters else []
    for step in range(steps):
        batch = inputs(step) if inputs is not None else args
        wide = tuple(_double(arg) for arg in batch)
        ours = _run(call, model, batch, loss)
        theirs = _run(eager, eager, batch, loss)
        reference = _run(exact, exact, wide, loss) if against_float64 else theirs
        _compare(ours, theirs, reference)
        for optimizer in optimizers:
            optimizer.step()
    state: Mapping[str, torch.Tensor] = eager.state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=1e-4, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


def _compare(ours: list[torch.Tensor], theirs: list[torch.Tensor], reference: list[torch.Tensor]) -> None:
    assert len(ours) == len(theirs) == len(reference)
    scale = max(float(t.double().abs().max()) for t in reference if t.numel())
    for position, (a, b, c) in enumerate(zip(ours, theirs, reference, strict=True)):
        assert a.shape == b.shape and a.dtype == b.dtype, (position, a.shape, b.shape)
        if not a.is_floating_point():
            assert torch.equal(a, b), position
            continue
        if not a.numel():
            continue
        largest = float(c.double().abs().max())
        error, eagers = (float((t.double() - c.double()).abs().max()) for t in (a, b))
        allowed = 2 * eagers + 2e-6 * largest + 2e-7 * scale
        assert error <= allowed, f"result {position}: error {error:.2e}, eager's {eagers:.2e}, largest {largest:.2e}"
