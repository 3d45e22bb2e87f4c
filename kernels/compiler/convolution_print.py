"""ConvolutionKernel -> the Python source of its Numba kernel."""

from __future__ import annotations

from kernels.compiler import convolution_tile, depthwise_tile, gemm_transpose, intrinsics
from kernels.compiler.convolution_ir import ConvolutionKernel
from kernels.compiler.dense_print import DensePrinter
from kernels.compiler.depthwise_print import DepthwisePrinter
from kernels.compiler.gemm_target import Target, host_target
from kernels.compiler.print_numba import PACKAGE, Printed, import_line, parallel_source, signature
from kernels.compiler.source import Source

PARALLEL_FLOPS = 3_000_000
"""Of a convolution that is worth sharing out to threads: some 40 us of one."""
_OPTIONS = 'cache=True, nogil=True, error_model="numpy", boundscheck=False'
_PARAMETERS = ["image", "weight", "out"]
_HEADER = '''"""{title}"""

import math

import numba
{imports}

'''


def print_convolution(
    kernel: ConvolutionKernel, name: str, prefix: str = PACKAGE, target: Target | None = None
) -> Printed:
    """Return the source of a module with the function `name(image, weight, out)`, and how it is shared out.

    prefix: what stands before the modules that it imports from, as in print_numba. target: default this machine.
    """
    chosen = target or host_target()
    printer = DepthwisePrinter(kernel, chosen) if kernel.depthwise else DensePrinter(kernel, chosen)
    items = printer.items if printer.items > 1 and kernel.flops >= PARALLEL_FLOPS else 0
    arguments = [*_PARAMETERS, *(["begin", "end"] if items else [])]
    body = Source()
    with body.block(f"def {name}{'_range' if items else ''}({', '.join(arguments)}):"):
        printer.print(body, ("begin", "end") if items else ("0", str(printer.items)))
        body.line("return")
    source = Source()
    for line in (*printer.definitions, "", "", f'@numba.njit("void({signature(len(arguments))})", {_OPTIONS})'):
        source.line(line)
    text = source.text() + body.text()
    if items:
        text += parallel_source(name, _PARAMETERS, items)
    return Printed(_header(kernel, prefix, text) + text.lstrip("\n"), items)


def _header(kernel: ConvolutionKernel, prefix: str, text: str) -> str:
    modules = [intrinsics]
    marks = ((depthwise_tile, "depthwise_"), (convolution_tile, "convolution_tile("), (gemm_transpose, "gemm_tr"))
    modules += [module for module, mark in marks if mark in text]
    lines = [import_line(module, prefix, text) for module in modules]
    if "int64(" in text or "float32(" in text:
        lines.append("from numpy import float32, int64")
    rows, columns = kernel.rows, kernel.columns
    title = (
        f"Convolution {kernel.key()}: {kernel.groups} groups of {kernel.inputs} -> {kernel.results} channels, "
        f"window {rows.window} x {columns.window}, {rows.results} x {columns.results} results."
    )
    return _HEADER.format(title=title, imports="\n".join(lines))
