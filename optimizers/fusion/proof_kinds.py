"""The kinds of kernels that a proof can compute in float64: an interpreter for each, and how much work it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from kernels.compiler.attention_ir import AttentionKernel
from kernels.compiler.attention_reference import evaluate_attention
from kernels.compiler.convolution_ir import ConvolutionKernel
from kernels.compiler.convolution_reference import evaluate_convolution
from kernels.compiler.gather_ir import GatherKernel
from kernels.compiler.gather_reference import evaluate_gather
from kernels.compiler.ir import Region
from kernels.compiler.loop_ir import Apply, LoopProgram, Product, parts
from kernels.compiler.product_ir import ProductKernel
from kernels.compiler.product_reference import evaluate_product
from kernels.compiler.reference import evaluate
from optimizers.fusion.replay import Body

Array = np.ndarray[Any, np.dtype[Any]]
_TERMS_A_VALUE = 16
"""So many terms of a product take NumPy as long as one value of a region."""


def _depthwise(kernel: ConvolutionKernel, arrays: Sequence[Array], _exact: bool) -> None:
    image, weight, out = arrays
    result = evaluate_convolution(kernel, image, weight)
    as_strided(out, result.shape, [out.itemsize * step for step in (*kernel.out_strides, 1)])[...] = result


EVALUATORS: Mapping[type, Callable[[Any, Sequence[Array], bool], None]] = {
    Region: evaluate,
    ProductKernel: evaluate_product,
    ConvolutionKernel: _depthwise,
    AttentionKernel: lambda kernel, arrays, _exact: evaluate_attention(kernel, arrays),
    GatherKernel: evaluate_gather,
}
"""The interpreter of each kind that works on one array a buffer: (kernel, flat arrays, in float64)."""
NAMES: Mapping[type, str] = {
    Region: "region",
    ProductKernel: "product",
    ConvolutionKernel: "convolution",
    AttentionKernel: "attention",
    GatherKernel: "gather",
    LoopProgram: "loop",
}
"""What people call each kind."""


def provable(kernel: object) -> bool:
    """Return whether there is an interpreter in float64 for a kernel of this kind."""
    return isinstance(kernel, (*EVALUATORS, LoopProgram))


def kind_of(kernel: object) -> str:
    """Return what people call the kind of a kernel."""
    return NAMES.get(type(kernel)) or type(kernel).__name__.removesuffix("Kernel").lower()


def work_of(kernel: Body) -> int:
    """Return about how many values NumPy computes for one call."""
    if isinstance(kernel, Region):
        return math.prod(kernel.domain) * len(kernel.values)
    if isinstance(kernel, ProductKernel):
        return kernel.rows * kernel.columns * kernel.depth // _TERMS_A_VALUE + work_of(kernel.region)
    if isinstance(kernel, AttentionKernel):
        return kernel.flops // (2 * _TERMS_A_VALUE)
    if isinstance(kernel, LoopProgram):
        return kernel.trips * sum(_statement_work(part) for item in kernel.body for part in parts(item))
    return sum(buffer.elements for buffer in kernel.buffers)


def _statement_work(statement: Any) -> int:
    if isinstance(statement, Apply):
        return work_of(statement.region)
    if isinstance(statement, Product):
        terms = sum(term.depth for term in statement.terms)
        return statement.rows * statement.columns * terms // _TERMS_A_VALUE
    return 0
