"""Part: whole models fused for the device, against eager, Inductor and cuDNN; float32, called as a user calls them.

Each call is launched from Python, one after the other: the bars for recurrent models are about that. Ours copies its
inputs in, replays its CUDA graph and copies its outputs out.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from benchmarks.fusion_recurrent import LibraryLSTM, UnrolledLSTM
from benchmarks.gpu import stopwatch
from benchmarks.gpu.contest import OURS, Contest, Rival, build_rivals, figures_of, require_device
from benchmarks.gpu.findings import Bar, Found
from benchmarks.gpu.part import Task
from benchmarks.gpu.rivals import inductor, keeping
from optimizers.fusion.capture import capture
from optimizers.fusion.cuda_build import FORMS, STRAIGHT, cuda_program
from optimizers.fusion.cuda_kernels import prepare
from optimizers.fusion.cuda_runner import CudaRunner
from optimizers.fusion.cuda_together import Together
from optimizers.fusion.module import FusedModule
from tests.optimizers.fusion.encoders import Encoder

EAGER, INDUCTOR, CUDNN, WITHOUT_LOOPS, ALONE = "eager", "inductor", "cudnn", "ours-without-loops", "ours-one-by-one"
ROUNDS = 11


@dataclass(frozen=True)
class Model:
    """A model and how it is made. library: the same model in torch's own recurrent kernels.

    branches: it has kernels that are independent of each other, which ours launches as one.
    """

    name: str
    build: Callable[[], torch.nn.Module]
    shape: tuple[int, ...]
    library: Callable[[torch.nn.Module], torch.nn.Module] | None = None
    bars: tuple[tuple[str, Bar], ...] = ()
    branches: bool = False


class Heads(torch.nn.Module):
    """Heads of different widths on the same rows, each small for a device: a product, then softmax or a norm."""

    def __init__(self, widths: Sequence[int] = (40, 96, 200, 384, 520, 768)) -> None:
        super().__init__()
        self.heads = torch.nn.ModuleList(torch.nn.Linear(256, width) for width in widths)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the heads' results for x [rows, 256], side by side."""
        found = [head(x) for head in self.heads]
        results = [
            torch.softmax(head, 1) if number % 2 else torch.nn.functional.layer_norm(head, head.shape[1:])
            for number, head in enumerate(found)
        ]
        return torch.cat(results, 1)


class Masked(torch.nn.Module):
    """An encoder layer of 384 columns and 12 heads, nothing masked."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder(384, 12)
        self.register_buffer("mask", torch.zeros(1, 1, 1, 128, dtype=torch.bool))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x [batch, 128, 384] through the layer."""
        result: torch.Tensor = self.encoder(x, self.mask)
        return result


MODELS = (
    Model(
        "rammer-lstm",
        lambda: UnrolledLSTM(10, 256, 256),
        (100, 1, 256),
        LibraryLSTM,  # type: ignore[arg-type]
        ((EAGER, Bar("ratio", at_least=34.0)), (CUDNN, Bar("ratio", at_least=2.0))),
    ),
    Model("lstm-t100-b1-h256", lambda: UnrolledLSTM(1, 256, 256), (100, 1, 256), LibraryLSTM),  # type: ignore[arg-type]
    Model("encoder", Masked, (8, 128, 384)),
    Model("heads", Heads, (32, 256), bars=((ALONE, Bar("ratio", at_least=1.0)),), branches=True),
)


def tasks(argument: str) -> list[Task]:
    """Return a task for each model."""
    return [Task(model.name, functools.partial(run, model)) for model in MODELS]


def run(model: Model) -> Found:
    """Return the figures of one model. Raises AssertionError where our result is wrong."""
    require_device()
    with torch.no_grad():
        case = contest(model, "cuda")
        ready, absent, seconds = build_rivals(case)
        samplers = {name: stopwatch.plain_sampler(rival.calls) for name, rival in ready.items()}
        samples = stopwatch.sample_in_turns(samplers, ROUNDS)
    figures = figures_of(case, samples, torch.cuda.get_device_name())
    without = "".join(f"; without {name}: {why}" for name, why in absent.items())
    facts = {"missing": absent, "build_seconds": seconds, "rounds": ROUNDS}
    return Found(f"right to {case.tolerance:g}; {len(figures)} figures{without}", tuple(figures), facts)


def contest(model: Model, device: str) -> Contest:
    """Return the contest of one model."""
    module = model.build().to(device).eval().requires_grad_(False)
    x = torch.randn(model.shape, device=device)
    joined = Together() if model.branches else None
    rivals: dict[str, Callable[[], Rival]] = {
        OURS: lambda: keeping(fused(module, x, together=joined), [(x,)]),
        ALONE if model.branches else WITHOUT_LOOPS: lambda: keeping(fused(module, x, (STRAIGHT,)), [(x,)]),
        EAGER: lambda: keeping(module, [(x,)]),
        INDUCTOR: lambda: inductor(module, [(x,)]),
    }
    if model.library is not None:
        library = model.library(module).to(device).eval().requires_grad_(False)
        rivals[CUDNN] = lambda: keeping(library, [(x,)])
    return Contest(
        case=model.name,
        rivals=rivals,
        wanted=lambda: copy.deepcopy(module).double()(x.double()),
        tolerance=1e-5,
        tolerances={EAGER: 1e-2, INDUCTOR: 1e-2, CUDNN: 1e-2, WITHOUT_LOOPS: 1e-2, ALONE: 1e-2},
        bars={peer: (bar,) for peer, bar in model.bars},
    )


def fused(
    module: torch.nn.Module, x: torch.Tensor, forms: Sequence[str] = FORMS, together: Together | None = None
) -> FusedModule:
    """Return the module with its program, of the first form that can be built, whether or not it is faster."""
    captured = capture(module, (x,), {})
    program, kernels = cuda_program(captured, "A model of the GPU check.", forms=forms)
    prepare(kernels)
    return FusedModule(module, captured, CudaRunner(program, kernels, together=together))
