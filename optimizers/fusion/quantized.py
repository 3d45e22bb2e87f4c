"""Quantized linear layers in a lowered graph: rows converted once for all that read them, and products as kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kernels.compiler.ir import Region
from kernels.compiler.quantized_gather_ir import QuantizedGatherKernel
from kernels.compiler.quantized_ir import FORMS, ConvertKernel, QuantizedKernel, converted_words, why_not
from kernels.quantized.cpu_epilogue import ACTIVATIONS
from kernels.quantized.cpu_rows import KINDS
from optimizers.fusion.graph import Call, Reference
from optimizers.fusion.lowering import HANDLERS, Lowering, View, handles
from optimizers.fusion.targets import KernelTarget

OP = "quantized_linear"
"""The op that optimizers.quantization registers: x, arrays of the weights, bias, then what they are."""
EMBEDDING = "quantized_embedding"
"""The op of quantized embeddings: indices, arrays of the table, then what they are."""
LIBRARY = "@product"
"""Behind the name of a node whose product stays with its op."""
_ARRAYS = 5


@dataclass(frozen=True, slots=True)
class ConvertedRows(KernelTarget):
    """What a call runs to make rows of float32 into what products of a form read; its argument is x [rows, columns]."""

    form: str
    nodes: tuple[str, ...]

    def __str__(self) -> str:
        """Return what a table of calls shows: an op's name would stand here."""
        return "hotbench.converted_rows"

    @property
    def refused(self) -> str:
        """Return what leaves it to the library: its product's name."""
        return self.nodes[-1] + LIBRARY

    def kernel(self, windows: Sequence[Reference], dtypes: Sequence[str]) -> ConvertKernel:
        """Return the kernel for windows of the rows and of the result."""
        rows, columns = windows[0].shape
        return ConvertKernel(self.form, rows, columns, windows[0].strides[0])


@dataclass(frozen=True, slots=True)
class QuantizedProduct:
    """What a call runs in the place of a quantized layer's op; its arguments are converted rows and the arrays.

    rows, columns: of the result. depth: columns of the weights.
    """

    kind: str
    rows: int
    columns: int
    depth: int
    group: int | None
    node: str

    def __str__(self) -> str:
        """Return what a table of calls shows: an op's name would stand here."""
        return "hotbench.quantized_product"


@dataclass(frozen=True, slots=True)
class QuantizedLinear:
    """A call of a QuantizedProduct, and the definition that it makes; see linear.Linear."""

    result: int
    target: QuantizedProduct
    operands: tuple[Reference, ...]

    @property
    def node(self) -> str:
        """Return the node of the captured graph."""
        return self.target.node

    @property
    def extents(self) -> tuple[int, int]:
        """Return rows and columns of the result."""
        return self.target.rows, self.target.columns

    @property
    def bias(self) -> None:
        """Return nothing: a bias is added by the region that reads the product."""
        return None

    def kernel(self, windows: Sequence[Reference], region: Region, sums: int) -> QuantizedKernel | None:
        """Return the product with a region that reads it in its buffer `sums`, if they can be one kernel."""
        target = self.target
        kernel = QuantizedKernel(target.kind, target.rows, target.columns, target.depth, target.group, region, sums)
        return None if why_not(kernel) else kernel


def quantized_linear(call: Call) -> QuantizedLinear | None:
    """Return a call of a QuantizedProduct as what the binder of products takes; None for any other call."""
    if not isinstance(call.target, QuantizedProduct):
        return None
    return QuantizedLinear(call.results[0] or 0, call.target, call.args)


@dataclass(frozen=True, slots=True)
class QuantizedEmbedding(KernelTarget):
    """What a call runs in the place of a quantized embedding's op: indices, codes, scales, and tables of codebooks.

    size: rows and columns of the table.
    """

    kind: str
    size: tuple[int, int]
    bits: int
    group: int
    nodes: tuple[str, ...]

    def __str__(self) -> str:
        """Return what a table of calls shows: an op's name would stand here."""
        return "hotbench.quantized_embedding"

    def kernel(self, windows: Sequence[Reference], dtypes: Sequence[str]) -> QuantizedGatherKernel:
        """Return the kernel for windows of the arguments and of the result."""
        index, *_, out = windows
        books = windows[3].shape[0] if self.kind == "codebook" else 1
        shape = (self.kind, dtypes[0], index.shape, *self.size, index.strides, out.strides)
        return QuantizedGatherKernel(*shape, self.bits, books, self.group)


@handles(EMBEDDING, any_dtype=True)
def _quantized_embedding(lowering: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    index, codes, scales, tables = args[:4]
    kind, rows, columns, bits, group = args[4:]
    value = node.meta["val"]
    whole = index.dtype in (torch.int32, torch.int64) and value.dtype == torch.float32 and value.is_contiguous()
    if kwargs or kind not in KINDS or not whole or not value.numel() or lowering.device != "cpu":
        return NotImplemented
    target = QuantizedEmbedding(kind, (rows, columns), bits, group, (node.name,))
    operands = [index, codes, scales, *([tables] if kind == "codebook" else [])]
    return _call(lowering, target, operands, tuple(value.shape), torch.float32)


@handles(OP, any_dtype=True)
def _quantized_linear(lowering: Lowering, node: torch.fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
    x, arrays, bias = args[0], [item for item in args[1 : 1 + _ARRAYS] if item is not None], args[1 + _ARRAYS]
    kind, columns, depth, group, activation = args[2 + _ARRAYS :]
    value = node.meta["val"]
    apart = node.name + LIBRARY in lowering.excluded or kwargs or lowering.device != "cpu"
    if apart or activation not in ACTIVATIONS or kind not in FORMS or not value.numel():
        return NotImplemented
    rows = value.numel() // columns
    converted = _converted(lowering, node.name, FORMS[kind], x, (rows, depth))
    target = QuantizedProduct(kind, rows, columns, depth, group or None, node.name)
    result = _call(lowering, target, (converted, *arrays), (rows, columns), torch.float32)
    if bias is not None:
        result = lowering.apply("add", result, bias)
    if activation != "none":
        result = _activated(lowering, node, activation, result)
    return View(result.source, result.meta.view(value.shape))


def _converted(lowering: Lowering, node: str, form: str, x: View, shape: tuple[int, int]) -> View:
    """Return x converted, as rows: the same call for all that read the same rows."""
    rows = _rows_of(lowering, x, shape)
    reference = rows.reference()
    for call in lowering.calls:
        target: Any = call.target
        if isinstance(target, ConvertedRows) and (target.form, call.args) == (form, (reference,)):
            index = call.results[0] or 0
            return View(index, torch.empty(lowering.definitions[index].shape, dtype=torch.int32, device="meta"))
    words = converted_words(form, *shape)
    return _call(lowering, ConvertedRows(form, (node,)), (rows,), (words,), torch.int32)


def _rows_of(lowering: Lowering, x: View, shape: tuple[int, int]) -> View:
    """Return x as rows whose elements are adjacent; copied where it does not lie so."""
    try:
        rows = View(x.source, x.meta.view(shape))
        stride, step = rows.meta.stride()
        if (step == 1 or shape[1] == 1) and (stride >= shape[1] or shape[0] == 1):
            return rows
    except RuntimeError:
        pass  # no view of it has this shape
    copied = lowering.apply("identity", x)
    return View(copied.source, copied.meta.view(shape))


def _call(
    lowering: Lowering, target: Any, operands: Sequence[View], shape: tuple[int, ...], dtype: torch.dtype
) -> View:
    strides = tuple(torch.empty(shape, device="meta").stride())
    result = lowering.define("call", shape, strides, dtype, number=len(lowering.calls))
    references = tuple(operand.reference() for operand in operands)
    lowering.calls.append(Call(target, references, (), (result.source,), False, False))
    return result


def _activated(lowering: Lowering, node: torch.fx.Node, activation: str, result: View) -> View:
    """Return the activation that the op applies: what the ATen op of that name lowers to."""
    if activation == "relu":
        return lowering.apply("relu", result)
    kwargs = {"approximate": "tanh"} if activation == "gelu_tanh" else {}
    applied: View = HANDLERS[activation.removesuffix("_tanh")](lowering, node, [result], kwargs)
    return applied
