"""The text of the recurrent kernel's CPU twin: one host thread, unit by unit, with the cell's own lines."""

from __future__ import annotations

from kernels.recurrent.cell import Cell
from kernels.recurrent.text import ENTRY, indent, parameters


def twin_text(cell: Cell, hidden: int, batch: int) -> str:
    """Return the text, whose parameters are the device's."""
    values = batch * hidden
    h, others = cell.states[0], cell.states[1:]
    unit = [
        f"place = item * {hidden} + unit",
        *(f"p{g} = float32(0.0)" for g in range(cell.gates)),
        f"for column in range({hidden}):",
        f"    value = load_float32(exchange, half + item * {hidden} + column)",
        *(
            f"    p{g} = p{g} + load_float32(weights, ({g * hidden} + unit) * {hidden} + column) * value"
            for g in range(cell.gates)
        ),
        *(
            f"x{k} = load_float32(inputs, (step * {batch} + item) * {cell.inputs * hidden} + {k * hidden} + unit)"
            for k in range(cell.inputs)
        ),
        *(f"{name} = load_float32(constants, {k * hidden} + unit)" for k, name in enumerate(cell.constants)),
        f"{h} = load_float32(exchange, half + place)",
        *(f"{state} = load_float32({state}_last, place)" for state in others),
        *cell.lines,
        f"store_float32(exchange, {values} - half + place, {h})",
        f"store_float32(outputs, step * {values} + place, {h})",
        *(f"store_float32({state}_last, place, {state})" for state in cell.states),
    ]
    first = [f"store_float32(exchange, place, load_float32({h}_first, place))"]
    first += [f"store_float32({state}_last, place, load_float32({state}_first, place))" for state in cell.states]
    body = [
        f"for place in range({values}):",
        *indent(first),
        "for step in range(steps):",
        f"    half = (step & 1) * {values}",
        f"    for item in range({batch}):",
        f"        for unit in range({hidden}):",
        *indent(indent(indent(unit))),
    ]
    return "\n".join([f"def {ENTRY}({', '.join(parameters(cell))}):", *indent(body), ""])
