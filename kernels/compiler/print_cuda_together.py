"""Several kernels that do not depend on each other as one: each takes a range of the blocks.

A kernel that is small for its device leaves most multiprocessors idle, and the next one waits until it is over. As
ranges of blocks of one launch they run side by side. Where the ranges end is told at the launch, so that one compiled
kernel serves every device. The parts' text is taken as it was printed: what asks for the place in the grid is answered
for the part's own blocks, and every name of a part gets the part's number.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

from kernels.compiler.ir import IrError
from kernels.compiler.print_cuda_unit import indented
from kernels.cuda.kernel import KernelSource

ENTRY = "together"
FLEXIBLE_THREADS = 128
"""Of a block of parts that work with any number of warps: small kernels fill more multiprocessors with small blocks."""
LARGEST_MIXED_THREADS = 256
"""A part that was printed for small blocks may need more registers than a thread of a larger one has."""


def block_threads(sources: Sequence[KernelSource]) -> int | None:
    """Return the threads of a block in which all the kernels can run, None where there is no such number."""
    exact = {source.threads for source in sources if source.exact_threads}
    if not exact:
        return FLEXIBLE_THREADS
    threads = exact.pop()
    if exact or threads is None:
        return None
    mixed = any(not source.exact_threads for source in sources)
    return None if mixed and threads > LARGEST_MIXED_THREADS else threads


def print_together(sources: Sequence[KernelSource]) -> KernelSource:
    """Return the kernel that does what the sources do, in any order: no part may read or write what another writes.

    Its addresses are those of the parts one after the other, its numbers the block at which each part but the last
    ends; a launch has a block at least for each part, and exactly block_threads(sources) threads a block.
    Raises IrError where no size of a block suits all, and for kernels with numbers or grid barriers of their own.
    """
    threads = block_threads(sources)
    if threads is None:
        sizes = ", ".join(str(source.threads) for source in sources)
        raise IrError(f"kernels with blocks of {sizes} threads do not fit one launch; launch them one by one")
    if any(source.scalars or source.cooperative for source in sources):
        raise IrError("a kernel with numbers or a grid barrier of its own takes no range of blocks; launch it alone")
    parts = [_Part(source.text, number) for number, source in enumerate(sources)]
    hosts = [_Part(source.host_text, number) for number, source in enumerate(sources)]
    ends = [f"end{number}" for number in range(len(sources) - 1)]
    return KernelSource(
        entry=ENTRY,
        text="\n".join([_head(parts, ends), *indented(_device_lines(parts)), ""]),
        host_text=_host_text(hosts, ends),
        alignment=tuple(needed for source in sources for needed in source.alignment),
        work_items=sum(-(-source.work_items // threads) for source in sources) * threads,
        scalars=len(ends),
        threads=threads,
        exact_threads=True,
    )


class _Part:
    """One kernel's text, its names numbered."""

    def __init__(self, text: str, number: int) -> None:
        module = ast.parse(text)
        self.imports = [ast.unparse(node) for node in module.body if isinstance(node, ast.Import)]
        function = next(node for node in module.body if isinstance(node, ast.FunctionDef))
        parameters = [argument.arg for argument in function.args.args]
        stored = (node.id for node in ast.walk(function) if isinstance(node, ast.Name) and _is_stored(node))
        self.number = number
        renamed = _Numbered(frozenset((*parameters, *stored)), number)
        self.parameters = [f"{name}_p{number}" for name in parameters]
        body = [renamed.visit(statement) for statement in function.body]
        self.lines = [line for statement in body for line in ast.unparse(statement).splitlines()]

    def place(self, first: str, last: str) -> list[str]:
        """Return the lines that set the part's own place in its own grid: blocks from `first` up to `last`."""
        n = self.number
        lines = [f"own_block{n} = block - {first}" if first != "0" else f"own_block{n} = block"]
        lines += [f"own_blocks{n} = {last} - {first}" if first != "0" else f"own_blocks{n} = {last}"]
        lines += [f"own_thread{n} = own_block{n} * int64(cuda.blockDim.x) + int64(cuda.threadIdx.x)"]
        return [*lines, f"own_threads{n} = own_blocks{n} * int64(cuda.blockDim.x)"]


class _Numbered(ast.NodeTransformer):
    """Gives the names of a part its number, and answers what asks for the place in the grid."""

    def __init__(self, names: frozenset[str], number: int) -> None:
        self.names, self.number = names, number
        self.places = {
            "cuda.grid(1)": f"own_thread{number}",
            "cuda.gridsize(1)": f"own_threads{number}",
            "cuda.blockIdx.x": f"own_block{number}",
            "cuda.gridDim.x": f"own_blocks{number}",
        }

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """Return the name with the part's number, if it is one of the part's."""
        return ast.Name(f"{node.id}_p{self.number}", node.ctx) if node.id in self.names else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Return the part's own thread or number of threads where a call asks for the grid's."""
        return self._placed(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """Return the part's own block or number of blocks where the grid's is meant."""
        return self._placed(node)

    def _placed(self, node: ast.expr) -> ast.AST:
        place = self.places.get(ast.unparse(node))
        return ast.Name(place, ast.Load()) if place else self.generic_visit(node)


def _is_stored(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


def _head(parts: Sequence[_Part], ends: Sequence[str]) -> str:
    return f"def {ENTRY}({', '.join([*(name for part in parts for name in part.parameters), *ends])}):"


def _device_lines(parts: Sequence[_Part]) -> list[str]:
    """Return the body: each part under the condition that the block is one of its own."""
    lines, last = ["block = int64(cuda.blockIdx.x)"], len(parts) - 1
    for part in parts:
        first = f"end{part.number - 1}" if part.number else "0"
        end = f"end{part.number}" if part.number < last else "int64(cuda.gridDim.x)"
        condition = f"if block < {end}:" if part.number == 0 else f"elif block < {end}:"
        lines += [condition if last else "if True:", *indented([*part.place(first, end), *part.lines])]
    return lines


def _host_text(parts: Sequence[_Part], ends: Sequence[str]) -> str:
    """Return the parts as one host thread runs them, one after the other."""
    imports = sorted({line for part in parts for line in part.imports})
    head = [*imports, "", ""] if imports else []
    return "\n".join([*head, _head(parts, ends), *indented(line for part in parts for line in part.lines), ""])
