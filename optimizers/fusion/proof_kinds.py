"""What a proof asks of a kernel: whether NumPy can compute it in float64, and how much work that is."""

from __future__ import annotations

import math
from typing import Any

from kernels.compiler.attention_ir import AttentionKernel
from kernels.compiler.ir import Region
from kernels.compiler.kinds import KINDS
from kernels.compiler.loop_ir import Apply, LoopProgram, Product, parts
from kernels.compiler.product_ir import ProductKernel
from optimizers.fusion.replay import Body

_TERMS_A_VALUE = 16
"""So many terms of a product take NumPy as long as one value of a region."""


def provable(kernel: object) -> bool:
    """Return whether there is an interpreter in float64 for a kernel of this kind."""
    return type(kernel) in KINDS


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
