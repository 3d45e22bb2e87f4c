"""One Dynamo graph for one set of sizes, or for many: compiled at the first call, eager where that is better."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from analyzer.errors import HotbenchError
from optimizers.fusion.backend_aot import Compiled, compile_graph
from optimizers.fusion.backend_choice import Chooser, Replay, Watch, measured, unmeasured, watched
from optimizers.fusion.backend_decision import Decision, Decisions, line_of, title_of
from optimizers.fusion.backend_eager import eager_call, graphs_of
from optimizers.fusion.backend_program import GraphProgram
from optimizers.fusion.backend_remembered import remembered
from optimizers.fusion.backend_trial import Trial, try_out
from optimizers.fusion.timing import Comparison

_BUDGET_SECONDS = 0.5
_log = logging.getLogger("hotbench")

GraphCall = Callable[..., Any]
Sharing = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class BackendOptions:
    """What `torch.compile(..., options={...})` can set.

    measure:    compare with eager at the first call and keep what is faster; False keeps what was compiled.
    most_sizes: so many sets of sizes of a graph with dynamic shapes are compiled; later ones run eagerly.
    """

    measure: bool = True
    most_sizes: int = 8

    def __post_init__(self) -> None:
        if not isinstance(self.measure, bool):
            raise HotbenchError(f"options: measure={self.measure!r} is no truth value; give True or False")
        if isinstance(self.most_sizes, bool) or not isinstance(self.most_sizes, int) or self.most_sizes < 0:
            raise HotbenchError(f"options: most_sizes={self.most_sizes!r} is no count; give 0 or more")


class OneSize:
    """A graph for one set of sizes; the first call decides between the compiled form and eager.

    inputs: those of Dynamo, fake, while it is compiling; the real ones of a call later. late: it is later, so that
    nobody but this class watches over inputs that share memory.
    """

    def __init__(
        self,
        graph: torch.fx.GraphModule,
        inputs: Sequence[Any],
        options: BackendOptions,
        decisions: Decisions,
        late: bool = False,
        replay: Replay | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.hash = _hash(graph, inputs)
        self.kept = False
        self._graph = graph
        self._eager_call = eager_call(graph)
        self._options = options
        self._decisions = decisions
        self._late = late
        self._replay = replay
        self._watch = watch
        self._lock = threading.RLock()
        self._run: GraphCall | None = None
        self._compiled: Compiled | None = None
        self._compile(inputs)

    @property
    def programs(self) -> tuple[GraphProgram, ...]:
        """Return the programs of the compiled form; none where the graph runs eagerly."""
        return tuple(self._compiled.programs) if self._compiled is not None else ()

    def __call__(self, *args: Any) -> Any:
        """Return the graph's flat outputs."""
        run = self._run
        if run is None:
            with self._lock:
                run = self._run or self._choose(args)
        return run(*args)

    def _compile(self, inputs: Sequence[Any]) -> None:
        replay = self._replay
        if replay is not None and not replay.graphs.get(self.hash, False):
            self._eager("decided before")
            return
        if self._late and sharing(inputs):
            self._eager("inputs share memory")
            return
        if replay is None and self._options.measure and self._watch is None:
            choose: Chooser = remembered
        else:
            # Who watches wants to see every measurement.
            choose = watched(replay or (measured if self._options.measure else unmeasured), self._watch)
        try:
            self._compiled = compile_graph(self._graph, inputs, choose, self._report)
        except Exception as error:
            # What eager can run must run: whatever a compiler raises becomes a line in the log and eager.
            _log.debug("compiling failed", exc_info=True)
            self._eager("compiling failed", line_of(error), failed=True)

    def _choose(self, args: Sequence[Any]) -> GraphCall:
        compiled = self._compiled
        if compiled is None:
            return self._eager_call
        # A parameter is found at the same address step after step; other tensors come and go.
        plain = [arg for arg in args if type(arg) is torch.nn.Parameter]
        compiled.parameters.update(parameter.data_ptr() for parameter in plain)
        if not self._options.measure or self._replay is not None:
            return self._keep(compiled, args, None)
        try:
            trial = try_out(self._eager_call, compiled.call, args, compiled.written, _BUDGET_SECONDS)
        except Exception as error:
            _log.debug("trying out failed", exc_info=True)
            return self._eager("trying it out failed", line_of(error), failed=True)
        return self._judge(compiled, args, trial)

    def _judge(self, compiled: Compiled, args: Sequence[Any], trial: Trial) -> GraphCall:
        failure = next((program for program in compiled.programs if program.failed), None)
        if failure is not None:
            return self._eager("building a program failed", f"{failure.kind}: {failure.reason}", failed=True)
        if trial.kind:
            return self._eager(trial.kind, trial.detail, trial.comparison)
        if all(program.chosen is None for program in compiled.programs):
            return self._eager(next((program.reason for program in compiled.programs), "it did not run"))
        return self._keep(compiled, args, trial.comparison)

    def _keep(self, compiled: Compiled, args: Sequence[Any], comparison: Comparison | None) -> GraphCall:
        self._run = compiled.call if compiled.written == () else self._guarded(compiled.call, sharing(args))
        self.kept = True
        programs = [program.chosen.program for program in compiled.programs if program.chosen is not None]
        self._decisions.add(
            Decision(
                title_of(self._graph),
                _needs_gradients(args),
                kernel_calls=sum(program.kernel_calls for program in programs),
                library_calls=sum(program.library_calls for program in programs),
                comparison=comparison,
            )
        )
        return self._run

    def _guarded(self, compiled: GraphCall, expected: Sharing) -> GraphCall:
        """Return a call that is eager where inputs share memory otherwise than `expected`: the graph writes some."""

        def run(*args: Any) -> Any:
            return compiled(*args) if sharing(args) == expected else self._eager_call(*args)

        return run

    def _eager(
        self, kind: str, detail: str = "", comparison: Comparison | None = None, failed: bool = False
    ) -> GraphCall:
        self._run, self._compiled = self._eager_call, None
        training = torch.is_grad_enabled()
        self._decisions.add(Decision(title_of(self._graph), training, kind, detail, failed, comparison=comparison))
        return self._run

    def _report(self, kind: str, reason: str) -> None:
        """Take note of a program that failed after the decision was taken: its graph runs op by op."""
        if self._run is not None:
            what = Decision(title_of(self._graph), kind != "inference", "building a program failed", reason, True)
            self._decisions.add(what)


class ManySizes:
    """A graph whose sizes Dynamo left open: compiled anew for each set of them, up to a limit, then eager.

    moving: positions of the inputs whose value or layout is open. specialise: makes the form for real inputs.
    """

    def __init__(
        self,
        graph: torch.fx.GraphModule,
        moving: tuple[int, ...],
        options: BackendOptions,
        decisions: Decisions,
        specialise: Callable[[Sequence[Any], bool], OneSize],
    ) -> None:
        self._make = specialise
        self._graph = graph
        self._eager_call = eager_call(graph)
        self._moving = moving
        self._options = options
        self._decisions = decisions
        self._lock = threading.RLock()
        self._known: dict[tuple[Any, ...], OneSize] = {}
        self._full = False

    def __call__(self, *args: Any) -> Any:
        """Return the graph's flat outputs."""
        key = tuple(_sizes(args[k]) for k in self._moving)
        run = self._known.get(key) or self._specialise(key, args)
        return self._eager_call(*args) if run is None else run(*args)

    def _specialise(self, key: tuple[Any, ...], args: Sequence[Any]) -> OneSize | None:
        with self._lock:
            if key in self._known:
                return self._known[key]
            if len(self._known) < self._options.most_sizes:
                self._known[key] = self._make(args, True)
                return self._known[key]
            if not self._full:
                self._full = True
                limit = f"more than {self._options.most_sizes} sets of sizes"
                self._decisions.add(Decision(title_of(self._graph), _needs_gradients(args), limit))
            return None


def symbolic_positions(inputs: Sequence[Any]) -> tuple[int, ...]:
    """Return the inputs whose value or layout Dynamo left open."""
    return tuple(k for k, value in enumerate(inputs) if _is_symbolic(value))


def sharing(args: Sequence[Any]) -> Sharing:
    """Return which of the tensors lie in one storage, and where in it; () where each has its own."""
    tensors = [(k, arg) for k, arg in enumerate(args) if isinstance(arg, torch.Tensor) and arg.numel()]
    addresses = [arg.untyped_storage().data_ptr() for _, arg in tensors]
    if len(set(addresses)) == len(addresses):
        return ()
    first = {address: k for (k, _), address in reversed(list(zip(tensors, addresses, strict=True)))}
    shared = Counter(addresses)
    return tuple(
        (k, first[address], int(arg.storage_offset()))
        for (k, arg), address in zip(tensors, addresses, strict=True)
        if shared[address] > 1
    )


def _is_symbolic(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return any(not isinstance(n, int) for n in (*value.shape, *value.stride(), value.storage_offset()))
    return isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool)


def _hash(graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> str:
    layouts = [
        (tuple(v.shape), tuple(v.stride()), str(v.dtype), v.requires_grad) if isinstance(v, torch.Tensor) else repr(v)
        for v in inputs
    ]
    code = "".join(part.code for part in graphs_of(graph))
    return hashlib.sha256(f"{code}{layouts}".encode()).hexdigest()[:24]


def _sizes(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.shape, value.stride()
    return type(value), value


def _needs_gradients(args: Sequence[Any]) -> bool:
    return torch.is_grad_enabled() and any(isinstance(arg, torch.Tensor) and arg.requires_grad for arg in args)
