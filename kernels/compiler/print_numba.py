"""Region -> the Python source of one Numba CPU kernel, meant to be read in a report as well as compiled."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import ModuleType

from kernels.compiler import intrinsics, prelude
from kernels.compiler.ir import Region
from kernels.compiler.nest import Nest, nest, work
from kernels.compiler.passes import simplify, tile_axes
from kernels.compiler.print_columns import print_columns, tiles
from kernels.compiler.print_points import print_points
from kernels.compiler.print_rows import print_rows
from kernels.compiler.source import Source, op_list

PACKAGE = "kernels.compiler."
PARALLEL_WORK = 120_000.0
"""Elementary operations from which a kernel can be shared out to threads; below, starting them costs more."""
LEAST_SIDE_BY_SIDE = 12_000.0
"""Elementary operations below which a kernel of its own takes about as long as its call: its text is kept short."""

_HEADER = '''"""{title}

{ops}
"""

import math

import numba
{imports}

'''
_PARALLEL = """

@numba.njit("void({addresses})", {options})
def {name}({parameters}):
    {name}_range({parameters}, 0, {items})


@numba.cfunc("void(int64)", cache=True)
def {name}_share(task):
    threads = call_integer(load_int64(task, 0, 0))
    thread = call_integer(load_int64(task, 1, 0))
    {name}_range({loads}, {items} * thread // threads, {items} * (thread + 1) // threads)


@numba.njit("void({signature})", {options})
def {name}_parallel({parameters}, runtime, share, threads):
    task = stack({task_bytes})
    store_int64(task, 0, load_int64(runtime, 1, 0), 0)
    store_int64(task, 1, load_int64(runtime, 2, 0), 0)
{stores}
    call_parallel(load_int64(runtime, 0, 0), share, task, threads)
"""


@dataclass(frozen=True, slots=True)
class Printed:
    """The source of a kernel.

    items: how many equal shares the work divides into; 0: always serial. Where it is above 0, `NAME_range` (a share
           of the work), `NAME_share` (one thread's) and `NAME_parallel` stand beside the kernel.
    """

    text: str
    items: int


def print_numba(region: Region, function_name: str, prefix: str = PACKAGE) -> str:
    """Return the source of a module with the function `function_name(address of each buffer, …)`.

    prefix: what stands before `intrinsics` and `prelude`, the modules that it imports from: a package, or the start
            of the names of copies.
    """
    return print_kernel(region, function_name, prefix).text


def print_kernel(region: Region, function_name: str, prefix: str = PACKAGE, alone: bool = False) -> Printed:
    """Return the source and how its work is shared out; alone: for one thread, which compiles in half the time."""
    loops = walked(region)
    operations = work(loops.region)
    items = shares(loops) if operations >= PARALLEL_WORK and not alone else 0
    if operations < LEAST_SIDE_BY_SIDE:
        loops = replace(loops, brief=True)
    parameters = [f"b{k}" for k in range(len(region.buffers))]
    source = Source()
    arguments = [*parameters, *(["begin", "end"] if items else [])]
    source.line(f'@numba.njit("void({signature(len(arguments))})", {_OPTIONS})')
    defined = f"{function_name}_range" if items else function_name
    with source.block(f"def {defined}({', '.join(arguments)}):"):
        kernel_body(loops)(source, loops, items > 0)
        source.line("return")
    text = source.text() + (parallel_source(function_name, parameters, items) if items else "")
    title = f"Region {region.key()}."
    imports = "\n".join(import_line(module, prefix, text) for module in (intrinsics, prelude))
    header = _HEADER.format(title=title, ops="\n".join(op_list(region)), imports=imports)
    return Printed(header + text, items)


def walked(region: Region) -> Nest:
    """Return the loop nest that is printed for a region."""
    return nest(tile_axes(simplify(region)))


def shares(loops: Nest) -> int:
    """Return how many equal shares the work divides into; 0 if it is one piece."""
    region = loops.region
    if region.reduced:
        extents = list(region.outer)
        if loops.columns is not None:
            extents[-1] = tiles(region)
    else:
        extents = list(region.domain if len(region.domain) == 1 else region.domain[:-1])
    count = 1
    for extent in extents:
        count *= extent
    return count if count > 1 else 0


_OPTIONS = 'cache=True, nogil=True, error_model="numpy", boundscheck=False'


def import_line(module: ModuleType, prefix: str, text: str) -> str:
    """Return the line that imports what `text` uses of a module."""
    public = [name for name, value in vars(module).items() if name[0] != "_" and not isinstance(value, ModuleType)]
    own = [name for name in public if module is intrinsics or not hasattr(intrinsics, name)]
    names = sorted(name for name in own if re.search(rf"\b{name}\b", text))
    short = module.__name__.rpartition(".")[2]
    return f"from {prefix}{short} import {', '.join(names)}" if names else f"import {prefix}{short}"


def signature(count: int) -> str:
    """Return the types of `count` addresses."""
    return ", ".join(["int64"] * count)


def kernel_body(loops: Nest) -> Callable[[Source, Nest, bool], None]:
    """Return what prints the body of a kernel: `print(source, nest, shared)`."""
    if not loops.region.reduced:
        return print_points
    return print_rows if loops.columns is None else print_columns


def parallel_source(name: str, parameters: Sequence[str], items: int) -> str:
    """Return what runs `NAME_range(addresses, begin, end)` on one thread, or on several with a share of items each."""
    slots = [f"    store_int64(task, {k + 2}, {parameter}, 0)" for k, parameter in enumerate(parameters)]
    return _PARALLEL.format(
        name=name,
        options=_OPTIONS,
        addresses=signature(len(parameters)),
        items=items,
        parameters=", ".join(parameters),
        signature=signature(len(parameters) + 3),
        loads=", ".join(f"load_int64(task, {k + 2}, 0)" for k in range(len(parameters))),
        stores="\n".join(slots),
        task_bytes=8 * (len(parameters) + 2),
    )
