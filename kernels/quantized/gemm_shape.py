"""What a product of quantized weights with a small batch of quantised rows computes, and the arrays that it takes.

y[m, n] = activation((sum over k of W[n, k] * (X[m, k] - zero[m])) * (x_scale[m] * scale[n]) + bias[n])

m < batch (1 to 64, known at the launch), n < rows, k < columns. X holds bytes 0 to 255 (activation_bytes.py makes them
of float rows); W[n, k] is an integer -128 to 127, of weights "int8" itself, of weights "codebook" one of 16 that a
4-bit code chooses; the codebook belongs to the row or to the whole tensor. The sum is exact, in 32 bits.
Weights lie as kernels/quantized/packing.py packs them, as for products with single vectors; so do the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernels.quantized.packing import GROUP, WORDS_PER_VECTOR, Packing
from kernels.quantized.product import CENTROIDS, WEIGHTS, Operand, ProductError

BATCH_TILE = 8  # vectors that one instruction takes
ROW_TILE = 16  # rows of weights that it takes
CHUNK_VECTORS = 4  # of a row of weights, that the lanes of a warp load together
LARGEST_TILES = 8
LARGEST_BATCH = BATCH_TILE * LARGEST_TILES
SCOPES = ("row", "tensor")
ACTIVATIONS = ("none", "relu", "gelu", "gelu_tanh", "silu")
LARGEST_COLUMNS = (2**31 - 1) // (255 * 128)  # more products of two bytes could leave int32


@dataclass(frozen=True, slots=True)
class ByteRows:
    """How rows of bytes lie for a product: in the order of its packed weights, padded with zeros to whole chunks.

    bits: of the weights that they are multiplied with, 4 or 8.
    """

    columns: int
    bits: int

    @property
    def packing(self) -> Packing:
        """Return how the weights lie."""
        return Packing(self.bits, self.columns)

    @property
    def vector_words(self) -> int:
        """Return the words of bytes for one vector of weights: one for each four of its columns."""
        return self.packing.vector_columns // GROUP

    @property
    def chunks(self) -> int:
        """Return the chunks of a row."""
        return -(-self.packing.vectors // CHUNK_VECTORS)

    @property
    def words(self) -> int:
        """Return the 32-bit words of a row, padding included."""
        return self.chunks * CHUNK_VECTORS * self.vector_words


@dataclass(frozen=True, slots=True)
class SmallGemm:
    """A product's shape and number formats.

    tiles: the batch in eights, rounded up: a kernel serves every batch of so many or fewer.
    scope: whose a codebook is.
    """

    rows: int
    columns: int
    tiles: int = 1
    weights: str = "int8"
    scope: str = "row"
    bias: bool = False
    activation: str = "none"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("weights", self.weights, WEIGHTS),
            ("scope", self.scope, SCOPES),
            ("activation", self.activation, ACTIVATIONS),
        ):
            if value not in known:
                raise ProductError(f"{name} {value!r} is not known; use one of {', '.join(known)}")
        if self.rows < 1 or self.columns < 1:
            raise ProductError(f"a matrix of {self.rows} x {self.columns} has no elements; give at least 1 x 1")
        if self.columns > LARGEST_COLUMNS:
            raise ProductError(f"{self.columns} products may leave int32; use at most {LARGEST_COLUMNS} columns")
        if not 1 <= self.tiles <= LARGEST_TILES:
            raise ProductError(f"{self.tiles} tiles of 8 vectors are not computed at once; use 1 to {LARGEST_TILES}")
        if self.weights == "int8" and self.scope != "row":
            raise ProductError(f"int8 weights have a scale for each row, not for the {self.scope}; use scope 'row'")

    @property
    def bytes(self) -> ByteRows:
        """Return how the rows that are multiplied lie."""
        return ByteRows(self.columns, 4 if self.weights == "codebook" else 8)

    @property
    def packing(self) -> Packing:
        """Return how the weights lie."""
        return self.bytes.packing

    @property
    def row_tiles(self) -> int:
        """Return the tiles of 16 rows, the last one perhaps not full."""
        return -(-self.rows // ROW_TILE)

    def operands(self, batch: int | None = None) -> tuple[Operand, ...]:
        """Return the kernel's arrays in its parameters' order, for a batch, by default the largest.

        Raises ProductError for a batch that the kernel does not compute.
        """
        largest = BATCH_TILE * self.tiles
        batch = largest if batch is None else batch
        if not 1 <= batch <= largest:
            raise ProductError(f"a batch of {batch} is not computed by {self.tiles} tiles; use 1 to {largest}")
        arrays = [
            Operand("weights", "uint32", self.rows * self.packing.words, 16),
            Operand("x", "uint32", batch * self.bytes.words, 16),
            Operand("x_scales", "float32", batch, 4),
            Operand("x_zeros", "int32", batch, 4),
        ]
        if self.weights == "codebook":
            books = 1 if self.scope == "tensor" else self.rows
            arrays.append(Operand("tables", "uint32", books * CENTROIDS // 4, 16))
        arrays += [Operand("scales", "float32", self.rows, 4), Operand("sums", "int32", self.rows, 4)]
        if self.bias:
            arrays.append(Operand("bias", "float32", self.rows, 4))
        return (*arrays, Operand("y", "float32", batch * self.rows, 4, written=True))


def tiles_of(batch: int) -> int:
    """Return the tiles of the kernel for a batch of up to 64: 1, 2, 3, 4, 6 or 8, so that few kernels are compiled."""
    tiles = -(-batch // BATCH_TILE)
    return tiles if tiles <= WORDS_PER_VECTOR else tiles + tiles % 2
