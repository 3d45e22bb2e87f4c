"""What a quantized matrix-vector product computes, and the arrays that it takes.

y[m, n] = bias[n] + sum over k of W[n, k] * x[m, k]        m < batch (1 to 8), n < rows, k < columns

weights "int8":     W[n, k] = scales[n] * an integer -128 to 127
weights "codebook": W[n, k] = one of 16 float32 centroids, chosen by a 4-bit code; the codebook belongs to the
                    row, to the whole tensor, or to a group of columns of a row
inputs "int8":      x holds integers too, and y the exact int32 sums, with neither scales nor bias
"""

from __future__ import annotations

from dataclasses import dataclass

from kernels.quantized.packing import GROUP, TILE_VECTORS, Packing

WEIGHTS = ("int8", "codebook")
INPUTS = ("float32", "float16", "bfloat16", "int8")
SCOPES = ("row", "tensor", "group")
CENTROIDS = 16
LARGEST_BATCH = 8
SMALLEST_GROUP = 32
INT32_COLUMNS = 2**31 // 128**2 - 1  # more products of two int8 could leave int32


class ProductError(ValueError):
    """A product that the kernels do not compute; the message names the value and what to use instead."""


@dataclass(frozen=True, slots=True)
class Operand:
    """One flat array that a kernel takes by its address.

    alignment: bytes that its address must be a multiple of for 128-bit accesses.
    """

    name: str
    dtype: str
    elements: int
    alignment: int
    written: bool = False


@dataclass(frozen=True, slots=True)
class QuantizedProduct:
    """A product's shape and number formats.

    scope: whose the codebook is; of int8 weights each row has its scale.
    group: columns that share a codebook with the scope "group": a power of two from 32 on; else 0.
    """

    rows: int
    columns: int
    batch: int = 1
    weights: str = "int8"
    inputs: str = "float32"
    scope: str = "row"
    group: int = 0
    bias: bool = False

    def __post_init__(self) -> None:
        for name, value, known in (
            ("weights", self.weights, WEIGHTS),
            ("inputs", self.inputs, INPUTS),
            ("scope", self.scope, SCOPES),
        ):
            if value not in known:
                raise ProductError(f"{name} {value!r} is not known; use one of {', '.join(known)}")
        if self.rows < 1 or self.columns < 1:
            raise ProductError(f"a matrix of {self.rows} x {self.columns} has no elements; give at least 1 x 1")
        if not 1 <= self.batch <= LARGEST_BATCH:
            raise ProductError(f"a batch of {self.batch} is not computed here; use 1 to {LARGEST_BATCH} or a GEMM")
        self._check_scope()
        self._check_integer_inputs()

    @property
    def packing(self) -> Packing:
        """Return how the weights lie."""
        return Packing(4 if self.weights == "codebook" else 8, self.columns)

    @property
    def tile_columns(self) -> int:
        """Return the columns of a full tile of the packing."""
        return TILE_VECTORS * self.packing.vector_columns

    @property
    def groups(self) -> int:
        """Return the codebooks of a row."""
        return -(-self.columns // self.group) if self.scope == "group" else 1

    @property
    def input_words(self) -> int:
        """Return the 32-bit words of a row of int8 inputs: padded with zeros as the weights are, in column order."""
        return self.packing.words

    @property
    def is_integer(self) -> bool:
        """Return whether the product is of integers, exact."""
        return self.inputs == "int8"

    def operands(self) -> tuple[Operand, ...]:
        """Return the kernel's arrays in its parameters' order."""
        arrays = [Operand("weights", "uint32", self.rows * self.packing.words, 16), self._inputs()]
        if self.is_integer:
            return (*arrays, Operand("y", "int32", self.batch * self.rows, 4, written=True))
        if self.weights == "codebook":
            codebooks = 1 if self.scope == "tensor" else self.rows * self.groups
            arrays.append(Operand("codebook", "float32", codebooks * CENTROIDS, 4))
        else:
            arrays.append(Operand("scales", "float32", self.rows, 4))
        if self.bias:
            arrays.append(Operand("bias", "float32", self.rows, 4))
        return (*arrays, Operand("y", "float32", self.batch * self.rows, 4, written=True))

    def inputs_are_aligned(self) -> bool:
        """Return whether four neighbouring inputs that begin a group are always one aligned access."""
        return self.batch == 1 or self.columns % GROUP == 0

    def _inputs(self) -> Operand:
        if self.is_integer:
            return Operand("x", "uint32", self.batch * self.input_words, 4)
        item_bytes = 4 if self.inputs == "float32" else 2
        dtype = "float32" if self.inputs == "float32" else "uint16"
        alignment = item_bytes * (GROUP if self.inputs_are_aligned() else 1)
        return Operand("x", dtype, self.batch * self.columns, alignment)

    def _check_scope(self) -> None:
        if self.weights == "int8" and self.scope != "row":
            raise ProductError(f"int8 weights have a scale for each row, not for the {self.scope}; use scope 'row'")
        if self.scope != "group":
            if self.group:
                raise ProductError(f"a group of {self.group} columns needs scope 'group', not {self.scope!r}")
        elif self.group < SMALLEST_GROUP or self.group & (self.group - 1):
            raise ProductError(f"a group of {self.group} columns; use a power of two from {SMALLEST_GROUP} on")

    def _check_integer_inputs(self) -> None:
        if not self.is_integer:
            return
        if self.weights != "int8":
            raise ProductError(f"int8 inputs need int8 weights, not {self.weights!r}")
        if self.bias:
            raise ProductError("a product of integers adds no bias; add it when the sums are scaled")
        if self.columns > INT32_COLUMNS:
            raise ProductError(f"{self.columns} products may leave int32; use at most {INT32_COLUMNS} columns")
