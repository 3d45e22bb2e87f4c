"""The kinds of kernels that there are, in plain sight: how each is checked, printed and computed by NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.lib.stride_tricks import as_strided

from kernels.compiler.attention_ir import AttentionKernel, verify_attention
from kernels.compiler.attention_print import print_attention
from kernels.compiler.attention_reference import evaluate_attention
from kernels.compiler.convolution_ir import ConvolutionKernel, verify_convolution
from kernels.compiler.convolution_print import print_convolution
from kernels.compiler.convolution_reference import evaluate_convolution
from kernels.compiler.gather_ir import GatherKernel, verify_gather
from kernels.compiler.gather_print import print_gather
from kernels.compiler.gather_reference import evaluate_gather
from kernels.compiler.ir import Region
from kernels.compiler.loop_ir import LoopProgram
from kernels.compiler.loop_verify import verify_loop
from kernels.compiler.print_loop import print_loop
from kernels.compiler.print_numba import PACKAGE, print_kernel
from kernels.compiler.product_ir import ProductKernel, verify_product
from kernels.compiler.product_print import print_product_kernel
from kernels.compiler.product_reference import evaluate_product
from kernels.compiler.quantized_gather_ir import QuantizedGatherKernel, verify_quantized_gather
from kernels.compiler.quantized_gather_print import print_quantized_gather
from kernels.compiler.quantized_ir import ConvertKernel, QuantizedKernel, verify_convert, verify_quantized
from kernels.compiler.quantized_print import print_convert, print_quantized
from kernels.compiler.quantized_reference import evaluate_convert, evaluate_quantized, evaluate_quantized_gather
from kernels.compiler.reference import evaluate
from kernels.compiler.verify import verify

Body = (
    Region
    | ProductKernel
    | ConvolutionKernel
    | AttentionKernel
    | GatherKernel
    | ConvertKernel
    | QuantizedGatherKernel
    | QuantizedKernel
)
"""What one kernel computes; each has a `key()` and `buffers`."""
Array = np.ndarray[Any, np.dtype[Any]]


class Printed(Protocol):
    """Prints the module of a kernel: its function `name`, and what stands before the modules that it imports from."""

    def __call__(self, kernel: Any, /, name: str, prefix: str = PACKAGE) -> str:
        """Return the source."""
        ...


@dataclass(frozen=True, slots=True)
class Kind:
    """What the compiler does with one type of kernel.

    name:     what people call it; names in programs begin with it.
    verify:   raises IrError if a kernel breaks a rule.
    evaluate: the NumPy interpreter (kernel, flat arrays, in float64); None where memory is addressed in bytes.
    sources:  modules of this package, as patterns, that the machine code is made from beside those of regions.
    cut_by_machine: whether the text says more than the kernel's key, as how a product is cut for this processor.
    serial_reason: why a kernel whose text has no shares for threads runs on one.
    """

    name: str
    verify: Callable[[Any], None]
    printed: Printed
    evaluate: Callable[[Any, Sequence[Array], bool], None] | None
    sources: tuple[str, ...] = ()
    cut_by_machine: bool = False
    serial_reason: str = "it is too small, or one piece: threads would slow it down"


def _convolved(kernel: ConvolutionKernel, arrays: Sequence[Array], _exact: bool) -> None:
    image, weight, out = arrays
    result = evaluate_convolution(kernel, image, weight)
    as_strided(out, result.shape, [out.itemsize * step for step in (*kernel.out_strides, 1)])[...] = result


def _attended(kernel: AttentionKernel, arrays: Sequence[Array], _exact: bool) -> None:
    evaluate_attention(kernel, arrays)


def _text(print_one: Callable[..., Any]) -> Printed:
    """Return a printer whose result is the text alone."""

    def printed(kernel: Any, name: str, prefix: str = PACKAGE) -> str:
        return str(print_one(kernel, name, prefix=prefix).text)

    return printed


KINDS: Mapping[type, Kind] = {
    Region: Kind("region", verify, _text(print_kernel), evaluate),
    ProductKernel: Kind(
        "product", verify_product, _text(print_product_kernel), evaluate_product, ("gemm*.py", "product_*.py"), True
    ),
    ConvolutionKernel: Kind(
        "convolution",
        verify_convolution,
        _text(print_convolution),
        _convolved,
        ("gemm*.py", "depthwise_*.py", "dense_*.py", "convolution_*.py", "vector_loop.py"),
        True,
    ),
    AttentionKernel: Kind(
        "attention", verify_attention, _text(print_attention), _attended, ("gemm*.py", "attention_*.py"), True
    ),
    GatherKernel: Kind(
        "gather",
        verify_gather,
        _text(print_gather),
        evaluate_gather,
        ("gather_*.py",),
        serial_reason="copying rows takes as long as memory does, on any number of threads",
    ),
    QuantizedGatherKernel: Kind(
        "rows",
        verify_quantized_gather,
        _text(print_quantized_gather),
        evaluate_quantized_gather,
        ("gather_*.py", "quantized_*.py", "../quantized/cpu_*.py"),
        serial_reason="copying rows takes as long as memory does, on any number of threads",
    ),
    ConvertKernel: Kind(
        "conversion",
        verify_convert,
        _text(print_convert),
        evaluate_convert,
        ("quantized_*.py", "../quantized/cpu_*.py", "gemm*.py"),
        True,
        "converting rows takes a hundredth of the product that reads them",
    ),
    QuantizedKernel: Kind(
        "quantized",
        verify_quantized,
        _text(print_quantized),
        evaluate_quantized,
        ("quantized_*.py", "../quantized/cpu_*.py", "gemm*.py"),
        True,
    ),
    LoopProgram: Kind("loop", verify_loop, print_loop, None, ("loop_*.py", "print_loop.py", "gemm*.py")),
}

SHARED_LOOP = replace(KINDS[LoopProgram], name="loop shared", printed=partial(print_loop, shared=True))
"""What a loop is compiled as where several threads are there to share its trips."""


ALONE: Mapping[type, Kind] = {
    kind: replace(
        KINDS[kind],
        name=f"{KINDS[kind].name} alone",
        printed=_text(partial(print_one, alone=True)),
        serial_reason="it was made for one thread",
    )
    for kind, print_one in ((Region, print_kernel), (ProductKernel, print_product_kernel))
}
"""What kernels are compiled as for one thread, where what several of them would run takes long to compile."""


def kind_of(kernel: object) -> Kind:
    """Return the kind of a kernel. Raises KeyError for what is none."""
    return KINDS[type(kernel)]


def kernel_name(kernel: Body | LoopProgram) -> str:
    """Return the name under which a kernel is known in a program's source."""
    return f"{kind_of(kernel).name}_{kernel.key()[:12]}"
