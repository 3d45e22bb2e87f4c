"""From a live model to a functional ATen graph, without its data: what depends on values is refused, never burnt in."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch._decomp import core_aten_decompositions
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.utils import _pytree as pytree

from analyzer.errors import HotbenchError
from optimizers.fusion.state import Bytes, Held, held_state

Plain = int | float | bool | str | None
MOST_ITEMS = 4096
"""Items of the lists, deques and sets of a model, which each call compares at 25 ns or so."""
_CONTAINERS_OF_A_MODULE = 16


class UnfusableError(HotbenchError):
    """Why a model, or these inputs, cannot be fused: one line that becomes a Refusal."""


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

    Tracing uses fake tensors, so no value of an input or a weight can enter the graph.
    Raises UnfusableError in words where the model's control flow, state or inputs forbid it.
    """
    _refuse_scripts(model)
    _refuse_hooks(model)
    leaves, input_spec = pytree.tree_flatten((args, dict(kwargs)))
    _check_inputs(leaves)
    weights = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    _check_device(weights, leaves)
    output_specs: list[pytree.TreeSpec] = []
    watched = _Watched(model)

    def call(*flat: torch.Tensor) -> list[Any]:
        named = {f"model.{name}": tensor for name, tensor in zip(weights, flat, strict=False)}
        tensors = iter(flat[len(weights) :])
        filled = [next(tensors) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        call_args, call_kwargs = pytree.tree_unflatten(filled, input_spec)
        output = torch.func.functional_call(watched, named, call_args, call_kwargs)
        flat_output, spec = pytree.tree_flatten(output)
        output_specs.append(spec)
        return flat_output

    flat_tensors = [weight.detach() for weight in weights.values()]
    flat_tensors += [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    with torch.no_grad(), _unchanged_state(model), _in_words():
        graph = _trace(call, flat_tensors)
    refuse_effects(graph, tuple(weights))
    graph.graph.eliminate_dead_code()
    return Captured(graph, tuple(weights), tuple(leaves), input_spec, output_specs[0])


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
    table = decompositions()
    graph: torch.fx.GraphModule = make_fx(call, tracing_mode="fake", decomposition_table=table)(*tensors)
    if any(_mutates(node) for node in graph.graph.nodes):
        functional = torch.func.functionalize(graph, remove="mutations")
        graph = make_fx(functional, tracing_mode="fake", decomposition_table=table)(*tensors)
    return graph


@cache
def decompositions() -> dict[Any, Callable[..., Any]]:
    """Return the core decompositions, but for the ops that stay whole or are lowered here."""
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
    for name, tensor in named:
        if isinstance(tensor, torch.Tensor) and tensor.device.type != "cpu":
            raise UnfusableError(f"{name} is on {tensor.device}; this version fuses on the CPU only")


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
    except (DataDependentOutputException, DynamicOutputShapeException, GuardOnDataDependentSymNode) as error:
        what = _first_line(error)
        raise UnfusableError(
            f"the model's control flow or shapes depend on tensor values ({what}); fusion leaves it alone"
        ) from error
    except Exception as error:
        what = _first_line(error)
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
