"""AttentionKernel -> the Python source of its Numba kernel.

For each point of the leading axes keys and values go into panels; then some rows at a time: their scores, the softmax
in place, the product with the values, and the division by the sums, all in the nearest caches.
"""

from __future__ import annotations

from kernels.compiler import attention_rows, gemm, gemm_tile, gemm_transpose, intrinsics, prelude
from kernels.compiler.attention_ir import MOST_STACK_BYTES, AttentionKernel
from kernels.compiler.attention_plan import Blocks, cut, score_product, value_product
from kernels.compiler.gemm_print import Into, Place, print_product
from kernels.compiler.gemm_print_pack import print_pack
from kernels.compiler.gemm_target import host_target
from kernels.compiler.ir import IrError
from kernels.compiler.print_numba import PACKAGE, Printed, import_line, parallel_source, signature
from kernels.compiler.source import Source

PARALLEL_FLOPS = 1_000_000
"""Of attentions that are worth sharing out to threads."""
_SIDE_BY_SIDE, _SIDE_ELEMENTS = 4, 256
"""So many rows, and elements in all, have their softmax computed side by side."""

_QUERIES, _PANELS, _SCORES, _VALUES, _MASK, _OUT, _ADDED, _TOTALS, _KEYS = range(9)
"""Alias scopes."""
_INLINE = '@numba.njit(forceinline=True, error_model="numpy", boundscheck=False)'
_OPTIONS = 'cache=True, nogil=True, error_model="numpy", boundscheck=False'
_HEADER = '''"""Attention {key}: {queries} queries, {keys} keys, {items} times."""

import math

import numba
{imports}
from numpy import float32

'''


def print_attention(kernel: AttentionKernel, name: str, prefix: str = PACKAGE) -> Printed:
    """Return the source of a module with the function `name(address of each buffer, …)`, and how it is shared out.

    prefix: what stands before the modules that it imports from, as in print_numba. Raises IrError for one that would
    need more of the stack than a thread has.
    """
    return _Printer(kernel, name, prefix).print()


class _Printer:
    def __init__(self, kernel: AttentionKernel, name: str, prefix: str) -> None:
        self.kernel, self.name, self.prefix = kernel, name, prefix
        self.cut = cut(kernel)
        if self.cut.stack_bytes > MOST_STACK_BYTES:
            raise IrError(f"attention over {kernel.keys} keys takes {self.cut.stack_bytes} bytes of stack; too many")
        self.source = Source()
        self.definitions: list[str] = []
        self.added = _added(kernel, self.cut.row)
        self.together = max(1, min(_SIDE_BY_SIDE, _SIDE_ELEMENTS // self.cut.row))

    def print(self) -> Printed:
        kernel, source = self.kernel, self.source
        names = [f"b{k}" for k in range(len(kernel.buffers))]
        items = kernel.items if kernel.items > 1 and kernel.flops >= PARALLEL_FLOPS else 0
        for number, block in enumerate(self.cut.blocks):
            self._block(number, block)
        arguments = [*names, *(["begin", "end"] if items else [])]
        source.line(f'@numba.njit("void({signature(len(arguments))})", {_OPTIONS})')
        with source.block(f"def {self.name}{'_range' if items else ''}({', '.join(arguments)}):"):
            self._body("begin" if items else "0", "end" if items else str(kernel.items))
            source.line("return")
        text = "\n".join((*self.definitions, source.text()))
        text += parallel_source(self.name, names, items) if items else ""
        modules = (intrinsics, prelude, attention_rows, gemm_tile, gemm_transpose)
        used = [module for module in modules if any(word in text for word in _WORDS[module.__name__])]
        imports = "\n".join(import_line(module, self.prefix, text) for module in used)
        words = {"key": kernel.key(), "queries": kernel.queries, "keys": kernel.keys, "items": kernel.items}
        return Printed(_HEADER.format(imports=imports, **words) + text, items)

    def _body(self, begin: str, end: str) -> None:
        kernel, source, cuts = self.kernel, self.source, self.cut
        source.line(f"panels = stack({4 * cuts.keys.elements})")
        source.line(f"scores = stack({4 * cuts.rows * cuts.row})")
        source.line(f"totals = stack({4 * cuts.rows})")
        if cuts.values is not None:
            source.line(f"values = stack({4 * cuts.values.elements})")
        rows = {"none": 1, "row": 1, "rows": self.together, "mask": 1}[self.added]
        source.line(f"added = stack({4 * cuts.row * rows})")
        if self.added in ("row", "rows"):
            with source.block(f"for j in range({cuts.row * rows}):"):
                # Behind the keys of a row, up to whole vectors, there is nothing to be seen.
                seen = f"j % {cuts.row} < {kernel.keys}"
                source.line(f"store_float32(added, j, select({seen}, float32(0.0), -float32(INFINITY)), {_ADDED})")
        with source.block(f"for item in range({begin}, {end}):"):
            rest = "item"
            for axis in reversed(range(1, len(kernel.leading))):
                source.line(f"i{axis} = {rest} % {kernel.leading[axis]}")
                source.line(f"rest{axis} = {rest} // {kernel.leading[axis]}")
                rest = f"rest{axis}"
            if kernel.leading:
                source.line(f"i0 = {rest}")
            self._item()

    def _item(self) -> None:
        kernel, source, cuts = self.kernel, self.source, self.cut
        source.line(f"q = b0{self._start(kernel.query_strides)}")
        source.line(f"k = b1{self._start(kernel.key_strides)}")
        source.line(f"v = b2{self._start(kernel.value_strides)}")
        mask = kernel.mask
        source.line("m = 0" if mask is None else f"m = b3{self._start(mask.strides, 4 if mask.kind == 'add' else 1)}")
        source.line(f"o = b{len(kernel.buffers) - 1}{self._start(kernel.out_strides)}")
        strides = (kernel.key_strides[-1], 0, kernel.key_strides[-2])
        print_pack(source, "kp", cuts.keys, strides, Place("k", _KEYS), Place("panels", _PANELS))
        if cuts.values is not None:
            place = Place("values", _VALUES)
            value_strides = (kernel.value_strides[-2], 0, kernel.value_strides[-1])
            print_pack(source, "vp", cuts.values, value_strides, Place("v", _KEYS), place)
        if mask is not None and mask.kind == "add" and self.added == "row":
            self._copy_mask("m", "added", mask.strides[-1])
        for number, block in enumerate(cuts.blocks):
            with source.block(f"for block in range({block.count}):"):
                source.line(f"row = {block.first} + {block.rows} * block")
                values = "values" if cuts.values is not None else "v"
                source.line(
                    f"block{number}(q + {4 * kernel.query_strides[-2]} * row, panels, scores, {values},"
                    f" m + {0 if mask is None else mask.strides[-2] * (4 if mask.kind == 'add' else 1)} * row,"
                    f" o + {4 * kernel.out_strides[-2]} * row, added, totals, row)"
                )

    def _start(self, strides: tuple[int, ...], item_bytes: int = 4) -> str:
        terms = [f"{item_bytes * stride} * i{axis}" for axis, stride in enumerate(strides[:-2]) if stride]
        return "".join(f" + {term}" for term in terms)

    def _copy_mask(self, place: str, out: str, stride: int) -> None:
        with self.source.block(f"for j in range({self.kernel.keys}):"):
            self.source.line(f"store_float32({out}, j, load_float32({place}, {stride} * j, {_MASK}), {_ADDED})")

    def _block(self, number: int, block: Blocks) -> None:
        """Print the function that computes one block of rows."""
        kernel, source, cuts, rows = self.kernel, self.source, self.cut, block.rows
        source.line(_INLINE)
        with source.block(f"def block{number}(q, panels, scores, v, m, o, added, totals, row):"):
            product = score_product(kernel, block.seen, rows)
            chosen = gemm.plan(product, panel=cuts.keys.panel)
            to = Into(Place("scores", _SCORES), (cuts.row, 0, 1))
            places = [(Place("q", _QUERIES), Place("panels", _PANELS))]
            self._define(print_product(source, f"s{number}", product, chosen, places, to))
            whole = rows // self.together * self.together
            with source.block(f"for r in range(0, {whole}, {self.together}):"):
                self._softmax(number, block, self.together)
            if whole < rows:
                with source.block(f"for r in range({whole}, {rows}):"):
                    self._softmax(number, block, 1)
            product = value_product(kernel, cuts.row, block.seen, rows, cuts.values is not None)
            chosen = gemm.plan(product, panel=cuts.values.panel if cuts.values is not None else None)
            to = Into(Place("o", _OUT), (kernel.out_strides[-2], 0, 1))
            places = [(Place("scores", _SCORES), Place("v", _VALUES if cuts.values is not None else _KEYS))]
            self._define(print_product(source, f"o{number}", product, chosen, places, to))
            self._divide(rows)
        source.line("")
        source.line("")

    def _define(self, lines: tuple[str, ...]) -> None:
        self.definitions += [line for line in lines if line not in self.definitions]

    def _softmax(self, number: int, block: Blocks, count: int) -> None:
        """Print the softmax of `count` rows from r on, but for the division; the sums' inverses go to `totals`."""
        kernel, source, row, mask = self.kernel, self.source, self.cut.row, self.kernel.mask
        chosen = kernel.causal or (mask is not None and mask.kind != "add")
        for k in range(count):
            if chosen:
                self._choose(block, f"(r + {k})")
            if mask is not None and self.added == "rows":
                self._copy_mask(f"m + {4 * mask.strides[-2]} * (r + {k})", f"added + {4 * row * k}", mask.strides[-1])
        strides = {"none": None, "row": 0, "rows": row, "mask": mask.strides[-2] if mask is not None else 0}
        target, name = host_target(), f"rows{number}_{count}"
        options = f"scale={1.0 if chosen else kernel.scale!r}, added={strides[self.added]},"
        options += f" zero={kernel.masked_rows_are_zero}, width={target.width}, fused={target.fused},"
        options += f" scopes={(_SCORES, _MASK if self.added == 'mask' else _ADDED, _TOTALS)}"
        self._define((f"{name} = softmax_rows({count}, {block.seen}, stride={row}, {options})",))
        place = f"m + {4 * mask.strides[-2]} * r" if mask is not None and self.added == "mask" else "added"
        source.line(f"{name}(scores + {4 * row} * r, {place}, totals + 4 * r)")

    def _choose(self, block: Blocks, r: str) -> None:
        """Print what replaces the scores of row `r` that its query does not see; the others are scaled."""
        kernel, source, mask = self.kernel, self.source, self.kernel.mask
        with source.block(f"for j in range({min(kernel.keys, block.seen)}):"):
            place = f"{self.cut.row} * {r} + j"
            source.line(f"x = load_float32(scores, {place}, {_SCORES}) * float32({kernel.scale!r})")
            if mask is not None and mask.kind != "add":
                fill = "-float32(INFINITY)" if mask.fill == float("-inf") else f"float32({mask.fill!r})"
                pair = f"x, {fill}" if mask.kind == "keep" else f"{fill}, x"
                held = f"load_bool(m, {mask.strides[-2]} * {r} + {mask.strides[-1]} * j, {_MASK})"
                source.line(f"x = select({held}, {pair})")
            if kernel.causal:
                source.line(f"x = select(j <= row + {r}, x, -float32(INFINITY))")
            source.line(f"store_float32(scores, {place}, x, {_SCORES})")
        if block.seen > kernel.keys:
            # A query of NaN makes them NaN: a row whose keys are all replaced must not be spoilt by what is no key.
            with source.block(f"for j in range({kernel.keys}, {block.seen}):"):
                source.line(f"store_float32(scores, {self.cut.row} * {r} + j, -float32(INFINITY), {_SCORES})")

    def _divide(self, rows: int) -> None:
        kernel, source = self.kernel, self.source
        with source.block(f"for r in range({rows}):"):
            source.line(f"total = load_float32(totals, r, {_TOTALS})")
            with source.block(f"for j in range({kernel.width}):"):
                place = f"{kernel.out_strides[-2]} * r + j"
                source.line(f"x = load_float32(o, {place}, {_OUT})")
                source.line(f"store_float32(o, {place}, x * total, {_OUT})")


def _added(kernel: AttentionKernel, row: int) -> str:
    """Return what is added to rows of scores: "none", one "row" for all, "rows" of their own, or the "mask" itself."""
    mask = kernel.mask if kernel.mask is not None and kernel.mask.kind == "add" else None
    if mask is None:
        return "none" if kernel.keys == row else "row"
    if mask.strides[-2] == 0:
        return "row"
    return "mask" if mask.strides[-1] == 1 and kernel.keys == row else "rows"


_WORDS = {
    intrinsics.__name__: ("",),
    prelude.__name__: ("",),
    attention_rows.__name__: ("softmax_rows(",),
    gemm_tile.__name__: ("gemm_tile(", "gemm_dots("),
    gemm_transpose.__name__: ("gemm_transpose(",),
}
"""By what a module's use is known."""
