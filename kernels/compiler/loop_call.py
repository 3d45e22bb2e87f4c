"""How a statement of a loop is called in the printed kernel: the addresses of its operands in a trip."""

from __future__ import annotations

from dataclasses import dataclass

from kernels.compiler import gemm
from kernels.compiler.gemm_print import shares as shares_of_product
from kernels.compiler.loop_fuse import chosen_plan, in_tiles
from kernels.compiler.loop_ir import Apply, Fused, Pack, Product, Statement, Window
from kernels.compiler.loop_product import plain_shape
from kernels.compiler.loop_verify import operands
from kernels.compiler.print_numba import shares as shares_of_region
from kernels.compiler.print_numba import walked

Share = tuple[str, str] | None
"""The texts of the first and the end of a thread's shares of a statement; None for all of it."""


@dataclass(frozen=True, slots=True)
class Call:
    """The call of one statement. items: in how many shares its work is done, 0 for all of it at once."""

    function: str
    statement: Statement
    items: int = 0

    def text(self, trip: str, share: Share = None) -> str:
        """Return the call in trip `trip`, of a share of the work where one is given and there are some."""
        arguments = [address(window, trip) for window in windows(self.statement)]
        if isinstance(self.statement, Product | Fused):
            arguments.append(trip)
        if self.items:
            arguments += share or ("0", str(self.items))
        return f"{self.function}({', '.join(arguments)})"


def shares(statement: Statement) -> int:
    """Return in how many shares the work of a statement can be done; 0 if it is one piece."""
    if isinstance(statement, Pack):
        return 0
    if isinstance(statement, Apply):
        return shares_of_region(walked(statement.region))
    if isinstance(statement, Fused):
        tile = in_tiles(statement)
        count = 0 if isinstance(tile, str) else shares_of_product(tile.product, chosen_plan(statement, tile))
    elif statement.dtype == "float32":
        shape = plain_shape(statement)
        count = shares_of_product(shape, gemm.plan(shape, panel=statement.panel))
    else:
        count = statement.rows
    return count if count > 1 else 0


def windows(statement: Statement) -> tuple[Window, ...]:
    """Return the windows of a statement in the order of its function's parameters."""
    if isinstance(statement, Fused):
        return tuple(operand.window for operand in operands(statement))
    if isinstance(statement, Product):
        return (*(window for term in statement.terms for window in (term.left, term.right)), statement.out)
    if isinstance(statement, Pack):
        return (statement.source, statement.out)
    return statement.windows


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
