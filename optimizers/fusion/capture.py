"""From a live model to a functional ATen graph, without its data: what depends on values is refused, never burnt in."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
from torch.utils import _pytree as pytree

from analyzer.errors import HotbenchError
from optimizers.fusion.output_layout import laid_out
from optimizers.fusion.recordable import DependsOnValuesError
from optimizers.fusion.recording import CaughtError, Recording, UnrecordableError, record
from optimizers.fusion.recording_settings import compiling, has_layers, layers_in_parts
from optimizers.fusion.refusals import (
    UnfusableError as UnfusableError,
)
from optimizers.fusion.refusals import (
    check_device,
    check_inputs,
    mutates,
    refuse_effects,
    refuse_hooks,
    refuse_large_state,
    refuse_scripts,
)
from optimizers.fusion.state import Held, held_state

Plain = int | float | bool | str | None
_ON_VALUES = ("DataDependentOutputException", "DynamicOutputShapeException", "GuardOnDataDependentSymNode")
"""Errors of torch's tracing, by name: their modules take a second to load."""


class Signature(NamedTuple):
    """What stands around a program, with the fields of Captured."""

    weights: tuple[str, ...]
    inputs: tuple[Any, ...]
    input_spec: pytree.TreeSpec
    output_spec: pytree.TreeSpec


@dataclass(frozen=True)
class Captured:
    """A functional graph of one inference step for one set of shapes.

    graph:       placeholders are the weights, then the tensor inputs; outputs are the flat output leaves.
    weights:     names of the parameters and buffers among the placeholders, in order.
    inputs:      the flat input leaves that were captured; a leaf that is no tensor is a constant of the graph.
    input_spec:  how (args, kwargs) are flattened.
    output_spec: how the flat outputs are put together again.
    """

    graph: torch.fx.GraphModule
    weights: tuple[str, ...]
    inputs: tuple[Any, ...]
    input_spec: pytree.TreeSpec
    output_spec: pytree.TreeSpec

    @property
    def device(self) -> torch.device:
        """Return the device of weights and inputs; the CPU where there are none."""
        held = [node.meta.get("val") for node in self.graph.graph.nodes if node.op == "placeholder"]
        tensors = [value for value in (*self.inputs, *held) if isinstance(value, torch.Tensor)]
        # A recorded graph has tensors of no device in the place of those of the CPU.
        return next((tensor.device for tensor in tensors if tensor.device.type != "meta"), torch.device("cpu"))


# Kernels that the library does well stay whole; the second row is lowered here, in fewer and more exact steps.
_KEPT_WHOLE = (
    "addmm", "mm", "bmm", "baddbmm", "convolution", "embedding", "_scaled_dot_product_flash_attention_for_cpu",
    "gelu", "silu", "native_layer_norm", "_softmax", "_log_softmax", "leaky_relu", "elu", "hardtanh", "clamp",
    "clamp_min", "clamp_max", "rsub", "addcmul", "masked_fill", "mean", "var", "var_mean", "native_batch_norm",
    "_native_batch_norm_legit_no_training", "linalg_vector_norm", "square", "stack", "zeros_like", "ones_like",
    "full_like", "new_zeros", "new_ones", "new_full", "native_dropout", "bernoulli", "upsample_nearest2d",
    "upsample_bilinear2d", "native_group_norm", "softplus",
)  # fmt: skip


def capture(model: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Captured:
    """Return the functional ATen graph of `model(*args, **kwargs)` under no_grad.

    No value of an input or a weight can enter the graph: forward gets tensors that hide theirs.
    Raises UnfusableError in words where the model's control flow, state or inputs forbid it.
    """
    call = ModelCall(model, args, kwargs)
    return call.captured(call.recording())


class ModelCall:
    """One call of a model as a function of flat tensors: first its weights, then the tensor inputs.

    Raises UnfusableError for a model or inputs that fusion does not take.
    """

    def __init__(self, model: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        refuse_scripts(model)
        refuse_hooks(model)
        leaves, self._input_spec = pytree.tree_flatten((args, dict(kwargs)))
        check_inputs(leaves)
        self._weights = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        check_device(self._weights, leaves)
        self._places = _places_of(model, self._weights)
        self._leaves = tuple(leaves)
        self.arguments = (args, dict(kwargs))
        self._model = model
        self._watched = _Watched(model)
        self._output_spec: pytree.TreeSpec | None = None
        self.tensors = [weight.detach() for weight in self._weights.values()]
        self.tensors += [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]

    def recording(self) -> Recording | None:
        """Return the ops of the call, None where they cannot be recorded. Raises UnfusableError for changed state."""
        if any(tensor.device.type != "cpu" for tensor in self.tensors):
            return None  # a recording does not say on which device an op makes its tensor
        caught = ""
        # Forward may look at values only where nothing is being compiled.
        for around in (contextlib.nullcontext, compiling):
            try:
                with around():
                    return self._recorded()
            except DependsOnValuesError as error:
                raise UnfusableError(str(error)) from error
            except CaughtError as error:
                caught = str(error)
            except UnrecordableError:
                continue
            except HotbenchError:
                raise
            except Exception:
                break  # tracing meets it again, and says it in words
        if caught:
            raise UnfusableError(f"forward catches an error and goes on in another way, which hides values ({caught})")
        return None

    def _recorded(self) -> Recording:
        with torch.no_grad(), _unchanged_state(self._model):
            recording = record(self._flat, self.tensors)
            if not has_layers(recording):
                return recording
            with layers_in_parts():
                return record(self._flat, self.tensors)

    def captured(self, recording: Recording | None) -> Captured:
        """Return the graph of a recording; without one, that of forward itself. Raises UnfusableError in words."""
        with torch.no_grad(), _unchanged_state(self._model), _in_words():
            graph = _trace(self._flat, self.tensors) if recording is None else _made_functional(recording, self.tensors)
            if recording is not None and not laid_out(graph, recording):
                raise UnfusableError("an output lies in memory in an order that its op would not give it")
        refuse_effects(graph, tuple(self._weights))
        graph.graph.eliminate_dead_code()
        return Captured(graph, *self.signature())

    def signature(self) -> Signature:
        """Return what stands around the graph, once the call was recorded or traced."""
        assert self._output_spec is not None
        return Signature(tuple(self._weights), self._leaves, self._input_spec, self._output_spec)

    def _flat(self, *flat: torch.Tensor) -> list[Any]:
        named = {f"model.{name}": flat[position] for name, position in self._places.items()}
        tensors = iter(flat[len(self._weights) :])
        filled = [next(tensors) if isinstance(leaf, torch.Tensor) else leaf for leaf in self._leaves]
        args, kwargs = pytree.tree_unflatten(filled, self._input_spec)
        with _own_lists(self._model):
            # Ties are told here: torch's own way puts the wrong tensors back where a module has two names.
            output = torch.func.functional_call(self._watched, named, args, kwargs, tie_weights=False)
        flat_output, self._output_spec = pytree.tree_flatten(output)
        return flat_output


def _places_of(model: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Return which weight stands under each name of a parameter or buffer, each module under one name alone."""
    first: dict[int, int] = {}
    for position, weight in enumerate(weights.values()):
        first.setdefault(id(weight), position)
    positions = {name: position for position, name in enumerate(weights)}
    owned = (
        (f"{path}.{key}" if path else key, weight)
        for path, module in model.named_modules()
        for key, weight in (*module._parameters.items(), *module._buffers.items())
    )
    return {name: positions.get(name, first[id(weight)]) for name, weight in owned if weight is not None}


def _made_functional(recording: Recording, tensors: list[torch.Tensor]) -> torch.fx.GraphModule:
    """Return the graph of a recording, which alone determines it."""
    from optimizers.fusion.decompose import decomposed, graph_of, run

    try:
        return graph_of(decomposed(recording, tensors, decompositions()))
    except UnrecordableError:
        # It writes into tensors of its own, or a rule of an op does what cannot be recorded.
        return _trace(lambda *flat: run(recording, flat), tensors)


class _Watched(torch.nn.Module):
    """Calls a model, and refuses parameters and buffers that it assigns: who put the traced ones there hides it."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the model returns."""
        before = [held for held in held_state(self.model) if held.kind == "weights"]
        output = self.model(*args, **kwargs)
        assigned = next((label for held in before if (label := held.changed())), "")
        if assigned:
            raise UnfusableError(
                f"forward assigns {assigned}, which a fused program would not; keep state out of forward"
            )
        return output


def _trace(call: Callable[..., list[Any]], tensors: list[torch.Tensor]) -> torch.fx.GraphModule:
    """Return the traced graph; one with in-place ops is traced once more, made functional."""
    # Imported here: it loads a compiler, which takes seconds, and most models are recorded instead.
    from torch.fx.experimental.proxy_tensor import make_fx

    table = decompositions()
    graph: torch.fx.GraphModule = make_fx(call, tracing_mode="fake", decomposition_table=table)(*tensors)
    if any(mutates(node) for node in graph.graph.nodes):
        functional = torch.func.functionalize(graph, remove="mutations")
        graph = make_fx(functional, tracing_mode="fake", decomposition_table=table)(*tensors)
    return graph


@cache
def decompositions() -> dict[Any, Callable[..., Any]]:
    """Return the core decompositions, but for the ops that stay whole or are lowered here."""
    from torch._decomp import core_aten_decompositions

    table: dict[Any, Callable[..., Any]] = dict(core_aten_decompositions())
    return {op: function for op, function in table.items() if _base_name(op) not in _KEPT_WHOLE}


def _base_name(op: Any) -> str:
    return str(op.name()).removeprefix("aten::").split(".")[0]


@contextlib.contextmanager
def _own_lists(model: torch.nn.Module) -> Iterator[None]:
    """Give torch's recurrent modules their own lists of weights back, which calls with other weights make anew."""
    recurrent = [module for module in model.modules() if isinstance(module, torch.nn.RNNBase)]
    kept = [(m, m._flat_weights, tuple(m._flat_weights), m._flat_weight_refs) for m in recurrent]
    try:
        yield
    finally:
        for module, weights, items, references in kept:
            weights[:] = items
            module._flat_weights, module._flat_weight_refs = weights, references


@contextlib.contextmanager
def _unchanged_state(model: torch.nn.Module) -> Iterator[None]:
    """Undo, and refuse, what forward assigns or changes: a fused program would not, and tracing leaves fake tensors."""
    before = held_state(model)
    refuse_large_state(before, sum(1 for _ in model.modules()))
    changed: list[tuple[Held, str]] = []
    try:
        yield
    finally:
        for held in before:
            label = held.changed()
            if label:
                changed.append((held, label))
                held.restore()
    for held, label in changed:
        verb = "assigns" if held.kind == "attributes" else "changes"
        raise UnfusableError(f"forward {verb} {label}, which a fused program would not; keep state out of forward")


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    """Turn what tracing raises into one line."""
    try:
        yield
    except HotbenchError:
        raise
    except Exception as error:
        what = _first_line(error)
        if type(error).__name__ in _ON_VALUES:
            raise UnfusableError(
                f"the model's control flow or shapes depend on tensor values ({what}); fusion leaves it alone"
            ) from error
        if "Please convert all Tensors to FakeTensors" in str(error):
            raise UnfusableError(
                "forward reads a tensor that is no parameter, buffer or input; register it as a buffer"
            ) from error
        raise UnfusableError(f"tracing the model raised {type(error).__name__}: {what}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
