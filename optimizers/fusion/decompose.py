"""From a recorded call to a functional graph of core ATen ops: the recording runs again, large ops as their parts."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import autograd_would_have_decomposed

from optimizers.fusion.recording import Layout, Recorder, Recording, Ref, Step, UnrecordableError, recorded

Rules = Mapping[Any, Callable[..., Any]]
_Maker = Callable[[Layout], torch.Tensor]
_OF_LAYOUT = frozenset((torch.ops.aten.size.default, torch.ops.aten.stride.default))
_FRESH = torch.ops.aten.lift_fresh_copy.default


def decomposed(recording: Recording, tensors: Sequence[torch.Tensor], rules: Rules) -> Recording:
    """Return the same computation in the ops that `rules`, by op, leave.

    Raises UnrecordableError where a rule does what cannot be recorded.
    """
    return recorded(_Decomposer(rules), lambda *stands: run(recording, stands), tensors)


class _Decomposer(Recorder):  # type: ignore[no-untyped-call]
    """Records ops, those that have a rule as what the rule computes."""

    def __init__(self, rules: Rules) -> None:
        super().__init__()
        self._rules = rules

    def execute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an op or its rule, and return what stands for its results."""
        rule = self._rules.get(func)
        if rule is None and func not in _OF_LAYOUT and autograd_would_have_decomposed(func, [*args, *kwargs.values()]):
            rule = func.decompose
        if rule is not None:
            with self:
                made = rule(*args, **kwargs)
            if made is not NotImplemented:
                return made
        return super().execute(func, args, kwargs)


def run(recording: Recording, stands: Sequence[Any]) -> list[Any]:
    """Return the flat outputs of the recorded ops on other tensors."""
    values: dict[int, Any] = dict(enumerate(stands))
    last = _last_uses(recording)
    for position, step in enumerate(recording.steps):
        made = _step(step, values)
        for ref, value in zip(step.results, made if step.many else (made,), strict=True):
            if ref is not None:
                values[ref.number] = value
        for number in last.get(position, ()):
            values.pop(number, None)
    return [values[item.number] if isinstance(item, Ref) else item for item in recording.outputs]


def _step(step: Step, values: Mapping[int, Any]) -> Any:
    if step.constant is not None:
        return step.op(step.constant)
    return step.op(*filled(step.args, values), **{name: filled(value, values) for name, value in step.kwargs})


def filled(value: Any, values: Mapping[int, Any]) -> Any:
    """Return an argument, or all of them, with values in the place of Refs, and lists in the place of tuples."""
    if isinstance(value, Ref):
        return values[value.number]
    return [filled(item, values) for item in value] if isinstance(value, tuple) else value


def _last_uses(recording: Recording) -> dict[int, list[int]]:
    """Return, for each step, the tensors that nothing needs after it."""
    last: dict[int, int] = {}
    for position, step in enumerate(recording.steps):
        for item in pytree.tree_leaves((step.args, dict(step.kwargs), step.results)):
            if isinstance(item, Ref):
                last[item.number] = position
    kept = {item.number for item in recording.outputs if isinstance(item, Ref)}
    found: dict[int, list[int]] = {}
    for number, position in last.items():
        if number not in kept:
            found.setdefault(position, []).append(number)
    return found


def graph_of(recording: Recording) -> torch.fx.GraphModule:
    """Return the recorded ops as a graph; nodes hold tensors without values.

    Raises UnrecordableError if one writes into a tensor: such a recording has to be made functional first.
    """
    graph, root, empty = torch.fx.Graph(), torch.nn.Module(), _maker(recording)
    nodes: dict[int, torch.fx.Node] = {}
    for number, layout in enumerate(recording.placeholders):
        nodes[number] = graph.placeholder(f"x{number}")
        nodes[number].meta["val"] = empty(layout)
    for step in recording.steps:
        _add(graph, root, nodes, step, empty)
    graph.output([nodes[item.number] if isinstance(item, Ref) else item for item in recording.outputs])
    return torch.fx.GraphModule(root, graph)


def _add(
    graph: torch.fx.Graph, root: torch.nn.Module, nodes: dict[int, torch.fx.Node], step: Step, empty: _Maker
) -> None:
    if step.writes:
        raise UnrecordableError(f"{step.op} writes into a tensor")
    op, args = step.op, filled((*step.args,), nodes)
    fakes = [None if layout is None else empty(layout) for layout in step.layouts]
    if step.constant is not None:
        name = f"_tensor_constant{sum(1 for _ in root.buffers())}"
        root.register_buffer(name, step.constant)
        held = graph.get_attr(name)
        held.meta["val"] = fakes[0]
        op, args = _FRESH, [held]
    name = graph._target_to_str(op.overloadpacket.__name__)
    kwargs = {key: filled(value, nodes) for key, value in step.kwargs}
    node = graph.create_node("call_function", op, tuple(args), kwargs, name=name)
    node.meta["val"] = tuple(fakes) if step.many else fakes[0]
    for position, (ref, fake) in enumerate(zip(step.results, fakes, strict=True)):
        if ref is None:
            continue
        made = graph.call_function(operator.getitem, (node, position)) if step.many else node
        made.meta["val"] = fake
        nodes[ref.number] = made


def _maker(recording: Recording) -> _Maker:
    """Return how a tensor without values is made: a fake one where convolutions may be laid out anew, else meta."""
    if not any(step.op is torch.ops.aten.convolution.default for step in recording.steps):
        return _meta
    # It loads a second's worth of modules, for rules that only such a change of layout needs.
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

    mode = FakeTensorMode()
    return lambda layout: FakeTensor(mode, _meta(layout), torch.device("cpu"))


def _meta(layout: Layout) -> torch.Tensor:
    return torch.empty_strided(layout.shape, layout.strides, dtype=layout.dtype, device="meta")
