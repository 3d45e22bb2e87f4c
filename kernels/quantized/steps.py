"""The text of a quantized product's inner part: what one lane does with the vectors of one tile."""

from __future__ import annotations

from dataclasses import dataclass

from kernels.quantized.arithmetic import CODEBOOK_ALIGNMENT
from kernels.quantized.packing import GROUP, TILE_VECTORS, WORDS_PER_VECTOR
from kernels.quantized.product import CENTROIDS, QuantizedProduct


def indent(lines: list[str]) -> list[str]:
    """Return the lines one level further in."""
    return [f"    {line}" for line in lines]


def plus(text: str, number: int) -> str:
    """Return the text of a sum, without a term of 0."""
    return f"{text} + {number}" if number else text


@dataclass(frozen=True, slots=True)
class TileText:
    """Prints the lines for tiles; variables: tile, lane, q0, q1, … (a vector of each row), s0_0_0, … (sums).

    rows: that one warp takes together, so that an input loaded once serves all of them.
    wide: 128-bit accesses; else every access is of one element.
    """

    product: QuantizedProduct
    rows: int
    wide: bool

    @property
    def chains(self) -> int:
        """Return the independent sums of one output: what an fma waits for is hidden by others."""
        few = self.rows * self.product.batch <= 4
        return 2 if few and not self.product.is_integer else 1

    @property
    def clean_tiles(self) -> int:
        """Return the full tiles without padding."""
        return self.product.columns // self.product.tile_columns

    @property
    def last_vectors(self) -> int:
        """Return the vectors behind the clean tiles, up to 32; the last one may end in padding."""
        return self.product.packing.vectors - TILE_VECTORS * self.clean_tiles

    @property
    def tile_groups(self) -> int:
        """Return how many of a row's codebooks a tile needs."""
        if self.product.scope != "group":
            return 1
        return max(1, self.product.tile_columns // self.product.group)

    @property
    def row_entries(self) -> int:
        """Return the table entries from one row's codebooks to the next row's."""
        if self.product.scope != "group":
            return CENTROIDS
        return max(CENTROIDS * self.tile_groups, CODEBOOK_ALIGNMENT // 4)

    @property
    def warp_entries(self) -> int:
        """Return the table entries from one warp's codebooks to the next warp's."""
        return max(self.row_entries * self.rows, CODEBOOK_ALIGNMENT // 4)

    def sums(self) -> list[str]:
        """Return the names of all sums, those of one output together."""
        outputs = [f"s{row}_{member}" for row in range(self.rows) for member in range(self.product.batch)]
        return [f"{output}_{chain}" for output in outputs for chain in range(self.chains)]

    def load_vector(self, row: int, vector: str) -> str:
        """Return the expression for four words of a row."""
        place = f"w{row} + {WORDS_PER_VECTOR} * ({vector})"
        if self.wide:
            return f"stream_uint32x4(weights, {place})"
        return "(" + ", ".join(f"stream_uint32(weights, {plus(place, k)})" for k in range(WORDS_PER_VECTOR)) + ")"

    def clean_steps(self) -> list[str]:
        """Return the lines for a full tile without padding."""
        return [*self._place(), *(line for step in range(self._steps()) for line in self._step(step, TILE_VECTORS))]

    def last_steps(self) -> list[str]:
        """Return the lines for the vectors behind the clean tiles; what is padding counts for nothing."""
        vectors, groups = self.last_vectors, self.product.columns % self.product.tile_columns // GROUP
        lines = self._place()
        for step in range(self._steps()):
            whole = groups - vectors * step  # lanes from 0 whose group of this step ends before the padding
            # The zeros behind integer inputs count for nothing by themselves.
            if whole >= vectors or self.product.is_integer:
                lines += self._step(step, vectors)
            elif whole > 0 or (whole == 0 and self.product.columns % GROUP):
                lines += self._ragged_step(step, vectors, whole)
        return lines

    def _place(self) -> list[str]:
        if self.product.is_integer:
            return [f"i = {TILE_VECTORS * WORDS_PER_VECTOR} * tile + lane"]
        return [f"i = {self.product.tile_columns} * tile + {GROUP} * lane"]

    def _steps(self) -> int:
        return self.product.packing.vector_columns // GROUP

    def _integer_step(self, step: int, vectors: int) -> list[str]:
        batch = range(self.product.batch)
        words = self.product.input_words
        lines = [f"x{m} = read_uint32(x, {plus('i', vectors * step + m * words)})" for m in batch]
        for row in range(self.rows):
            lines += [f"s{row}_{m}_0 = dot_int8x4(q{row}[{step}], x{m}, s{row}_{m}_0)" for m in batch]
        return lines

    def _step(self, step: int, vectors: int) -> list[str]:
        if self.product.is_integer:
            return self._integer_step(step, vectors)
        place = GROUP * vectors * step
        return self._inputs(place) + self._weights(step, vectors) + self._multiply(step)

    def _ragged_step(self, step: int, vectors: int, whole: int) -> list[str]:
        """Return the lines of a step in which only the first lanes have a whole group, the next one perhaps a part."""
        lines, place = self._weights(step, vectors), GROUP * vectors * step
        if whole:
            lines += [f"if lane < {whole}:", *indent(self._inputs(place) + self._multiply(step))]
        rest = self.product.columns % GROUP
        if rest:
            singles = [line for lane in range(rest) for line in self._single(step, lane, place)]
            lines += [f"if lane == {whole}:", *indent(singles)]
        return lines

    def _single(self, step: int, lane: int, place: int) -> list[str]:
        lines = []
        for m in range(self.product.batch):
            lines.append(f"v{m} = {self._input(place + m * self.product.columns + lane)}")
            for row in range(self.rows):
                total = self._sum(row, m, step)
                lines.append(f"{total} = fma_float32(u{row}[{lane}], v{m}, {total})")
        return lines

    def _inputs(self, place: int) -> list[str]:
        """Return the lines that load four inputs of each vector, `place` columns behind the lane's first."""
        lines = []
        for m in range(self.product.batch):
            start = place + m * self.product.columns
            if not self.wide or not self.product.inputs_are_aligned():
                lines.append(f"x{m} = ({', '.join(self._input(start + lane) for lane in range(GROUP))})")
            elif self.product.inputs == "float32":
                lines.append(f"x{m} = read_float32x4(x, {plus('i', start)})")
            elif self.product.inputs == "bfloat16":
                lines.append(f"x{m} = bfloat16x4_to_float32(read_uint16x4(x, {plus('i', start)}))")
            else:
                four = ", ".join(f"float16_to_float32(h{m}[{lane}])" for lane in range(GROUP))
                lines += [f"h{m} = read_uint16x4(x, {plus('i', start)})", f"x{m} = ({four})"]
        return lines

    def _input(self, place: int) -> str:
        if self.product.inputs == "float32":
            return f"read_float32(x, {plus('i', place)})"
        return f"{self.product.inputs}_to_float32(read_uint16(x, {plus('i', place)}))"

    def _weights(self, step: int, vectors: int) -> list[str]:
        if self.product.weights == "int8":
            return [f"u{row} = int8x4_to_float32(q{row}[{step}])" for row in range(self.rows)]
        word, half = divmod(step, 2)
        look_up = f"{('low', 'high')[half]}_centroids_float32x4"
        lines, book = [], "0"
        if self.tile_groups > 1:
            book = "book"
            column = plus(f"{GROUP} * lane", GROUP * vectors * step)
            lines = [f"book = ({column}) >> {self._group_shift()}"]
        for row in range(self.rows):
            first = plus("own", self.row_entries * row) if self.product.scope == "group" else "own"
            place = book if self.product.scope != "row" else row
            lines.append(f"u{row} = {look_up}(table, {first}, {place}, q{row}[{word}])")
        return lines

    def _group_shift(self) -> int:
        return self.product.group.bit_length() - 1

    def _multiply(self, step: int) -> list[str]:
        totals = [(self._sum(row, m, step), row, m) for row in range(self.rows) for m in range(self.product.batch)]
        return [f"{total} = fma_float32x4({total}, u{row}, x{m})" for total, row, m in totals]

    def _sum(self, row: int, member: int, step: int) -> str:
        return f"s{row}_{member}_{step % self.chains}"
