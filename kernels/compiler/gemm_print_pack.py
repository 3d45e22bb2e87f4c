"""The loops that put weights into panels, as lines of a generated kernel."""

from __future__ import annotations

from kernels.compiler.gemm_pack import Panels
from kernels.compiler.gemm_print import Place
from kernels.compiler.source import Source


def print_pack(source: Source, name: str, layout: Panels, strides: tuple[int, int, int], b: Place, out: Place) -> None:
    """Print the loops that pack B with these strides (k, group, column) into `out`; `name` begins their variables.

    The module imports load_float32 and store_float32 from intrinsics, and float32 from numpy.
    """
    sections = [(layout.full, layout.panel, layout.panel)] if layout.full else []
    if layout.last:
        sections.append((1, layout.columns - layout.full * layout.panel, layout.last))
    begin = 0
    for count, wanted, stored in sections:
        with (
            source.block(f"for {name}_p in range({begin}, {begin + count}):"),
            source.block(f"for {name}_k in range({layout.depth}):"),
            source.block(f"for {name}_g in range({layout.groups}):"),
        ):
            row = f"{layout.stride} * {name}_p + {layout.groups * stored} * {name}_k + {stored} * {name}_g"
            start = f"{strides[0]} * {name}_k + {strides[1]} * {name}_g + {strides[2] * layout.panel} * {name}_p"
            with source.block(f"for {name}_n in range({wanted}):"):
                value = f"load_float32({b.address}, {start} + {strides[2]} * {name}_n, {b.scope})"
                source.line(f"store_float32({out.address}, {row} + {name}_n, {value}, {out.scope})")
            if stored > wanted:
                with source.block(f"for {name}_n in range({wanted}, {stored}):"):
                    source.line(f"store_float32({out.address}, {row} + {name}_n, float32(0.0), {out.scope})")
        begin += count
