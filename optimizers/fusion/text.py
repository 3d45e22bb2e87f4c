"""The generated Python: `bind` resolves what is static once, the `run` that it returns is straight-line code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from kernels.compiler.kinds import kernel_name
from optimizers.fusion.capture import UnfusableError
from optimizers.fusion.coschedule_text import CONTRACT, joined
from optimizers.fusion.graph import ITEM_BYTES, Call, Reference
from optimizers.fusion.loops import Loop
from optimizers.fusion.memory import Memory, out_variant
from optimizers.fusion.schedule import Unit

if TYPE_CHECKING:
    from optimizers.fusion.program import Program

_CONTRACT = '''import torch


def window(tensor, shape, strides, offset):
    """Return a view of `tensor` that begins `offset` elements after its first one."""
    return tensor.as_strided(shape, strides, tensor.storage_offset() + offset)


def slot(arena, offset, nbytes, dtype, shape, strides):
    """Return a tensor in the arena's bytes from `offset` on."""
    return arena[offset : offset + nbytes].view(dtype).as_strided(shape, strides)


def laid_out(tensor, strides):
    """Return `tensor` with the strides that the kernels were made for."""
    if tensor.stride() == strides:
        return tensor
    return torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype).copy_(tensor)


def allocator():
    """Return a function (shape, strides, dtype) -> tensor on the default device: on the CPU the quickest there is."""
    quick = getattr(torch._C._dynamo.guards, "_empty_strided_cpu", None)
    if quick is not None and torch.get_default_device().type == "cpu":
        return quick
    return lambda shape, strides, dtype: torch.empty_strided(shape, strides, dtype=dtype)


'''


class SourceWriter:
    """Writes one program. Names: x input, w weight, s slot of the arena, o output, m result of the library, v view."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.definitions = program.lowered.definitions
        self.slots = {slot.memory: slot for slot in program.slots}
        self.bind: list[str] = []
        self.run: list[str] = []
        self.static: dict[str, str] = {}
        self.dynamic: dict[str, str] = {}
        self.last_use = _last_uses(program)

    def write(self, title: str) -> str:
        """Return the whole source."""
        program = self.program
        inputs = [d for d in self.definitions if d.kind == "input"]
        weights = [d for d in self.definitions if d.kind == "weight"]
        constants = [d for d in self.definitions if d.kind == "constant"]
        for definition in inputs:
            if definition.index in program.staged:
                whole = Reference(definition.index, 0, definition.shape, definition.strides)
                self.run.append(f"{self.tensor(whole)}.copy_(x{definition.number})")
        for step, unit in enumerate(program.units):
            self._unit(step, unit)
        returned = [self._returned(item) for item in program.lowered.outputs]
        self.run.append(f"return ({', '.join(returned)}{',' if len(returned) == 1 else ''})")
        variables = {name: expression.split('"')[1] for expression, name in self.static.items() if name[0] == "k"}
        bind, self.run = joined(self.run, variables, program.kernels)
        self.bind += bind
        contract = _CONTRACT + (CONTRACT if bind else "")
        lines = [f'"""{title}"""', "", contract.rstrip("\n"), "", ""]
        lines += ["def bind(arena, weights, constants, kernels):"]
        lines += [
            '    """Return run(inputs) -> flat outputs, with views and addresses in arena and weights resolved once."""'
        ]
        lines += ["    empty = allocator()"] if any(" = empty(" in line for line in self.run) else []
        lines += [f"    {_names('w', weights)} = weights"] if weights else []
        lines += [f"    {_names('c', constants)} = constants"] if constants else []
        lines += [f"    {line}" for line in self.bind]
        lines += ["", f"    def run({', '.join(f'x{d.number}' for d in inputs)}):"]
        lines += [f"        {line}" for line in self.run]
        lines += ["", "    return run", ""]
        return "\n".join(lines)

    def _fixed(self, expression: str, prefix: str) -> str:
        """Return the name of a value that is computed once, in bind."""
        if expression not in self.static:
            self.static[expression] = f"{prefix}{len(self.static)}"
            self.bind.append(f"{self.static[expression]} = {expression}")
        return self.static[expression]

    def base(self, memory: Memory) -> str:
        """Return the name of the tensor that is this memory, its first element at the memory's beginning."""
        definition = self.definitions[memory.number]
        if memory.kind == "arena":
            slot = self.slots[memory]
            nbytes = definition.numel * ITEM_BYTES[definition.dtype]
            layout = f"{definition.shape}, {definition.strides}"
            return self._fixed(f"slot(arena, {slot.offset}, {nbytes}, torch.{definition.dtype}, {layout})", "s")
        letter = {"input": "x", "weight": "w", "constant": "c"}.get(memory.kind)
        if letter is not None:
            return f"{letter}{definition.number}"
        return f"o{memory.number}" if memory.kind == "output" else f"m{memory.number}"

    def tensor(self, reference: Reference) -> str:
        """Return the name of a tensor with this window."""
        memory, place = self.program.places.window(reference)
        definition = self.definitions[memory.number]
        base = self.base(memory)
        if (place.offset, place.shape, place.strides) == (0, definition.shape, definition.strides):
            return base
        expression = f"window({base}, {place.shape}, {place.strides}, {place.offset})"
        if memory.kind in ("arena", "weight", "constant"):
            return self._fixed(expression, "v")
        if expression not in self.dynamic:
            self.dynamic[expression] = f"t{len(self.dynamic)}"
            self.run.append(f"{self.dynamic[expression]} = {expression}")
        return self.dynamic[expression]

    def address(self, memory: Memory, elements: int) -> tuple[str, bool]:
        """Return an expression for the address of an element, and whether it is the same at every call."""
        nbytes = elements * ITEM_BYTES[memory.dtype]
        plus = f" + {nbytes}" if nbytes else ""
        if memory.kind == "arena":
            offset = self.slots[memory].offset + nbytes
            return f"{self._fixed('arena.data_ptr()', 'p')}{f' + {offset}' if offset else ''}", True
        if memory.kind in ("weight", "constant"):
            return f"{self._fixed(f'{self.base(memory)}.data_ptr()', 'p')}{plus}", True
        expression = f"{self.base(memory)}.data_ptr()"
        if expression not in self.dynamic:
            self.dynamic[expression] = f"q{len(self.dynamic)}"
            self.run.append(f"{self.dynamic[expression]} = {expression}")
        return f"{self.dynamic[expression]}{plus}", False

    def _unit(self, step: int, unit: Unit) -> None:
        if unit.kind == "group":
            self._kernel(unit.number)
        else:
            self._call(self.program.lowered.calls[unit.number])
        for index in self.last_use.get(step, ()):
            self.run.append(f"del m{index}")

    def _kernel(self, number: int) -> None:
        bound = self.program.bounds[number]
        for position, (memory, _) in enumerate(bound.memories):
            if memory.kind == "output" and bound.region.buffers[position].written:
                self._allocate(memory)
        self._kernel_call(kernel_name(bound.region), bound.memories)

    def _loop(self, loop: Loop) -> None:
        places = [self.program.places.places[index] for index in loop.memories]
        for place in places:
            if place.memory.kind == "output":
                self._allocate(place.memory)
        self._kernel_call(loop.name, [(place.memory, place.offset) for place in places])

    def _kernel_call(self, name: str, memories: Sequence[tuple[Memory, int]]) -> None:
        kernel = self._fixed(f'kernels["{name}"]', "k")
        addresses = [self.address(memory, elements) for memory, elements in memories]
        if all(static for _, static in addresses):
            joined = ", ".join(text for text, _ in addresses)
            self.run.append(f"{kernel}(*{self._fixed(f'({joined},)', 'a')})")
            return
        texts = [self._fixed(text, "a") if static else text for text, static in addresses]
        self.run.append(f"{kernel}({', '.join(texts)})")

    def _allocate(self, memory: Memory) -> None:
        name = f"o{memory.number}"
        definition = self.definitions[memory.number]
        if name in self.dynamic:
            return
        self.dynamic[name] = name
        layout = f"{definition.shape}, {definition.strides}"
        self.run.append(f"{name} = empty({layout}, torch.{definition.dtype})")

    def _call(self, call: Call) -> None:
        if isinstance(call.target, Loop):
            self._loop(call.target)
            return
        args = [self.literal(item) for item in call.args]
        args += [f"{name}={self.literal(value)}" for name, value in call.kwargs]
        result = call.results[0] if call.results else None
        place = self.program.places.places.get(result) if result is not None else None
        if out_variant(call, self.program.lowered) and place is not None and place.memory.kind == "arena":
            name = str(call.target).split(".")[1]
            args.append(f"out={self.base(place.memory)}")
            self.run.append(f"{self._fixed(f'torch.{name}', name + '_')}({', '.join(args)})")
            return
        function = self._fixed(f"torch.ops.{call.target}", "f")
        invoked = f"{function}({', '.join(args)})"
        live = [result if result in self.program.places.places else None for result in call.results]
        names = ", ".join("_" if result is None else f"m{result}" for result in live)
        if not call.many:
            self.run.append(f"{names} = {invoked}" if live[0] is not None else invoked)
        else:
            self.run.append(f"{names}{',' if len(live) == 1 else ''} = {invoked}")
        for result in live:
            if result is not None and self._layout_matters(result):
                self.run.append(f"m{result} = laid_out(m{result}, {self.definitions[result].strides})")

    def _layout_matters(self, index: int) -> bool:
        """Return whether someone reads the result by address or through a view."""
        program, definition = self.program, self.definitions[index]
        if any(memory.number == index for bound in program.bounds.values() for memory, _ in bound.memories):
            return True
        if any(index in loop.memories for loop in program.loops):
            return True
        references = [r for call in program.lowered.calls for r in program.lowered.call_inputs(call)]
        references += [item for item in program.lowered.outputs if isinstance(item, Reference)]
        whole = (0, definition.shape, definition.strides)
        return any(r.source == index and (r.offset, r.shape, r.strides) != whole for r in references)

    def _returned(self, item: Any) -> str:
        if not isinstance(item, Reference):
            return self.literal(item)
        memory, place = self.program.places.window(item)
        if memory.kind == "output":
            self._allocate(memory)
        if memory.kind != "arena":
            return self.tensor(item)
        # The caller owns what is returned; the arena is overwritten by the next call.
        base = f"{self.base(memory)}.clone()"
        if base not in self.dynamic:
            self.dynamic[base] = f"r{len(self.dynamic)}"
            self.run.append(f"{self.dynamic[base]} = {base}")
        definition = self.definitions[memory.number]
        if (place.offset, place.shape, place.strides) == (0, definition.shape, definition.strides):
            return self.dynamic[base]
        return f"window({self.dynamic[base]}, {place.shape}, {place.strides}, {place.offset})"

    def literal(self, value: Any) -> str:
        """Return the source text of an argument. Raises UnfusableError for a kind of value that has none."""
        if isinstance(value, Reference):
            return self.tensor(value)
        if isinstance(value, list | tuple):
            return f"[{', '.join(self.literal(item) for item in value)}]"
        if isinstance(value, float) and value - value != 0.0:
            return f'float("{value}")'
        if value is None or isinstance(value, bool | int | float | str):
            return repr(value)
        if isinstance(value, torch.dtype | torch.layout | torch.memory_format):
            return str(value)
        if isinstance(value, torch.device):
            return f'torch.device("{value}")'
        raise UnfusableError(f"an op takes a {type(value).__name__}, which cannot be written into a program")


def _names(letter: str, definitions: list[Any]) -> str:
    return "".join(f"{letter}{definition.number}, " for definition in definitions).rstrip()


def _last_uses(program: Program) -> dict[int, list[int]]:
    """Return, for each step, the library results that nothing reads after it."""
    last: dict[int, int] = {}
    returned = {item.source for item in program.lowered.outputs if isinstance(item, Reference)}
    for step, unit in enumerate(program.units):
        if unit.kind == "group":
            read = [memory.number for memory, _ in program.bounds[unit.number].memories if memory.kind == "library"]
        else:
            call = program.lowered.calls[unit.number]
            read = [reference.source for reference in program.lowered.call_inputs(call)]
            read += [result for result in call.results if result is not None]
        for index in read:
            place = program.places.places.get(index)
            if place is not None and place.memory.kind == "library" and index not in returned:
                last[index] = step
    steps: dict[int, list[int]] = {}
    for index, step in last.items():
        steps.setdefault(step, []).append(index)
    return steps


def write_source(program: Program, title: str) -> str:
    """Return the Python source of `program`; it needs torch and, handed to bind, the kernels by name."""
    return SourceWriter(program).write(title)
