"""A quantized layer's product on a CUDA device for any number of vectors: which kernel takes how many of them.

activations "dynamic": rows become bytes, and up to 64 of them at a time are multiplied on the tensor cores (gemm.py);
                       a single one too, so that an answer does not depend on how many were asked for at once.
activations "float":   they stay as they are, up to 8 at a time (gemv.py): weight-only int8 and codebooks of groups.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kernels.quantized import gemm, gemv
from kernels.quantized.activation_bytes import ActivationBytes
from kernels.quantized.gemm_shape import LARGEST_BATCH, SmallGemm, tiles_of
from kernels.quantized.packing import Packing
from kernels.quantized.product import LARGEST_BATCH as LARGEST_GEMV_BATCH
from kernels.quantized.product import ProductError, QuantizedProduct

ACTIVATIONS = ("dynamic", "float")
_ALIGNMENT = 16


@dataclass(frozen=True, slots=True)
class DeviceWeights:
    """What is multiplied: shape, number formats and epilogue; as SmallGemm and QuantizedProduct have them.

    activations: one of ACTIVATIONS. inputs: the format of the activations as they come.
    """

    rows: int
    columns: int
    weights: str = "int8"
    scope: str = "row"
    group: int = 0
    bias: bool = False
    activation: str = "none"
    activations: str = "dynamic"
    inputs: str = "float32"

    def __post_init__(self) -> None:
        if self.activations not in ACTIVATIONS:
            raise ProductError(f"activations {self.activations!r} are not known; use one of {', '.join(ACTIVATIONS)}")
        if self.activations == "float" and self.activation != "none":
            raise ProductError(
                f"a product of float activations does not apply {self.activation!r}; apply it afterwards"
            )
        if self.activations == "dynamic" and self.group:
            raise ProductError(f"codebooks of {self.group} columns take float activations; use activations 'float'")
        if self.activations == "dynamic":
            ActivationBytes(self.gemm(1).bytes, self.inputs)
        else:
            self.gemv(1)

    def gemm(self, batch: int) -> SmallGemm:
        """Return the product with up to 64 vectors of bytes."""
        tiles = tiles_of(batch)
        return SmallGemm(self.rows, self.columns, tiles, self.weights, self.scope, self.bias, self.activation)

    def gemv(self, batch: int) -> QuantizedProduct:
        """Return the product with up to 8 vectors as they come."""
        formats = (self.weights, self.inputs, self.scope, self.group, self.bias)
        return QuantizedProduct(self.rows, self.columns, batch, *formats)

    @property
    def packing(self) -> Packing:
        """Return how the weights lie."""
        return Packing(4 if self.weights == "codebook" else 8, self.columns)

    @property
    def arrays(self) -> dict[str, int]:
        """Return the bytes of each array that stands for the weights, by name, in the order that kernels take them."""
        operands = self.gemm(1).operands(1) if self.activations == "dynamic" else self.gemv(1).operands()
        given = ("x", "x_scales", "x_zeros", "y")
        return {operand.name: 4 * operand.elements for operand in operands if operand.name not in given}

    @property
    def input_bytes(self) -> int:
        """Return the bytes of one vector as it comes."""
        return self.columns * (4 if self.inputs == "float32" else 2)


@dataclass(frozen=True, slots=True)
class Step:
    """One launch: "bytes", "gemm" or "gemv", for `batch` vectors from the vector `first` on."""

    kernel: str
    first: int
    batch: int


def steps(weights: DeviceWeights, batch: int) -> list[Step]:
    """Return the launches for a number of vectors, none for none."""
    dynamic = weights.activations == "dynamic"
    most = LARGEST_BATCH if dynamic else LARGEST_GEMV_BATCH
    found = [Step("gemm" if dynamic else "gemv", first, min(most, batch - first)) for first in range(0, batch, most)]
    return [Step("bytes", 0, batch), *found] if dynamic and batch else found


@dataclass
class DeviceProduct:
    """Launches a layer's product on the current CUDA device; kernels are compiled at first use or by `prepare`.

    makers: what launches a product with bytes, a product with vectors, and what makes bytes.
    """

    weights: DeviceWeights
    make_gemm: Callable[[SmallGemm], Any] = gemm.Launcher
    make_gemv: Callable[[QuantizedProduct], Any] = gemv.Launcher
    make_bytes: Callable[[ActivationBytes], Any] = gemm.BytesLauncher
    _launchers: dict[Any, Any] = field(default_factory=dict)

    def prepare(self, batch: int) -> None:
        """Return nothing; compile and load what a number of vectors needs, as a CUDA graph capture needs it beforehand.

        Raises CudaUnavailable where numba-cuda or a device is missing.
        """
        for step in steps(self.weights, batch):
            self._launcher(step).prepare()

    def workspace_bytes(self, batch: int) -> int:
        """Return the bytes of memory that a launch needs besides; its address is a multiple of 16."""
        return sum(self._parts(batch))

    def launch(self, arrays: Mapping[str, int], x: int, batch: int, y: int, workspace: int, stream: int) -> None:
        """Return nothing; queue the launches for `batch` vectors. All memory must be kept until they ran.

        arrays: the address of each of weights.arrays. x: of the vectors, as they come, one after the other.
        y: of float32 [batch, rows]. workspace: of workspace_bytes(batch).
        Raises CudaUnavailable without a device.
        """
        given, row_bytes = self.weights, 4 * self.weights.rows
        fixed = [arrays[name] for name in given.arrays]
        words, scales = self._parts(batch)[:2]
        for step in steps(given, batch):
            launcher = self._launcher(step)
            own, result = x + step.first * given.input_bytes, y + step.first * row_bytes
            if step.kernel == "gemv":
                launcher.launch((fixed[0], own, *fixed[1:], result), stream)
                continue
            places = (workspace, workspace + words, workspace + words + scales)
            if step.kernel == "bytes":
                launcher.launch((own, *places), step.batch, stream)
                continue
            inputs = (places[0] + 4 * step.first * given.gemm(1).bytes.words, *(p + 4 * step.first for p in places[1:]))
            launcher.launch((fixed[0], *inputs, *fixed[1:], result), step.batch, stream)

    def _parts(self, batch: int) -> Sequence[int]:
        """Return the bytes of the vectors as bytes, of their scales and of their zero points."""
        if self.weights.activations != "dynamic":
            return (0, 0, 0)
        words = self.weights.gemm(1).bytes.words
        return tuple(-(-4 * count // _ALIGNMENT) * _ALIGNMENT for count in (batch * words, batch, batch))

    def _launcher(self, step: Step) -> Any:
        if step.kernel == "bytes":
            return self._made(self.make_bytes, ActivationBytes(self.weights.gemm(1).bytes, self.weights.inputs))
        if step.kernel == "gemm":
            return self._made(self.make_gemm, self.weights.gemm(step.batch))
        return self._made(self.make_gemv, self.weights.gemv(step.batch))

    def _made(self, make: Callable[[Any], Any], shape: Any) -> Any:
        if shape not in self._launchers:
            self._launchers[shape] = make(shape)
        return self._launchers[shape]
