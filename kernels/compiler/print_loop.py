"""LoopProgram -> the Python source of one Numba kernel: a function for each statement, and the loop that calls them."""

from __future__ import annotations

from dataclasses import replace

from kernels.compiler import gemm_tile, gemm_transpose, intrinsics, loop_barrier, prelude
from kernels.compiler.ir import IrError
from kernels.compiler.loop_call import Call, Share, shares
from kernels.compiler.loop_fuse import buffer_of, in_tiles, print_fused_statement
from kernels.compiler.loop_ir import Apply, Fused, LoopProgram, Pack, Statement
from kernels.compiler.loop_product import INLINE, print_pack, print_product
from kernels.compiler.loop_scopes import alias_scopes
from kernels.compiler.loop_shared import print_shared
from kernels.compiler.print_numba import PACKAGE, import_line, kernel_body, signature, walked
from kernels.compiler.source import Source, op_list

_HEADER = '''"""{title}"""

import math

import numba
{imports}

'''
PRODUCT_MODULES = ("gemm_tile", "gemm_transpose", "gemm_depth", "gemm_vector")
"""What a loop with products imports beside intrinsics and prelude, itself or through each other."""
_IMPORTS = (
    (intrinsics, ""),
    (prelude, ""),
    (gemm_tile, "gemm_"),
    (gemm_transpose, "gemm_transpose("),
    (loop_barrier, "wait_for_all("),
)
"""Modules, and the text for which each is needed."""
_OPTIONS = 'cache=True, nogil=True, error_model="numpy", boundscheck=False'


def print_loop(program: LoopProgram, name: str, prefix: str = PACKAGE, shared: bool = False) -> str:
    """Return the source of a module with the function `name(address of each buffer, …)`.

    prefix: what stands before the modules that it imports from, as in print_numba. shared: with `NAME_parallel` and
    `NAME_share` beside it, for several threads.
    """
    source, scopes = Source(), alias_scopes(program)
    functions: dict[str, str] = {}
    """The name of each distinct statement's function, by its text."""
    statements = (*program.prologue, *program.body)
    items = [shares(statement) if shared else 0 for statement in statements]
    calls = [call_of(source, functions, k, each, scopes[k], items[k]) for k, each in enumerate(statements)]
    parameters = [f"p{k}" for k in range(len(program.buffers))]
    source.line(f'@numba.njit("void({signature(len(parameters))})", {_OPTIONS})')
    with source.block(f"def {name}({', '.join(parameters)}):"):
        for call in calls[: len(program.prologue)]:
            source.line(call.text("-1"))
        with source.block(f"for trip in range({program.trips}):"):
            for call in calls[len(program.prologue) :]:
                source.line(call.text("trip"))
    if shared:
        print_shared(source, name, program, calls)
    text = source.text()
    imports = "\n".join(import_line(module, prefix, text) for module, word in _IMPORTS if word in text)
    return _HEADER.format(title=f"Loop {program.key()}, {program.trips} trips.", imports=imports) + text


def call_of(
    source: Source,
    functions: dict[str, str],
    position: int,
    statement: Statement,
    scopes: tuple[int, ...],
    items: int = 0,
) -> Call:
    """Print the function of a statement, if no other has its text; return how it is called.

    functions: the name of each distinct function, by its text. items: in how many shares its work is done, 0 for all
    of it at once.
    """
    inner = Source()
    name, share = "NAME", ("begin", "end") if items else None
    if isinstance(statement, Apply):
        _region(inner, name, statement, scopes, share)
    elif isinstance(statement, Fused):
        _fused(inner, name, statement, scopes, share)
    elif isinstance(statement, Pack):
        print_pack(inner, name, statement, scopes)
    else:
        print_product(inner, name, statement, scopes, share)
    text = inner.text().rstrip("\n")
    if text not in functions:
        functions[text] = f"statement{position}"
        source.line(text.replace("NAME", functions[text]))
        source.line("")
        source.line("")
    return Call(functions[text], statement, items)


def _region(source: Source, name: str, statement: Apply, scopes: tuple[int, ...], share: Share) -> None:
    buffers = zip(statement.region.buffers, scopes, strict=True)
    region = replace(statement.region, buffers=tuple(replace(buffer, scope=scope) for buffer, scope in buffers))
    parameters = [*(f"b{k}" for k in range(len(region.buffers))), *(share or ())]
    source.line(INLINE)
    with source.block(f"def {name}({', '.join(parameters)}):"):
        for line in op_list(region):
            source.line(f"# {line}")
        loops = walked(region)
        kernel_body(loops)(source, loops, share is not None)
        source.line("return")


def _fused(source: Source, name: str, statement: Fused, scopes: tuple[int, ...], share: Share) -> None:
    tile = in_tiles(statement)
    if isinstance(tile, str):
        raise IrError(f"a fused statement that cannot be one: {tile}")
    factors = 2 * len(tile.product.terms)
    own = {buffer_of(statement, product) for product in statement.products}
    others = [k for k in range(len(tile.region.buffers)) if k not in own]
    given = dict(zip(others, scopes[factors:-1], strict=True))
    region = replace(
        tile.region,
        buffers=tuple(replace(buffer, scope=given.get(k, scopes[-1])) for k, buffer in enumerate(tile.region.buffers)),
    )
    inner = Source()
    definitions = print_fused_statement(inner, name, statement, replace(tile, region=region), scopes, share)
    for line in definitions:
        source.line(line.rstrip("\n"))
    parameters = [f"{side}{k}" for k in range(factors // 2) for side in ("left", "right")]
    source.line(INLINE)
    with source.block(f"def {name}({', '.join([*parameters, *(f'b{k}' for k in others), 'trip', *(share or ())])}):"):
        for line in op_list(tile.region):
            source.line(f"# {line}")
        for line in inner.lines:
            source.line(line)
        source.line("return")
