"""The loops that put weights into panels, as lines of a generated kernel."""

from __future__ import annotations

from kernels.compiler.gemm_pack import Panels
from kernels.compiler.gemm_print import Place
from kernels.compiler.source import Source


def print_pack(source: Source, name: str, layout: Panels, strides: tuple[int, int, int], b: Place, out: Place) -> None:
    """Print the loops that pack B with these strides (k, group, column) into `out`; `name` begins their variables.

    The module imports load_float32 and store_float32 from intrinsics, float32 from numpy, and gemm_transpose: factors
    that lie along k, as w.t() does, are turned over in registers, about 0.3 cycles an element.
    """
    _Packing(source, name, layout, strides, b, out).print()


class _Packing:
    def __init__(
        self, source: Source, name: str, layout: Panels, strides: tuple[int, int, int], b: Place, out: Place
    ) -> None:
        self.source, self.name, self.layout, self.strides = source, name, layout, strides
        self.b, self.out = b, out

    def print(self) -> None:
        """Print the full panels, then the last one."""
        layout = self.layout
        if layout.full:
            with self.source.block(f"for {self.name}_p in range({layout.full}):"):
                self._panel(f"{self.name}_p", layout.panel, layout.panel)
        if layout.last:
            self._panel(str(layout.full), layout.columns - layout.full * layout.panel, layout.last)

    def _panel(self, panel: str, wanted: int, stored: int) -> None:
        along_depth = self.strides[0] == 1 and self.strides[2] != 1 and self.layout.depth > 1
        with self.source.block(f"for {self.name}_g in range({self.layout.groups}):"):
            if along_depth:
                self._turned(panel, wanted, stored)
            else:
                self._copied(panel, wanted, stored)

    def _places(self, panel: str, stored: int) -> tuple[str, str]:
        """Return the first element of a group's part of a panel, in B and in the panels."""
        begin = f"{self.strides[2] * self.layout.panel} * {panel} + {self.strides[1]} * {self.name}_g"
        return begin, f"{self.layout.stride} * {panel} + {stored} * {self.name}_g"

    def _copied(self, panel: str, wanted: int, stored: int) -> None:
        name, (begin, put) = self.name, self._places(panel, stored)
        row = f"{put} + {self.layout.groups * stored} * {name}_k + {name}_n"
        with self.source.block(f"for {name}_k in range({self.layout.depth}):"):
            with self.source.block(f"for {name}_n in range({wanted}):"):
                place = f"{begin} + {self.strides[0]} * {name}_k + {self.strides[2]} * {name}_n"
                value = f"load_float32({self.b.address}, {place}, {self.b.scope})"
                self.source.line(f"store_float32({self.out.address}, {row}, {value}, {self.out.scope})")
            if stored > wanted:
                with self.source.block(f"for {name}_n in range({wanted}, {stored}):"):
                    self.source.line(f"store_float32({self.out.address}, {row}, float32(0.0), {self.out.scope})")

    def _turned(self, panel: str, wanted: int, stored: int) -> None:
        name, width, depth = self.name, self.layout.width, self.layout.depth
        whole = depth // width * width
        for first in range(0, stored, width):
            columns = min(width, wanted - first)
            if whole:
                with self.source.block(f"for {name}_k in range(0, {whole}, {width}):"):
                    self._block(panel, stored, (first, columns), (f"{name}_k", width))
            if depth > whole:
                self._block(panel, stored, (first, columns), (str(whole), depth - whole))

    def _block(self, panel: str, stored: int, columns: tuple[int, int], depth: tuple[str, int]) -> None:
        """Print the copy of some columns (first, count) over some depth."""
        begin, put = self._places(panel, stored)
        row = self.layout.groups * stored
        read = f"{self.b.address} + 4 * ({begin} + {depth[0]} + {self.strides[2] * columns[0]})"
        written = f"{self.out.address} + 4 * ({put} + {row} * {depth[0]} + {columns[0]})"
        numbers = (columns[1], depth[1], self.strides[2], row, self.layout.width, self.b.scope, self.out.scope)
        self.source.line(f"gemm_transpose({read}, {written}, {', '.join(map(str, numbers))})")
