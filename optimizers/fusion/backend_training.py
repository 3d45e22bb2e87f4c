"""Fuses a training workload: its model through the torch.compile backend, measured as a whole, repeated exactly."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch

from analyzer.errors import RecordError
from analyzer.progress import Progress, silent
from analyzer.workload import Arguments, Workload
from optimizers.fusion.api import NAME
from optimizers.fusion.backend import HotbenchBackend
from optimizers.fusion.backend_choice import Chosen, Replay, Watch
from optimizers.fusion.backend_decision import figures
from optimizers.fusion.backend_program import GraphProgram
from optimizers.fusion.backend_sizes import OneSize
from optimizers.fusion.timing import compare
from optimizers.plan import Refusal

Decided = tuple[dict[str, Any], dict[str, bytes]]
_BUDGET_SECONDS = 2.0


def fuse_training(
    workload: Workload,
    max_error: float | None = None,
    min_gain: float = 0.0,
    progress: Progress = silent,
    watch: Watch | None = None,
) -> Decided | Refusal:
    """Compile the workload's model in place; return decisions and blobs, or a Refusal with the model as it was.

    max_error: accepted max|a-b| / max|b| over loss and gradients, beside what the backend accepts for each tensor.
    min_gain:  fraction of the time of forward, loss and backward that must be saved at least.
    watch:     told of each program as it is chosen.
    """
    batch, model = workload.batch(0), workload.model
    backend = HotbenchBackend(watch=watch)
    progress("compiling forward and backward", 0.0)
    _compile(model, backend)
    eager, compiled = (partial(_forward_backward, workload, call, batch) for call in (model._call_impl, model))
    with _unchanged(workload):
        compiled()
        reason = _nothing_kept(backend)
    if not reason:
        error = _largest_error(workload, compiled, eager)
        if max_error is not None and not error <= max_error:
            reason = f"gradients differ from eager's by {error:.1e} of the largest (allowed {max_error:.0e})"
    if not reason:
        progress("comparing with eager", 0.8)
        with _unchanged(workload):
            comparison = compare(eager, compiled, budget_seconds=_BUDGET_SECONDS)
        if comparison.low <= 1.0 + min_gain:
            reason = f"not faster than eager here: {figures(comparison)}"
    if reason:
        undo(workload)
        return Refusal(NAME, reason)
    progress("fused", 1.0)
    graphs = sorted(backend.graphs, key=lambda graph: graph.hash)
    decisions = {"training": True, **_decisions(graphs), "eager_over_fused": comparison.as_dict(), "max_rel": error}
    return {**decisions, "threads": torch.get_num_threads()}, _blobs(graphs)


def rebuild_training(workload: Workload, decided: Mapping[str, Any], watch: Watch | None = None) -> None:
    """Compile the workload's model as it was decided. Raises RecordError where graph or programs differ.

    watch: told of each program as it is built.
    """
    programs = {p["graph"]: (tuple(p["excluded"]), bool(p["rolled"])) for p in decided["programs"]}
    backend = HotbenchBackend(Replay({g["graph"]: g["kept"] for g in decided["graphs"]}, programs), watch)
    _compile(workload.model, backend)
    with _unchanged(workload):
        _forward_backward(workload, workload.model, workload.batch(0))
    graphs = {graph.hash: graph for graph in backend.graphs}
    if set(graphs) != {g["graph"] for g in decided["graphs"]}:
        undo(workload)
        raise RecordError("the model's graph is no longer the one that was fused; optimize it again")
    found = sorted((p.hash, c.program.digest()) for graph in graphs.values() for p, c in _programs(graph))
    if found != sorted((p["graph"], p["program"]) for p in decided["programs"]):
        undo(workload)
        raise RecordError("this version builds other programs than those that were measured; optimize again")


def _compile(model: torch.nn.Module, backend: HotbenchBackend) -> None:
    call: Callable[..., Any] = model._call_impl

    def run(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs)

    # As Module.compile does, but through a function of ours: forward methods of torch's own modules, such as
    # Sequential, are not captured by themselves.
    model._compiled_call_impl = torch.compile(run, backend=backend)


def undo(workload: Workload) -> None:
    """Let the workload's model run eagerly again."""
    workload.model._compiled_call_impl = None


def _forward_backward(workload: Workload, call: Callable[..., Any], batch: Arguments) -> list[torch.Tensor]:
    """Return loss and gradients of one step, and leave no gradients behind."""
    assert workload.loss is not None and workload.optimizer is not None
    args, kwargs = batch
    with torch.enable_grad():
        loss = workload.loss(call(*args, **kwargs), batch)
        loss.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in workload.model.parameters() if p.grad is not None]
    workload.model.zero_grad(set_to_none=True)
    return [loss.detach(), *gradients]


def _largest_error(
    workload: Workload, compiled: Callable[[], list[torch.Tensor]], eager: Callable[[], list[torch.Tensor]]
) -> float:
    """Return max|a-b| / max|b| over loss and gradients, with the same random numbers."""
    results = []
    for call in (compiled, eager):
        with _unchanged(workload):
            results.append([tensor.double() for tensor in call()])
    ours, theirs = results
    largest = max(float(tensor.abs().max()) for tensor in theirs if tensor.numel())
    error = max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True) if a.numel())
    return error / largest if largest else error


@contextlib.contextmanager
def _unchanged(workload: Workload) -> Iterator[None]:
    """Put back what forward writes, and the state of the random numbers."""
    buffers = [(buffer, buffer.detach().clone()) for buffer in workload.model.buffers()]
    with torch.random.fork_rng(devices=[]):
        yield
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)


def _nothing_kept(backend: HotbenchBackend) -> str:
    if any(graph.kept for graph in backend.graphs):
        return ""
    last = backend.decisions[-1] if backend.decisions else None
    return str(last) if last is not None else "torch.compile captured no graph of the model"


def _programs(graph: OneSize) -> list[tuple[GraphProgram, Chosen]]:
    return [(program, program.chosen) for program in graph.programs if graph.kept and program.chosen is not None]


def _decisions(graphs: list[OneSize]) -> dict[str, Any]:
    programs = [pair for graph in graphs for pair in _programs(graph)]
    return {
        "graphs": [{"graph": graph.hash, "kept": graph.kept} for graph in graphs],
        "programs": [
            {
                "kind": program.kind,
                "graph": program.hash,
                "program": chosen.program.digest(),
                "excluded": list(chosen.excluded),
                "rolled": chosen.rolled,
                "kernel_calls": chosen.program.kernel_calls,
                "library_calls": chosen.program.library_calls,
                "arena_bytes": chosen.program.arena_bytes,
            }
            for program, chosen in programs
        ],
        "choices": [
            {
                "kernel": choice.kernel,
                "calls": choice.calls,
                "nodes": list(choice.nodes),
                "kept": choice.kept,
                **choice.comparison.as_dict(),
            }
            for _, chosen in programs
            for choice in chosen.choices
        ],
    }


def _blobs(graphs: list[OneSize]) -> dict[str, bytes]:
    """Return the sources of programs and kernels, by file name."""
    blobs: dict[str, bytes] = {}
    for graph in graphs:
        for program, chosen in _programs(graph):
            blobs[f"{program.kind}_{program.hash}.py"] = chosen.program.source.encode()
            blobs |= {f"{name}.py": kernel.source.encode() for name, kernel in chosen.kernels.items()}
    return blobs
