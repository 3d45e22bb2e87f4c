"""Prints a quantized product as a Numba-CUDA kernel, and as the same arithmetic run by one host thread.

A warp takes a few rows, its lanes the vectors of a tile; while it works on one tile, the next one's vectors are on
their way. The lanes' sums are added by shuffles. Where there are few rows, several warps of a block share them, tile
by tile, and add their sums through shared memory. Codebooks lie in shared memory, each warp's own, where 16 centroids
never share a bank: a lookup is one access whatever the codes.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernels.cuda.kernel import THREADS_PER_BLOCK, KernelSource
from kernels.quantized.arithmetic import CODEBOOK_ALIGNMENT
from kernels.quantized.packing import TILE_VECTORS
from kernels.quantized.product import CENTROIDS, Operand, ProductError, QuantizedProduct
from kernels.quantized.steps import TileText, indent, plus

ENTRY = "quantized_gemv"
FORMS = ("wide", "scalar")
WARP = 32
LARGEST_BLOCK_WARPS = THREADS_PER_BLOCK // WARP
ROWS_PER_WARP, WARPS_PER_ROW = (1, 2, 4), (1, 2, 4, LARGEST_BLOCK_WARPS)
SHARED_BYTES = 48 * 1024  # that a block has without asking for more
ITEM_BYTES = {"uint32": 4, "uint16": 2, "float32": 4, "int32": 4}


@dataclass(frozen=True, slots=True)
class Tuning:
    """How the work is spread; the result's rounding depends on it, nothing else.

    rows_per_warp: one of ROWS_PER_WARP.
    warps_per_row: one of WARPS_PER_ROW: the warps of a block that share a warp's rows.
    """

    rows_per_warp: int = 2
    warps_per_row: int = 1

    def __post_init__(self) -> None:
        if self.rows_per_warp not in ROWS_PER_WARP or self.warps_per_row not in WARPS_PER_ROW:
            rows, warps = self.rows_per_warp, self.warps_per_row
            raise ProductError(f"{rows} rows a warp and {warps} warps a row; use 1, 2 or 4 rows and 1, 2, 4 or 8 warps")


def print_quantized(product: QuantizedProduct, tuning: Tuning) -> dict[str, KernelSource]:
    """Return the product's kernel by form: "wide" with 128-bit accesses, "scalar" for addresses that are not aligned.

    A block of a launch has whole warps, a multiple of tuning.warps_per_row of them and at most 256 threads.
    Raises ProductError where the codebooks that a block needs at once do not fit its shared memory.
    """
    return {form: _source(product, tuning, form == "wide") for form in FORMS}


def fits_shared_memory(product: QuantizedProduct, tuning: Tuning) -> bool:
    """Return whether a block has the shared memory that this spread of the work needs."""
    return _printer(product, tuning, wide=True).shared_bytes() <= SHARED_BYTES


def _printer(product: QuantizedProduct, tuning: Tuning, wide: bool) -> _Printer:
    return _Printer(product, tuning, TileText(product, tuning.rows_per_warp, wide))


def _source(product: QuantizedProduct, tuning: Tuning, wide: bool) -> KernelSource:
    printer = _printer(product, tuning, wide)
    if printer.shared_bytes() > SHARED_BYTES:
        rows, needed = tuning.rows_per_warp, printer.shared_bytes()
        raise ProductError(
            f"{rows} rows a warp with a codebook for each {product.group} columns need {needed} bytes of shared "
            f"memory, a block has {SHARED_BYTES}; use fewer rows a warp"
        )
    operands = product.operands()
    row_groups = -(-product.rows // tuning.rows_per_warp)
    return KernelSource(
        entry=ENTRY,
        text=_function(operands, printer.device_lines()),
        host_text=_function(operands, printer.host_lines(), "import numpy as np\n\n\n"),
        alignment=tuple(operand.alignment if wide else ITEM_BYTES[operand.dtype] for operand in operands),
        work_items=row_groups * tuning.warps_per_row * WARP,
        threads=THREADS_PER_BLOCK,
    )


def _function(operands: tuple[Operand, ...], body: list[str], head: str = "") -> str:
    parameters = ", ".join(operand.name for operand in operands)
    return head + "\n".join([f"def {ENTRY}({parameters}):", *indent(body), ""])


@dataclass(frozen=True, slots=True)
class _Printer:
    product: QuantizedProduct
    tuning: Tuning
    tiles: TileText

    def shared_bytes(self) -> int:
        """Return the shared memory of a block."""
        table = self.tiles.warp_entries if self._has_table() else 0
        parts = self._outputs() if self.tuning.warps_per_row > 1 else 0
        return 4 * LARGEST_BLOCK_WARPS * (table + parts)

    def device_lines(self) -> list[str]:
        """Return the body as the device and the simulator run it."""
        lines = ["lane = int64(cuda.threadIdx.x & 31)", "warp = int64(cuda.threadIdx.x >> 5)"]
        lines.append("warps = int64(cuda.blockDim.x >> 5)")
        if self._has_table():
            size = f"{LARGEST_BLOCK_WARPS * self.tiles.warp_entries}, float32, alignment={CODEBOOK_ALIGNMENT}"
            lines += [f"table = cuda.shared.array({size})", f"own = {self.tiles.warp_entries} * warp"]
        if self.product.scope == "tensor":
            lines += self._fill_table(WARP)
        if self.tuning.warps_per_row > 1:
            return lines + self._shared_rows()
        lines += ["group = int64(cuda.blockIdx.x) * warps + warp", "part = 0"]
        body = [*self._rows(), *self._lane_sums(WARP), *self._warp_sums()]
        for row in range(self.tuning.rows_per_warp):
            totals = [f"t{row}_{m}" for m in range(self.product.batch)]
            lines_of_row = [self._store(f"row{row}", m, total) for m, total in enumerate(totals)]
            body += [f"if lane == 0 and {plus('first', row)} < {self.product.rows}:", *indent(lines_of_row)]
        return [*lines, *self._row_groups(body, "group", "int64(cuda.gridDim.x) * warps")]

    def host_lines(self) -> list[str]:
        """Return the body as one host thread runs it: lanes and warps one after another, sums added as shuffles do."""
        outputs, parts, kind = self._outputs(), self.tuning.warps_per_row, self._sum_kind()
        lines = [f"lanes = np.empty({WARP * outputs}, np.{kind})", f"partial = np.empty({parts * outputs}, np.{kind})"]
        if self._has_table():
            lines += [f"table = np.empty({self.tiles.warp_entries}, np.float32)", "own = 0"]
        if self.product.scope == "tensor":
            lines += self._fill_table(1)
        keep = [f"lanes[{WARP} * {k} + lane] = {text}" for k, text in enumerate(self._folded())]
        tree = ["while width > 0:", "    for lane in range(width):"]
        tree += [f"        lanes[{o} + lane] += lanes[{o} + lane + width]" for o in range(0, WARP * outputs, WARP)]
        tree += ["    width //= 2"]
        tree += [f"partial[{outputs} * part + {k}] = lanes[{WARP * k}]" for k in range(outputs)]
        a_part = [f"for lane in range({WARP}):", *indent(self._lane_sums(1) + keep), f"width = {WARP // 2}", *tree]
        body = [*self._rows(), f"for part in range({parts}):", *indent(a_part)]
        body += [f"for k in range({outputs}):", *indent(self._finish("first", "0", "k"))]
        return [*lines, "group = 0", *self._row_groups(body, "group", "1")]

    def _shared_rows(self) -> list[str]:
        """Return the loop of a block whose warps share rows; all its threads take the same turns."""
        parts, outputs = self.tuning.warps_per_row, self._outputs()
        lines = [f"partial = cuda.shared.array({LARGEST_BLOCK_WARPS * outputs}, {self._sum_kind()})"]
        lines += [f"part = warp % {parts}", f"slots = warps // {parts}", "base = int64(cuda.blockIdx.x) * slots"]
        body = [f"group = base + warp // {parts}", *self._rows(), *self._lane_sums(WARP)]
        body += [*self._warp_sums(), "if lane == 0:"]
        names = [f"t{row}_{m}" for row in range(self.tuning.rows_per_warp) for m in range(self.product.batch)]
        body += indent([f"partial[{outputs} * warp + {k}] = {name}" for k, name in enumerate(names)])
        body += ["cuda.syncthreads()", f"if part == 0 and lane < {outputs}:"]
        body += [*indent(self._finish("first", "warp", "lane")), "cuda.syncthreads()"]
        return [*lines, *self._row_groups(body, "base", "int64(cuda.gridDim.x) * slots")]

    def _row_groups(self, body: list[str], counter: str, step: str) -> list[str]:
        groups = -(-self.product.rows // self.tuning.rows_per_warp)
        return [f"while {counter} < {groups}:", *indent([*body, f"{counter} += {step}"])]

    def _rows(self) -> list[str]:
        """Return the lines that set the rows; one behind the last is computed as the last one, but not stored."""
        lines = [f"first = {self.tuning.rows_per_warp} * group"]
        last = self.product.rows - 1
        lines += [f"row{r} = min({plus('first', r)}, {last})" for r in range(self.tuning.rows_per_warp)]
        return lines + [f"w{r} = {self.product.packing.words} * row{r}" for r in range(self.tuning.rows_per_warp)]

    def _lane_sums(self, lanes: int) -> list[str]:
        """Return the lines for one lane's sums over its vectors; the next tile is loaded before one is worked on."""
        rows, parts, tiles = range(self.tuning.rows_per_warp), self.tuning.warps_per_row, self.tiles
        zero = "int32(0)" if self.product.is_integer else "float32(0.0)"
        lines = [f"{name} = {zero}" for name in tiles.sums()]
        lines += ["tile = part", *(f"q{r} = (uint32(0), uint32(0), uint32(0), uint32(0))" for r in rows)]
        # The first vectors are on their way while the codebooks are copied.
        lines += [*self._load_tile("tile", "q"), *self._row_table(lanes)]
        if tiles.clean_tiles:
            body = [f"ahead = tile + {parts}", *(f"n{r} = q{r}" for r in rows), *self._load_tile("ahead", "n")]
            body += [*self._tile_table(lanes), *tiles.clean_steps()]
            body += [*(f"q{r} = n{r}" for r in rows), "tile = ahead"]
            lines += [f"while tile < {tiles.clean_tiles}:", *indent(body)]
        if tiles.last_vectors:
            steps = [f"if lane < {tiles.last_vectors}:", *indent(tiles.last_steps())]
            body = [*self._tile_table(lanes), *steps]
            lines += [f"if tile == {tiles.clean_tiles}:", *indent(body)]
        return lines

    def _load_tile(self, tile: str, name: str) -> list[str]:
        vector = f"{TILE_VECTORS} * {tile} + lane"
        loads = [f"{name}{r} = {self.tiles.load_vector(r, vector)}" for r in range(self.tuning.rows_per_warp)]
        return [f"if {vector} < {self.product.packing.vectors}:", *indent(loads)]

    def _warp_sums(self) -> list[str]:
        """Return the lines that leave the sums over the lanes in t0_0, …"""
        names = [f"t{row}_{m}" for row in range(self.tuning.rows_per_warp) for m in range(self.product.batch)]
        lines = [f"{name} = {text}" for name, text in zip(names, self._folded(), strict=True)]
        if not self.product.is_integer:
            return lines + [f"{name} = warp_sum({name})" for name in names]
        for name in names:
            # One shuffle each: the sum of two int32 is an int64 in Numba, which would take two.
            shuffles = [f"cuda.shfl_xor_sync(0xFFFFFFFF, {name}, {width})" for width in (16, 8, 4, 2, 1)]
            lines += [f"{name} = int32({name} + {shuffle})" for shuffle in shuffles]
        return lines

    def _folded(self) -> list[str]:
        chains, sums = self.tiles.chains, self.tiles.sums()
        return [" + ".join(sums[k : k + chains]) for k in range(0, len(sums), chains)]

    def _finish(self, first: str, warp: str, output: str) -> list[str]:
        """Return the lines that add the parts of one output, chosen at run time, and store it."""
        outputs, batch = self._outputs(), self.product.batch
        lines = [f"total = partial[{outputs} * {warp} + {output}]"]
        for part in range(1, self.tuning.warps_per_row):
            lines.append(f"total = {self._sum_kind()}(total + partial[{outputs} * ({warp} + {part}) + {output}])")
        own = f"{output} // {batch}" if batch > 1 else output
        lines += [f"row = {first} + {own}", f"if row < {self.product.rows}:"]
        return lines + indent([self._store("row", f"({output} % {batch})" if batch > 1 else 0, "total")])

    def _store(self, row: str, member: int | str, total: str) -> str:
        place = f"{self.product.rows} * {member} + {row}" if member != 0 else row
        if self.product.is_integer:
            return f"store_int32(y, {place}, {total})"
        scale, bias = f"read_float32(scales, {row})", f"read_float32(bias, {row})"
        if self.product.weights == "int8":
            value = f"fma_float32({total}, {scale}, {bias})" if self.product.bias else f"{total} * {scale}"
        else:
            value = f"{total} + {bias}" if self.product.bias else total
        return f"store_float32(y, {place}, {value})"

    def _row_table(self, lanes: int) -> list[str]:
        return self._fill_table(lanes) if self._has_table() and self.product.scope == "row" else []

    def _tile_table(self, lanes: int) -> list[str]:
        return self._fill_table(lanes) if self.product.scope == "group" else []

    def _fill_table(self, lanes: int) -> list[str]:
        """Return the lines by which so many lanes copy a warp's codebooks to `table`."""
        groups, start = self.tiles.tile_groups, "lane" if lanes > 1 else "0"
        rows = 1 if self.product.scope == "tensor" else self.tuning.rows_per_warp
        body = [f"r, k = entry // {CENTROIDS * groups}, entry % {CENTROIDS * groups}", *self._codebook_of_entry()]
        body += [f"value = read_float32(codebook, {CENTROIDS} * book + k % {CENTROIDS})"]
        body += [f"table[own + {self.tiles.row_entries} * r + k] = value", f"entry += {lanes}"]
        lines = [f"entry = {start}", f"while entry < {CENTROIDS * groups * rows}:", *indent(body)]
        # Before: lanes still look up what lay there. After: a lane looks up what others wrote.
        return ["cuda.syncwarp()", *lines, "cuda.syncwarp()"] if lanes > 1 else lines

    def _codebook_of_entry(self) -> list[str]:
        """Return the lines that set the number of row r's codebook, that of column group k // 16 of the tile."""
        product = self.product
        if product.scope == "tensor":
            return ["book = 0"]
        lines = [f"book = min(first + r, {product.rows - 1})"]
        if product.scope == "row":
            return lines
        place = f"({product.tile_columns} * tile) // {product.group} + k // {CENTROIDS}"
        return [*lines, f"book = {product.groups} * book + min({place}, {product.groups - 1})"]

    def _has_table(self) -> bool:
        return self.product.weights == "codebook"

    def _outputs(self) -> int:
        return self.tuning.rows_per_warp * self.product.batch

    def _sum_kind(self) -> str:
        return "int32" if self.product.is_integer else "float32"
