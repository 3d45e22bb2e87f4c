"""What one hidden unit of a recurrent layer does in a step, given as text: LSTM, GRU, and whatever else fits.

The kernels multiply the last hidden values by the weights and leave the rest to the cell.
"""

from __future__ import annotations

import ast
import keyword
import re
from dataclasses import dataclass

from kernels.cuda import bits as cuda_bits
from kernels.cuda import scalar as cuda_scalar

FUNCTIONS = {f"{name}_float32" for name in (*cuda_scalar.UNARY, *cuda_scalar.BINARY, "remainder", "sigmoid")} | {
    "float32"
}
FUNCTIONS |= set(cuda_bits.simulated_bits())
# What the kernels' texts call their own values; names with digits are theirs too.
RESERVED = frozenset(
    "inputs weights constants outputs exchange counter steps thread lane unit row lane_item item place writes hidden "
    "inside column spare of_item phase step source half within position following value upper given cuda".split()
)
_NAME = re.compile(r"[a-z][a-z_]*[a-z]|[a-z]")


class CellError(ValueError):
    """A cell that the kernel cannot be made for; the message names the cell and what is wrong. One line."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A hidden unit's arithmetic in one step.

    gates:     rows of weights a unit; p0, p1, … are their products with the last step's hidden values.
    inputs:    numbers a unit and step that are known beforehand, x0, x1, …: for an LSTM x_t @ W_ih + b_ih + b_hh.
    states:    names of what a unit keeps from step to step. The first is the hidden value, which all units see.
    constants: names of numbers a unit that stay, such as a bias within a gate.
    lines:     assignments in the kernels' Python, every literal typed; they read the names above and assign each
               state its new value. Other names are temporaries, of letters and underscores.
    """

    name: str
    gates: int
    inputs: int
    states: tuple[str, ...]
    constants: tuple[str, ...]
    lines: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raise CellError unless the lines read and assign what they may."""
        if self.gates < 1 or self.inputs < 0 or not self.states:
            raise CellError(f"cell {self.name} needs at least one gate and one state; give it those")
        own = (*self.states, *self.constants)
        if len(set(own)) < len(own) or not all(map(_is_free, own)):
            raise CellError(f"cell {self.name} has states and constants {own}; give each a free name of letters")
        known = FUNCTIONS | set(own) | {f"p{k}" for k in range(self.gates)} | {f"x{k}" for k in range(self.inputs)}
        assigned: set[str] = set()
        for line in self.lines:
            assigned.add(self._assigned_by(line, known | assigned))
        missing = [state for state in self.states if state not in assigned]
        if missing:
            raise CellError(f"cell {self.name} leaves state {missing[0]} as it is; assign its new value")

    def _assigned_by(self, line: str, known: set[str]) -> str:
        try:
            body = ast.parse(line).body
        except SyntaxError:
            body = []
        target = body[0].targets[0] if len(body) == 1 and isinstance(body[0], ast.Assign) else None
        if not isinstance(target, ast.Name) or not _is_free(target.id) or target.id in self.constants:
            raise CellError(f"cell {self.name} has the line {line!r}; assign one state or temporary a line")
        read = [n.id for n in ast.walk(body[0]) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
        unknown = [name for name in read if name not in known]
        if unknown:
            raise CellError(f"cell {self.name} reads {unknown[0]}, which nothing gave a value; see {line!r}")
        return target.id


def _is_free(name: str) -> bool:
    taken = name in RESERVED or name in FUNCTIONS or keyword.iskeyword(name) or name.endswith(("_first", "_last"))
    return not taken and _NAME.fullmatch(name) is not None


# Gates in torch's order. The inputs hold both biases, but for the GRU's last gate: there the hidden side's bias is
# within the product with the reset gate, hence a constant.
LSTM = Cell(
    name="lstm",
    gates=4,
    inputs=4,
    states=("h", "c"),
    constants=(),
    lines=(
        "input_gate = sigmoid_float32(p0 + x0)",
        "forget_gate = sigmoid_float32(p1 + x1)",
        "candidate = tanh_float32(p2 + x2)",
        "output_gate = sigmoid_float32(p3 + x3)",
        "c = forget_gate * c + input_gate * candidate",
        "h = output_gate * tanh_float32(c)",
    ),
)
GRU = Cell(
    name="gru",
    gates=3,
    inputs=3,
    states=("h",),
    constants=("hidden_bias",),
    lines=(
        "reset_gate = sigmoid_float32(p0 + x0)",
        "update_gate = sigmoid_float32(p1 + x1)",
        "candidate = tanh_float32(x2 + reset_gate * (p2 + hidden_bias))",
        "h = candidate + update_gate * (h - candidate)",
    ),
)
