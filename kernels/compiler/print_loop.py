"""LoopProgram -> the Python source of one Numba kernel: a function for each statement, and the loop that calls them."""

from __future__ import annotations

from dataclasses import replace

from kernels.compiler import gemm_tile, intrinsics, prelude
from kernels.compiler.loop_ir import Apply, LoopProgram, Pack, Product, Statement, Window
from kernels.compiler.loop_product import INLINE, print_pack, print_product
from kernels.compiler.loop_scopes import alias_scopes
from kernels.compiler.print_numba import PACKAGE, import_line, kernel_body, signature, walked
from kernels.compiler.source import Source, op_list

_HEADER = '''"""{title}"""

import math

import numba
{imports}

'''
PRODUCT_MODULES = ("gemm_tile", "gemm_depth", "gemm_vector")
"""What a loop with products imports beside intrinsics and prelude, itself or through each other."""
_OPTIONS = 'cache=True, nogil=True, error_model="numpy", boundscheck=False'


def print_loop(program: LoopProgram, name: str, prefix: str = PACKAGE) -> str:
    """Return the source of a module with the function `name(address of each buffer, …)`.

    prefix: what stands before the modules that it imports from, as in print_numba.
    """
    source, scopes = Source(), alias_scopes(program)
    functions: dict[str, str] = {}
    """The name of each distinct statement's function, by its text."""
    calls = [
        _call(source, functions, position, statement, scopes[position])
        for position, statement in enumerate((*program.prologue, *program.body))
    ]
    parameters = [f"p{k}" for k in range(len(program.buffers))]
    source.line(f'@numba.njit("void({signature(len(parameters))})", {_OPTIONS})')
    with source.block(f"def {name}({', '.join(parameters)}):"):
        for call in calls[: len(program.prologue)]:
            source.line(call("-1"))
        with source.block(f"for trip in range({program.trips}):"):
            for call in calls[len(program.prologue) :]:
                source.line(call("trip"))
    text = source.text()
    imports = "\n".join(
        import_line(module, prefix, text)
        for module in (intrinsics, prelude, gemm_tile)
        if module is not gemm_tile or "gemm_" in text
    )
    return _HEADER.format(title=f"Loop {program.key()}, {program.trips} trips.", imports=imports) + text


class _Caller:
    """The call of one statement, given the trip."""

    def __init__(self, function: str, statement: Statement) -> None:
        self.function = function
        self.statement = statement

    def __call__(self, trip: str) -> str:
        arguments = [address(window, trip) for window in windows(self.statement)]
        if isinstance(self.statement, Product):
            arguments.append(trip)
        return f"{self.function}({', '.join(arguments)})"


def _call(
    source: Source, functions: dict[str, str], position: int, statement: Statement, scopes: tuple[int, ...]
) -> _Caller:
    inner = Source()
    name = "NAME"
    if isinstance(statement, Apply):
        _region(inner, name, statement, scopes)
    elif isinstance(statement, Pack):
        print_pack(inner, name, statement, scopes)
    else:
        print_product(inner, name, statement, scopes)
    text = inner.text().rstrip("\n")
    if text not in functions:
        functions[text] = f"statement{position}"
        source.line(text.replace("NAME", functions[text]))
        source.line("")
        source.line("")
    return _Caller(functions[text], statement)


def windows(statement: Statement) -> tuple[Window, ...]:
    """Return the windows of a statement in the order of its function's parameters."""
    if isinstance(statement, Product):
        return (*(window for term in statement.terms for window in (term.left, term.right)), statement.out)
    if isinstance(statement, Pack):
        return (statement.source, statement.out)
    return statement.windows


def _region(source: Source, name: str, statement: Apply, scopes: tuple[int, ...]) -> None:
    buffers = zip(statement.region.buffers, scopes, strict=True)
    region = replace(statement.region, buffers=tuple(replace(buffer, scope=scope) for buffer, scope in buffers))
    parameters = ", ".join(f"b{k}" for k in range(len(region.buffers)))
    source.line(INLINE)
    with source.block(f"def {name}({parameters}):"):
        for line in op_list(region):
            source.line(f"# {line}")
        loops = walked(region)
        kernel_body(loops)(source, loops, False)
        source.line("return")


def address(window: Window, trip: str) -> str:
    """Return the address at which a window begins in trip `trip`, as source text."""
    terms = [f"p{window.buffer}"]
    fixed = trip == "-1"
    offset = window.begin(-1) if fixed else window.offset
    if offset:
        terms.append(str(offset))
    if window.step and not fixed:
        terms.append(f"{window.step} * {trip}")
    if window.alternate and not fixed:
        parity = f"({trip} & 1)" if window.phase % 2 == 0 else f"(1 - ({trip} & 1))"
        terms.append(f"{window.alternate} * {parity}")
    return " + ".join(terms)
