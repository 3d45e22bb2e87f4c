"""A matrix product as lines of a generated kernel: loops over its tiles, and what is done with each while it is hot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from kernels.compiler.gemm import Plan, Product, Term
from kernels.compiler.gemm_pack import Panels, panels, rounded
from kernels.compiler.ir import IrError
from kernels.compiler.source import Source


@dataclass(frozen=True, slots=True)
class Place:
    """Memory of a generated kernel: the text of its address in bytes, and its alias scope (see intrinsics.py)."""

    address: str
    scope: int


@dataclass(frozen=True, slots=True)
class Into:
    """The sums go to memory as they are: strides (row, group, column); accumulate: added to what is there."""

    place: Place
    strides: tuple[int, int, int]
    accumulate: bool = False


@dataclass(frozen=True, slots=True)
class Point:
    """Where an epilogue stands: the texts of row and column, and the name of each group's sum (float32)."""

    row: str
    column: str
    sums: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Epilogue:
    """Each tile goes through `body`, which prints what is done with the sums of one row and column.

    It stands in the innermost loop, over adjacent columns, that LLVM vectorises: no branches there. The tile is handed
    over in a few hundred bytes of stack, which stay in the first-level cache; `scope` is their alias scope.
    """

    body: Callable[[Source, Point], None]
    scope: int


def print_product(
    source: Source,
    name: str,
    product: Product,
    chosen: Plan,
    operands: Sequence[tuple[Place, Place]],
    to: Into | Epilogue,
    share: tuple[str, str] | None = None,
    reverse: str = "",
) -> tuple[str, ...]:
    """Print the product where `source` stands; return the lines that belong at the module's top, below its imports.

    name:     what its variables and functions begin with, unlike any other name of the kernel.
    operands: where A and B of each term lie (B in panels where its Term says so).
    share:    texts of the first and the end of the shares of work that this thread does, out of `shares`; default all.
    reverse:  text of an int, 0 or 1; at 1 the full panels are taken from the last to the first. Where the same weights
              are multiplied step after step, as `t & 1` it finds in the cache what the step before read last.
    The module imports gemm_tile and gemm_dots from gemm_tile, and load_float32, store_float32 and stack from
    intrinsics. Raises IrError if the operands are not as many as the terms.
    """
    if len(operands) != len(product.terms):
        raise IrError(f"{name} has {len(product.terms)} terms and {len(operands)} operands; give A and B of each term")
    printer = _Printer(source, name, product, chosen, tuple(operands), to, share, reverse)
    if chosen.form == "loops":
        printer.print_loops()
    else:
        printer.print_tiles()
    return tuple(printer.definitions)


def shares(product: Product, chosen: Plan) -> int:
    """Return how many shares the work of a product divides into: its panels, or its rows where it has no tiles."""
    return product.rows if chosen.form == "loops" else -(-product.columns // chosen.panel)


@dataclass(frozen=True, slots=True)
class _Part:
    """A range of rows, or of columns, as the printer stands in it: the text of its first one, and how many."""

    first: tuple[tuple[int, str], ...]
    """Terms coefficient * variable; a constant has the variable ""."""
    size: int


class _Printer:
    def __init__(
        self,
        source: Source,
        name: str,
        product: Product,
        chosen: Plan,
        operands: tuple[tuple[Place, Place], ...],
        to: Into | Epilogue,
        share: tuple[str, str] | None,
        reverse: str,
    ) -> None:
        self.source, self.name, self.product, self.chosen = source, name, product, chosen
        self.operands, self.to, self.share, self.reverse = operands, to, share, reverse
        self.definitions: list[str] = []
        self.direct = to if isinstance(to, Into) and (to.strides[2] == 1 or chosen.form == "dots") else None
        self.room = rounded(min(chosen.panel, product.columns), chosen.target.width)

    def print_tiles(self) -> None:
        """Print the loops over panels and row tiles."""
        height = max(size for _, size in self.chosen.rows)
        if self.direct is None:
            self.source.line(f"{self.name}_sums = stack({4 * height * self.product.groups * self.room})")
        full, rest = divmod(self.product.columns, self.chosen.panel)
        if full:
            with self._panels(full) as columns:
                self._rows(columns, _panel_index(columns, self.chosen.panel))
        if rest:
            columns = _Part(((full * self.chosen.panel, ""),), rest)
            if self.share is None:
                self._rows(columns, ((full, ""),))
            else:
                with self.source.block(f"if {self.share[0]} <= {full} < {self.share[1]}:"):
                    self._rows(columns, ((full, ""),))

    @contextmanager
    def _panels(self, full: int) -> Iterator[_Part]:
        if full == 1 and self.share is None:
            yield _Part((), self.chosen.panel)
            return
        first, end = ("0", str(full)) if self.share is None else (self.share[0], f"min({self.share[1]}, {full})")
        panel, turn = f"{self.name}_p", f"{self.name}_turn" if self.reverse else f"{self.name}_p"
        with self.source.block(f"for {turn} in range({first}, {end}):"):
            if self.reverse:
                self.source.line(f"{panel} = {turn} + ({self.reverse}) * ({first} + {end} - 1 - 2 * {turn})")
            yield _Part(((self.chosen.panel, panel),), self.chosen.panel)

    def _rows(self, columns: _Part, panel: tuple[tuple[int, str], ...]) -> None:
        base = 0
        for count, size in self.chosen.rows:
            if count == 1:
                self._tile(_Part(((base, ""),), size), columns, panel)
            else:
                variable = f"{self.name}_r"
                with self.source.block(f"for {variable} in range({base}, {base + count * size}, {size}):"):
                    self._tile(_Part(((1, variable),), size), columns, panel)
            base += count * size

    def _tile(self, rows: _Part, columns: _Part, panel: tuple[tuple[int, str], ...]) -> None:
        begun = {term.first for term in self.product.terms if self.direct is not None and self.direct.accumulate}
        for number, (term, (a, b)) in enumerate(zip(self.product.terms, self.operands, strict=True)):
            function = self._function(number, rows.size, columns.size, term.first in begun)
            begun.add(term.first)
            left = _address(a, _scaled(rows.first, term.a[0]))
            if term.b is None:
                right = _address(b, _scaled(panel, self._layout(number).stride))
            else:
                right = _address(b, _scaled(columns.first, term.b[2]))
            self.source.line(f"{function}({left}, {right}, {self._target(term.first, rows, columns)})")
        if self.direct is None:
            self._epilogue(rows, columns)

    def _layout(self, number: int) -> Panels:
        return panels(self.product, self.chosen, number)

    def _target(self, group: int, rows: _Part, columns: _Part) -> str:
        if self.direct is None:
            return _address(Place(f"{self.name}_sums", 0), ((group * self.room, ""),))
        strides = self.direct.strides
        begin = (*_scaled(rows.first, strides[0]), (group * strides[1], ""), *_scaled(columns.first, strides[2]))
        return _address(self.direct.place, begin)

    def _function(self, number: int, rows: int, columns: int, accumulate: bool) -> str:
        """Return the name of the tile's function, defined when it is first used."""
        term, chosen = self.product.terms[number], self.chosen
        groups = self.product.span(term)[1]
        kind = "gemm_tile" if chosen.form == "tiles" else "gemm_dots"
        b, whole = term.b, False
        if b is None:
            width = rounded(columns, chosen.target.width)
            b, whole = (groups * width, width, 1), True
        strides = (self.product.groups * self.room, self.room, 1) if self.direct is None else self.direct.strides
        scope = self._scope() if self.direct is None else self.direct.place.scope
        scopes = (self.operands[number][0].scope, self.operands[number][1].scope, scope)
        name = f"{self.name}_{rows}x{columns}" + (f"_term{number}" if len(self.product.terms) > 1 else "")
        text = (
            f"{name} = {kind}(\n"
            f"    {rows}, {groups}, {columns}, {term.depth}, a={term.a}, b={b}, c={strides}, "
            f"width={chosen.target.width}, fused={chosen.target.fused},\n"
            f"    accumulate={accumulate}, whole={(whole, self.direct is None)}, scopes={scopes},\n"
            ")"
        )
        if text not in self.definitions:
            self.definitions.append(text)
        return name

    def _scope(self) -> int:
        # without an epilogue the sums go on to C, whose scope serves for the stack too
        return self.to.scope if isinstance(self.to, Epilogue) else self.to.place.scope

    def _epilogue(self, rows: _Part, columns: _Part) -> None:
        name, groups = self.name, self.product.groups
        with self._counted(f"{name}_m", rows.size) as m, self._counted(f"{name}_j", columns.size) as j:
            sums = []
            for group in range(groups):
                place = _sum(((groups * self.room, m), (group * self.room, ""), (1, j)))
                self.source.line(f"{name}_s{group} = load_float32({name}_sums, {place}, {self._scope()})")
                sums.append(f"{name}_s{group}")
            self.source.line(f"{name}_row = {_sum((*rows.first, (1, m)))}")
            self.source.line(f"{name}_column = {_sum((*columns.first, (1, j)))}")
            self._finish(Point(f"{name}_row", f"{name}_column", tuple(sums)))

    @contextmanager
    def _counted(self, variable: str, size: int) -> Iterator[str]:
        if size == 1:
            yield "0"
            return
        with self.source.block(f"for {variable} in range({size}):"):
            yield variable

    def _finish(self, point: Point) -> None:
        if isinstance(self.to, Epilogue):
            self.to.body(self.source, point)
            return
        place, strides = self.to.place, self.to.strides
        for group, value in enumerate(point.sums):
            index = _sum(((strides[0], point.row), (group * strides[1], ""), (strides[2], point.column)))
            if self.to.accumulate:
                value = f"load_float32({place.address}, {index}, {place.scope}) + {value}"
            self.source.line(f"store_float32({place.address}, {index}, {value}, {place.scope})")

    def print_loops(self) -> None:
        """Print one sum after the other, in float64."""
        name = self.name
        first, end = ("0", str(self.product.rows)) if self.share is None else self.share
        with (
            self.source.block(f"for {name}_row in range({first}, {end}):"),
            self.source.block(f"for {name}_column in range({self.product.columns}):"),
        ):
            point = Point(f"{name}_row", f"{name}_column", tuple(f"{name}_s{g}" for g in range(self.product.groups)))
            for group, total in enumerate(point.sums):
                self.source.line(f"{total} = float64(0.0)")
                for term, places in zip(self.product.terms, self.operands, strict=True):
                    begin, count = self.product.span(term)
                    if begin <= group < begin + count:
                        self._loop(point, group, term, places)
                self.source.line(f"{total} = float32({total})")
            self._finish(point)

    def _loop(self, point: Point, group: int, term: Term, places: tuple[Place, Place]) -> None:
        if term.b is None:
            raise IrError(f"{self.name} mixes packed panels with strides that no vector follows; pack every B")
        (a, b), k, total = places, f"{self.name}_k", point.sums[group]
        left = _sum(((term.a[0], point.row), (term.a[1], k)))
        right = _sum(((term.b[0], k), ((group - term.first) * term.b[1], ""), (term.b[2], point.column)))
        with self.source.block(f"for {k} in range({term.depth}):"):
            factors = f"float64(load_float32({a.address}, {left}, {a.scope}))"
            self.source.line(f"{total} += {factors} * float64(load_float32({b.address}, {right}, {b.scope}))")


def _panel_index(columns: _Part, panel: int) -> tuple[tuple[int, str], ...]:
    return tuple((coefficient // panel, variable) for coefficient, variable in columns.first)


def _scaled(terms: Sequence[tuple[int, str]], factor: int) -> tuple[tuple[int, str], ...]:
    return tuple((coefficient * factor, variable) for coefficient, variable in terms)


def _address(place: Place, terms: Sequence[tuple[int, str]]) -> str:
    """Return the text of the address so many elements behind a place."""
    text = _sum(_scaled(terms, 4))
    return place.address if text == "0" else f"{place.address} + {text}"


def _sum(terms: Sequence[tuple[int, str]]) -> str:
    """Return the text of the sum of coefficient * variable; ("" and digits are constants)."""
    constant, parts = 0, []
    for coefficient, variable in terms:
        if not variable or variable.isdigit():
            constant += coefficient * int(variable or 1)
        elif coefficient:
            parts.append(variable if coefficient == 1 else f"{coefficient} * {variable}")
    return " + ".join([*parts, str(constant)] if constant or not parts else parts)
