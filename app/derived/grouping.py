"""From ops to a tree for the eye: phases, modules, loops, lines, calls; no node has more children than can be read."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from analyzer.graph import PHASES
from app.derived.columns import RunColumns
from app.derived.repeats import Repeat, find_repeats

FEW = 24
"""So many siblings are shown as they are."""
MANY = 100
"""More children than this are cut into ranges."""
_RANGE = 50
_LARGEST_BODY = 30
_PREFIXES = re.compile(r"^(autograd::engine::evaluate_function: )?(torch::autograd::)?(Optimizer\.\w+#)?(aten::)?")
_DIGITS = re.compile(r"\d+")
OUTSIDE = "outside a module"


@dataclass
class Draft:
    """A node of the tree while it is made.

    kind:  "run", "phase", "module", "op", "own" (what an op does itself, beside what it calls), "repeat" (a loop),
           "position" (one place in a loop's body, all its turns), "line" or "range".
    op:    the op that it stands for, -1 for a group.
    times: how many turns a loop has.
    merged: ops that are part of this node and have none of their own.
    """

    kind: str
    label: str
    op: int = -1
    path: str = ""
    source: str = ""
    times: int = 1
    first: int = 0
    token: int = 0
    children: list[Draft] = field(default_factory=list)
    merged: list[int] = field(default_factory=list)


@dataclass
class _Ops:
    """What grouping reads of the ops."""

    names: list[str]
    scopes: list[str]
    phases: list[str]
    sources: list[str]
    executes: list[bool]
    inner: list[list[int]]
    tokens: dict[object, int] = field(default_factory=dict)

    def token(self, key: object) -> int:
        """Return one number for each different key."""
        return self.tokens.setdefault(key, len(self.tokens))


def draft_tree(columns: RunColumns) -> Draft:
    """Return the root of the run's tree. Every op is in it once, by itself or merged into another."""
    ops, tops = _read(columns)
    phases: dict[str, list[int]] = {}
    for op in tops:
        phases.setdefault(ops.phases[op], []).append(op)
    root = Draft("run", "Whole step")
    parts = [_modules(ops, phases[phase], phase) for phase in PHASES if phase in phases]
    root.children = parts if len(parts) > 1 else parts[0].children if parts else []
    return root


def _read(columns: RunColumns) -> tuple[_Ops, list[int]]:
    """Return the ops, and which of them are called by none of their own module and phase."""
    count = columns.ops.num_rows
    scopes, phases = columns.text("scope"), columns.text("phase")
    inner: list[list[int]] = [[] for _ in range(count)]
    tops = []
    for op, parent in enumerate(columns.numbers("parent").tolist()):
        # A wrapper around several modules, such as a user's own annotation, must not pull them out of the tree.
        if parent >= 0 and scopes[op] == scopes[parent] and phases[op] == phases[parent]:
            inner[parent].append(op)
        else:
            tops.append(op)
    executes = columns.ops["executes"].to_pylist()
    return _Ops(columns.text("name"), scopes, phases, columns.text("source"), executes, inner), tops


def _modules(ops: _Ops, members: Sequence[int], phase: str) -> Draft:
    """Return a phase with its modules and, in their place in time, the ops outside them."""
    top = Draft("phase", phase, first=members[0])
    known: dict[str, Draft] = {"": top}
    for op in members:
        _module(known, ops.scopes[op], op).children.append(_call(ops, op))
    with_modules = len(known) > 1
    for path in sorted(known, key=lambda path: -path.count(".") - bool(path)):
        module = known[path]
        lone = path == "" and with_modules
        module.children.sort(key=lambda item: item.first)
        module.children = _grouped(ops, module.children, _by_line_everywhere if lone else None)
        module.token = ops.token(("module", _DIGITS.sub("#", module.label), tuple(c.token for c in module.children)))
    for module in known.values():
        _merge_chain(module)
    return top


def _module(known: dict[str, Draft], path: str, op: int) -> Draft:
    if path not in known:
        above, _, label = path.rpartition(".")
        known[path] = Draft("module", label, path=path, first=op)
        _module(known, above, op).children.append(known[path])
    return known[path]


def _merge_chain(module: Draft) -> None:
    """Make a module that only holds another one with it: encoder.layers instead of encoder, then layers."""
    while module.kind == "module" and len(module.children) == 1 and module.children[0].kind == "module":
        only = module.children[0]
        module.label, module.path, module.children = f"{module.label}.{only.label}", only.path, only.children


def _call(ops: _Ops, op: int) -> Draft:
    """Return an op with what it calls. Wrappers that only call one other op are merged with it."""
    called, merged = op, []
    while not ops.executes[called] and len(ops.inner[called]) == 1 and not ops.executes[ops.inner[called][0]]:
        called = ops.inner[called][0]
        merged.append(called)
    draft = Draft("op", op_label(ops.names[op]), op, ops.scopes[op], ops.sources[op], first=op, merged=merged)
    draft.token = ops.token(("op", ops.names[op], ops.sources[op]))
    inner = ops.inner[called]
    if not inner:
        return draft
    draft.children = [_call(ops, child) for child in inner]
    if ops.executes[op]:
        own = Draft("own", f"{draft.label} itself", op, draft.path, draft.source, first=op, token=draft.token)
        draft.children.append(own)
    draft.children = _grouped(ops, draft.children)
    return draft


def op_label(name: str) -> str:
    """Return an op's name without what all names have in common."""
    return _PREFIXES.sub("", name) or name


def _grouped(ops: _Ops, items: list[Draft], few: Callable[[list[Draft]], list[Draft]] | None = None) -> list[Draft]:
    """Return the items with loops, lines and ranges in place of long lists."""
    if len(items) <= FEW and few is None:
        return items
    if len(items) > FEW:
        items = _with_repeats(ops, items)
    if few is not None:
        items = few(items)
    elif len(items) > _LARGEST_BODY:
        items = _by_line(items, fewest=2)
    return _in_ranges(items)


def _with_repeats(ops: _Ops, items: list[Draft]) -> list[Draft]:
    result: list[Draft] = []
    position = 0
    for repeat in find_repeats([item.token for item in items]):
        result += items[position : repeat.start]
        result.append(_repeat(ops, items[repeat.start : repeat.end], repeat))
        position = repeat.end
    return result + items[position:]


def _repeat(ops: _Ops, items: list[Draft], repeat: Repeat) -> Draft:
    """Return a loop: its body's places, each with all its turns; or the turns themselves if the body is one item."""
    group = Draft("repeat", _span(items[: repeat.period]), times=repeat.times, first=items[0].first)
    group.path = _common_path(items)
    group.token = ops.token(("repeat", tuple(item.token for item in items[: repeat.period]), repeat.times))
    if repeat.period == 1:
        group.label = f"{items[0].label} … {items[-1].label}" if items[0].kind == "module" else items[0].label
        group.children = _in_ranges(items)
        return group
    body = [_position(items[place :: repeat.period]) for place in range(repeat.period)]
    group.children = _in_ranges(_by_line(body) if len(body) > _LARGEST_BODY else body)
    return group


def _position(turns: list[Draft]) -> Draft:
    first = turns[0]
    place = Draft("position", first.label, path=_common_path(turns), source=first.source, times=len(turns))
    place.first, place.token, place.children = first.first, first.token, _in_ranges(turns)
    return place


def _by_line_everywhere(items: list[Draft]) -> list[Draft]:
    """Group ops of one line wherever there are several: for ops that no module holds."""
    return _by_line(items, fewest=2)


def _by_line(items: list[Draft], fewest: int = 3) -> list[Draft]:
    """Return the items with the ops of one source line as one node, at the place of the first."""
    lines: dict[str, list[Draft]] = {}
    for item in items:
        if item.kind in ("op", "position", "own"):
            lines.setdefault(item.source, []).append(item)
    result: list[Draft] = []
    done: set[str] = set()
    for item in items:
        members = lines.get(item.source, []) if item.kind in ("op", "position", "own") else []
        if len(members) < fewest or len(members) == len(items):
            result.append(item)
        elif item.source not in done:
            done.add(item.source)
            label = _file(item.source) or "no line known"
            line = Draft("line", label, path=_common_path(members), source=item.source, first=item.first)
            line.children, line.token = _in_ranges(members), item.token
            result.append(line)
    return result


def _in_ranges(items: list[Draft]) -> list[Draft]:
    """Return at most MANY items: more of them become ranges, and ranges of ranges."""
    while len(items) > MANY:
        size = max(_RANGE, -(-len(items) // MANY))
        items = [_range(items[start : start + size], start) for start in range(0, len(items), size)]
    return items


def _range(members: list[Draft], start: int) -> Draft:
    label = f"{members[0].label} {start + 1:,} to {start + len(members):,}"
    if any(member.label != members[0].label for member in members):
        label = f"{start + 1:,} to {start + len(members):,}"
    return Draft("range", label, path=_common_path(members), first=members[0].first, children=members)


def _common_path(items: Sequence[Draft]) -> str:
    """Return the module path that all items have; a module's own path when it is alone."""
    paths = {item.path.rpartition(".")[0] if item.kind == "module" else item.path for item in items}
    return paths.pop() if len(paths) == 1 else ""


def _span(body: Sequence[Draft]) -> str:
    """Return what a loop's body is, in a few words: "lstm.py:33–36", or its ops where no line is known."""
    places = [item.source.rpartition(":") for item in body if item.source]
    files = list(dict.fromkeys(file for file, _, _ in places))
    if len(files) == 1 and all(number.isdigit() for _, _, number in places):
        numbers = sorted({int(number) for _, _, number in places})
        name = _file(files[0])
        return f"{name}:{numbers[0]}" if len(numbers) == 1 else f"{name}:{numbers[0]}–{numbers[-1]}"
    words = list(dict.fromkeys(item.label for item in body))
    return ", ".join(words[:2]) + (", …" if len(words) > 2 else "")


def _file(source: str) -> str:
    return source.rpartition("/")[2]
