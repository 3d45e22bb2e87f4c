"""Which ops a recording may hold: those whose results have the same layouts whatever the values of their arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

_REFUSED = (
    torch.Tag.data_dependent_output,
    torch.Tag.dynamic_output_shape,
    torch.Tag.nondeterministic_seeded,
    torch.Tag.inplace_view,
)
_NAMESPACES = ("aten", "prims", "hotbench")
"""Hotbench's own ops are those of quantized layers."""
_TRUSTED = frozenset(
    ("stack", "linear", "matmul", "baddbmm", "addbmm", "_unsafe_view", "tril", "triu", "var_mean", "zeros_like",
     "ones_like", "full_like", "new_zeros", "new_ones", "new_full", "new_empty", "native_batch_norm",
     "_scaled_dot_product_flash_attention_for_cpu", "mkldnn_rnn_layer", "_native_multi_head_attention",
     "_transformer_encoder_layer_fwd", "lift_fresh")
)  # fmt: skip
"""Ops without the tag of a core one, seen to read no values: looking at their rules would load seconds of modules."""


class DependsOnValuesError(Exception):
    """Why no way of tracing gives a graph that is right for other values: the model has to be refused."""


def why_not(func: Any) -> str:
    """Return why an op cannot be recorded, "" where it can.

    Raises DependsOnValuesError for an op that a model calls in eager mode alone: traced, it computes something else.
    """
    if not isinstance(func, torch._ops.OpOverload) or func.namespace not in _NAMESPACES:
        return f"{func} is no op of ATen"
    if func._schema.name.startswith("aten::_nested_tensor_from_mask"):
        raise DependsOnValuesError(
            "nn.TransformerEncoder computes by its padding mask's values; make it with enable_nested_tensor=False"
        )
    tag = next((tag for tag in _REFUSED if tag in func.tags), None)
    if tag is not None:
        return f"{func} is {tag}"
    # Those change what a tensor is, not only what is in it.
    if func._schema.name in ("aten::set_", "aten::resize_", "aten::resize_as_", "aten::set_data"):
        return f"{func} changes a tensor's memory"
    return ""


def harmless(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether an op with these arguments does none of what its tags warn of."""
    return func in _HARMLESS and _HARMLESS[func](args, kwargs)


def reads_no_values(func: Any, args: Any, kwargs: dict[str, Any], returned: Any) -> bool:
    """Return whether shapes and dtypes of what an op returned follow from the layouts of its arguments.

    Tags don't tell: aten._pack_padded_sequence has none of the above, and takes its shape from the lengths.
    """
    if _is_trusted(func) or not any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves((args, kwargs))):
        return True
    try:
        meta_args, meta_kwargs = pytree.tree_map_only(torch.Tensor, _without_values, (args, kwargs))
        expected = func(*meta_args, **meta_kwargs)
    except Exception:
        return False  # it has no rule, or wants to look at values
    return _described(expected) == _described(returned)


def _is_trusted(func: Any) -> bool:
    if torch.Tag.out in func.tags:
        return False  # what it writes may be given another size
    if torch.Tag.core in func.tags or torch.Tag.pointwise in func.tags or func.overloadpacket.__name__ in _TRUSTED:
        return True
    # A result that is an argument, or a view of one.
    aliases = [result.alias_info for result in func._schema.returns]
    return bool(aliases) and all(alias is not None for alias in aliases)


def _without_values(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def _described(returned: Any) -> list[tuple[tuple[int, ...], torch.dtype] | None]:
    leaves = pytree.tree_leaves(returned)
    return [(tuple(leaf.shape), leaf.dtype) if isinstance(leaf, torch.Tensor) else None for leaf in leaves]


def _by_positions(args: tuple[Any, ...], _: dict[str, Any]) -> bool:
    """Return whether tensors index by positions, not by truth: the shape of the result is then known."""
    return all(item is None or item.dtype not in (torch.bool, torch.uint8) for item in args[1])


def _without_dropout(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return float(args[3] if len(args) > 3 else kwargs.get("dropout_p", 0.0)) == 0.0


_HARMLESS: dict[Any, Callable[[tuple[Any, ...], dict[str, Any]], bool]] = {
    torch.ops.aten.index.Tensor: _by_positions,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default: _without_dropout,
}
"""Ops whose tags warn of more than they do with most arguments."""
