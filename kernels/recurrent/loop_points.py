"""The lines of a loop's stage at one point: where windows begin in a trip, loads, values, stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kernels.compiler.ir import ITEM_BYTES, Access
from kernels.compiler.loop_ir import Window
from kernels.compiler.loop_plain import PlainLoop
from kernels.compiler.print_cuda_unit import coordinates
from kernels.compiler.scalar_text import scalar_text
from kernels.compiler.source import position_text
from kernels.recurrent.loop_stages import Stage


@dataclass(frozen=True, slots=True)
class Reach:
    """Where a window lies, as text: its memory, and in elements its beginning, step and alternation."""

    memory: str
    begin: str
    step: str
    half: str


@dataclass(frozen=True)
class WindowText:
    """How a kernel's text reaches memory. shared: windows of a dtype that lie elsewhere for each of several stages."""

    program: PlainLoop
    shared: Mapping[tuple[Window, str], Reach] = field(default_factory=dict)

    def memory(self, window: Window, dtype: str) -> str:
        """Return the name of the window's memory."""
        return self._reach(window, dtype).memory

    def element(self, window: Window, trip: str, dtype: str) -> str:
        """Return the element at which a window begins in a trip, as text; `trip` is a name, or "-1"."""
        if trip == "-1":
            return str(window.begin(-1) // ITEM_BYTES[dtype])
        reach = self._reach(window, dtype)
        terms = [reach.begin] if reach.begin != "0" or not (window.step or window.alternate) else []
        if window.step:
            terms.append(f"{reach.step} * {trip}")
        if window.alternate:
            terms.append(f"{reach.half} * (({trip} + {window.phase & 1}) & 1)")
        return " + ".join(terms)

    def verb(self, window: Window) -> str:
        """Return the load for a window: past the first-level cache for what other blocks write in the meantime."""
        if self.program.buffers[window.buffer].written:
            return "coherent"
        return "load" if window.step or window.alternate else "read"

    def _reach(self, window: Window, dtype: str) -> Reach:
        return self.shared.get((window, dtype)) or reach(window, dtype)


def reach(window: Window, dtype: str) -> Reach:
    """Return where a window lies, in numbers."""
    item = ITEM_BYTES[dtype]
    numbers = (window.offset, window.step, window.alternate)
    return Reach(f"p{window.buffer}", *(str(number // item) for number in numbers))


def axis_names(stage: Stage) -> tuple[str, ...]:
    """Return the name of the index along each axis of the stage's domain."""
    return tuple(f"i{axis}" for axis in range(len(stage.region.domain)))


def scaled(stride: int, index: str) -> list[str]:
    """Return the terms of a sum that `stride * index` is: none or one."""
    return [] if stride == 0 else [index if stride == 1 else f"{stride} * {index}"]


def load_line(places: WindowText, stage: Stage, number: int, trip: str) -> str:
    """Return the load of value `number`."""
    value = stage.region.values[number]
    assert value.access is not None
    window = stage.windows[value.access.buffer]
    place = f"{places.element(window, trip, value.dtype)} + {position_text(value.access, axis_names(stage))}"
    read = places.verb(window)
    # Past the cache goes what stages hand to each other, which is float32; the rest of such memory only leaves.
    read = read if read != "coherent" or value.dtype == "float32" else "load"
    return f"v{number} = {read}_{value.dtype}({places.memory(window, value.dtype)}, {place})"


def value_line(stage: Stage, number: int, reads: Sequence[tuple[int, Access]]) -> str:
    """Return the line of value `number`, of a product's p_k where it reads one of `reads`."""
    value = stage.region.values[number]
    if value.access is not None:
        return f"v{number} = p_{reads.index((value.access.buffer, value.access))}"
    if value.op == "index":
        return f"v{number} = i{value.axis}"
    operands = [f"v{k}" for k in value.operands]
    if (value.op, value.dtype) == ("sigmoid", "float32"):
        # A division that is rounded right branches into a slow path, in the middle of what every step waits for.
        return f"v{number} = sigmoid_float32({operands[0]})"
    source = stage.region.values[value.operands[0]].dtype if value.operands else value.dtype
    return f"v{number} = {scalar_text(value, source, operands)}"


def store_lines(places: WindowText, stage: Stage, trip: str) -> list[str]:
    """Return the stores."""
    lines = []
    for store in stage.region.stores:
        window, dtype = stage.windows[store.access.buffer], stage.region.buffers[store.access.buffer].dtype
        place = f"{places.element(window, trip, dtype)} + {position_text(store.access, axis_names(stage))}"
        written = "store_coherent" if dtype == "float32" else "store"
        lines.append(f"{written}_{dtype}({places.memory(window, dtype)}, {place}, v{store.value})")
    return lines


def loads_of(stage: Stage) -> list[int]:
    """Return the values that are loaded from memory rather than handed over by a product."""
    values = enumerate(stage.region.values)
    return [k for k, v in values if v.access is not None and v.access.buffer not in stage.products]


def point_lines(places: WindowText, stage: Stage, trip: str) -> list[str]:
    """Return the work of a stage without products at point `unit`: loads first, so that all are in flight together."""
    names, loads = axis_names(stage), loads_of(stage)
    lines = coordinates(stage.region.domain, names, "unit") if names else []
    lines += [load_line(places, stage, k, trip) for k in loads]
    lines += [value_line(stage, k, ()) for k in range(len(stage.region.values)) if k not in loads]
    return [*lines, *store_lines(places, stage, trip)]
