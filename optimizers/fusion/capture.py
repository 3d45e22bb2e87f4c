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
from optimizers.fusion.state import Bytes, Held, held_state

Plain = int | float | bool | str | None
MOST_ITEMS = 4096
"""Items of the lists, deques and sets of a model, which each call compares at 25 ns or so."""
_CONTAINERS_OF_A_MODULE = 16
_ON_VALUES = ("DataDependentOutputException", "DynamicOutputShapeException", "GuardOnDataDependentSymNode")
"""Errors of torch's tracing, by name: their modules take a second to load."""


class UnfusableError(HotbenchError):
    """Why a model, or these inputs, cannot be fused: one line that becomes a Refusal."""


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
        _refuse_scripts(model)
        _refuse_hooks(model)
        leaves, self._input_spec = pytree.tree_flatten((args, dict(kwargs)))
        _check_inputs(leaves)
        self._weights = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        _check_device(self._weights, leaves)
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
        named = {f"model.{name}": tensor for name, tensor in zip(self._weights, flat, strict=False)}
        tensors = iter(flat[len(self._weights) :])
        filled = [next(tensors) if isinstance(leaf, torch.Tensor) else leaf for leaf in self._leaves]
        args, kwargs = pytree.tree_unflatten(filled, self._input_spec)
        with _own_lists(self._model):
            output = torch.func.functional_call(self._watched, named, args, kwargs)
        flat_output, self._output_spec = pytree.tree_flatten(output)
        return flat_output


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
    if any(_mutates(node) for node in graph.graph.nodes):
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


def _mutates(node: torch.fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _refuse_scripts(model: torch.nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise UnfusableError(
                f"module {name or 'itself'!r} is a script of torch.jit; pass the model it was made from"
            )


def _refuse_hooks(model: torch.nn.Module) -> None:
    for name, module in model.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            raise UnfusableError(
                f"module {name or 'itself'!r} has forward hooks, which fusion cannot repeat; remove them"
            )


def _check_inputs(leaves: list[Any]) -> None:
    for position, leaf in enumerate(leaves):
        if isinstance(leaf, torch.Tensor):
            if type(leaf) not in (torch.Tensor, torch.nn.Parameter) or leaf.layout != torch.strided:
                raise UnfusableError(
                    f"input {position} is a {type(leaf).__name__} of layout {leaf.layout}; pass dense tensors"
                )
            if leaf.is_neg() or leaf.is_conj():
                raise UnfusableError(
                    f"input {position} is a lazy negation or conjugate; call resolve_neg or resolve_conj"
                )
        elif not (leaf is None or isinstance(leaf, int | float | bool | str)):
            raise UnfusableError(f"input {position} is a {type(leaf).__name__}; pass tensors and plain numbers only")


def _check_device(weights: Mapping[str, torch.Tensor], leaves: list[Any]) -> None:
    named = [*weights.items(), *((f"input {k}", leaf) for k, leaf in enumerate(leaves))]
    tensors = [(name, tensor) for name, tensor in named if isinstance(tensor, torch.Tensor)]
    for name, tensor in tensors:
        first_name, first = tensors[0]
        if tensor.device != first.device:
            raise UnfusableError(
                f"{first_name} is on {first.device}, {name} on {tensor.device}; move both to one device"
            )
        if tensor.device.type not in ("cpu", "cuda"):
            raise UnfusableError(f"{name} is on {tensor.device}; fusion is for the CPU and for CUDA devices")


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
    _refuse_large_state(before, sum(1 for _ in model.modules()))
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


def _refuse_large_state(state: tuple[Held, ...], modules: int) -> None:
    """Refuse more than a call can check: large arrays, long lists, deques and sets, very many containers."""
    for held in state:
        if isinstance(held.container, Bytes) and len(held.keys[0]) > MOST_ITEMS:
            raise UnfusableError(
                f"{held.label} is a NumPy array of {len(held.keys[0])} bytes, too large to check at each call; "
                "register it as a buffer, or make it read-only"
            )
    sequences = [held for held in state if not held.is_dict]
    if sum(len(held.keys) for held in sequences) > MOST_ITEMS:
        largest = max(sequences, key=lambda held: len(held.keys))
        raise UnfusableError(
            f"{largest.label} holds {len(largest.keys)} items, and lists and sets of more than {MOST_ITEMS} items "
            "cannot be checked at each call; keep them out of the model, or in a tuple or dict"
        )
    if len(state) > MOST_ITEMS + _CONTAINERS_OF_A_MODULE * modules:
        last = state[-1].label
        raise UnfusableError(
            f"the model's attributes reach {len(state)} containers, among them {last}, too many to check at each call; "
            "keep them out of the model"
        )


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


def refuse_effects(graph: torch.fx.GraphModule, weights: tuple[str, ...]) -> None:
    """Refuse what would be lost or burnt in: writes into inputs or buffers, values read into Python."""
    placeholders = [node for node in graph.graph.nodes if node.op == "placeholder"]
    names = {
        node: weights[k] if k < len(weights) else f"input {k - len(weights)}" for k, node in enumerate(placeholders)
    }
    for node in graph.graph.nodes:
        if node.op != "call_function":
            continue
        if _mutates(node):
            what = names.get(node.args[0], "a tensor")
            raise UnfusableError(f"forward writes {what} in place with {node.target}; fusion leaves it alone")
        if any(_is_symbolic(value) for value in pytree.tree_leaves(node.meta.get("val"))):
            raise UnfusableError(f"a value or shape depends on tensor values ({node.target}); fusion leaves it alone")


def _is_symbolic(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return any(not isinstance(extent, int) for extent in (*value.shape, *value.stride(), value.storage_offset()))
    return isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool)
