"""The execution trace of one step, read into plain values: each op's tensors, arguments and schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

DTYPES = {
    "float": ("float32", 4),
    "double": ("float64", 8),
    "c10::Half": ("float16", 2),
    "c10::BFloat16": ("bfloat16", 2),
    "long int": ("int64", 8),
    "long": ("int64", 8),
    "int": ("int32", 4),
    "short": ("int16", 2),
    "short int": ("int16", 2),
    "signed char": ("int8", 1),
    "unsigned char": ("uint8", 1),
    "bool": ("bool", 1),
    "c10::complex<float>": ("complex64", 8),
    "c10::complex<double>": ("complex128", 16),
}


@dataclass(frozen=True, slots=True)
class TensorUse:
    """One tensor as an op saw it. `tensor` and `storage` are the trace's ids, which it hands out again after a release.

    offset in elements; argument is the position among the op's arguments (or results).
    """

    tensor: int
    storage: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str
    item_bytes: int
    device: str
    argument: int

    @property
    def elements(self) -> int:
        """Return how many elements it has."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def span(self) -> tuple[int, int]:
        """Return the half-open range of bytes of the storage from its first to its last element."""
        if self.elements == 0:
            return (self.offset * self.item_bytes, self.offset * self.item_bytes)
        reach = sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        return (self.offset * self.item_bytes, (self.offset + reach + 1) * self.item_bytes)


@dataclass(frozen=True, slots=True)
class TraceNode:
    """One op of the trace. sequence is -1 where autograd gave none; backward: it is a backward function."""

    name: str
    record: int
    schema: str
    sequence: int
    forward_thread: int
    thread: int
    backward: bool
    inputs: tuple[TensorUse, ...]
    outputs: tuple[TensorUse, ...]
    arguments: str
    mutated: frozenset[int]
    """Positions of the arguments that the schema declares as written."""

    @property
    def overload(self) -> str:
        """Return the qualified name with its overload, such as "aten::add.Tensor"; "" without a schema."""
        return self.schema.partition("(")[0]


def read_execution_trace(path: Path) -> dict[int, TraceNode]:
    """Return the nodes of an execution trace by record function id."""
    nodes = json.loads(path.read_bytes())["nodes"]
    read = (_read_node(node) for node in nodes)
    return {node.record: node for node in read if node.record > 0}


def _read_node(node: dict[str, Any]) -> TraceNode:
    attributes = {entry["name"]: entry["value"] for entry in node["attrs"]}
    schema = str(attributes.get("op_schema") or "")
    inputs = node["inputs"]
    return TraceNode(
        name=node["name"],
        record=int(attributes.get("rf_id") or 0),
        schema=schema,
        sequence=int(attributes.get("seq_id", -1)),
        forward_thread=int(attributes.get("fw_tid") or 0),
        thread=int(attributes.get("tid") or 0),
        backward=int(attributes.get("scope") or 0) == 1,
        inputs=tuple(_tensors(inputs)),
        outputs=tuple(_tensors(node["outputs"])),
        arguments=_arguments(inputs, schema),
        mutated=mutated_arguments(node["name"], schema),
    )


def _tensors(values: dict[str, Any]) -> Iterator[TensorUse]:
    rows = zip(values["values"], values["types"], values["shapes"], values["strides"], strict=True)
    for position, (value, kind, shape, strides) in enumerate(rows):
        if kind.startswith("Tensor("):
            yield from _tensor(value, kind, shape, strides, position)
        elif kind.startswith("GenericList[") and isinstance(value, list):
            kinds = _split(kind[len("GenericList[") : -1])
            for item in zip(value, kinds, shape, strides, strict=False):
                if item[1].startswith("Tensor("):
                    yield from _tensor(*item, position)


def _tensor(value: list[Any], kind: str, shape: list[int], strides: list[int], position: int) -> Iterator[TensorUse]:
    """Yield the tensor, or nothing for an undefined one."""
    name = kind[len("Tensor(") : -1]
    if name.startswith("nullptr"):
        return
    dtype, item_bytes = DTYPES.get(name, (name.removeprefix("c10::"), int(value[4])))
    yield TensorUse(
        tensor=value[0],
        storage=value[1],
        offset=value[2],
        shape=tuple(shape),
        strides=tuple(strides),
        dtype=dtype,
        item_bytes=item_bytes,
        device=str(value[5]),
        argument=position,
    )


def _split(kinds: str) -> list[str]:
    """Return the parts between the commas that stand outside brackets."""
    parts, depth, start = [], 0, 0
    for position, letter in enumerate(kinds):
        depth += letter in "[("
        depth -= letter in "])"
        if letter == "," and depth == 0:
            parts.append(kinds[start:position])
            start = position + 1
    return [*parts, kinds[start:]] if kinds else []


@cache
def schema_arguments(schema: str) -> tuple[str, ...]:
    """Return the declared arguments of a schema, such as ("Tensor(a!) self", "Tensor other", "Scalar alpha=1")."""
    begin = schema.find("(")
    if begin < 0:
        return ()
    depth = 0
    for end in range(begin, len(schema)):
        depth += schema[end] == "("
        depth -= schema[end] == ")"
        if depth == 0:
            return tuple(part.strip() for part in _split(schema[begin + 1 : end]) if part.strip() != "*")
    return ()


@cache
def argument_names(schema: str) -> tuple[str, ...]:
    """Return the names of a schema's arguments."""
    return tuple(text.partition("=")[0].split()[-1] for text in schema_arguments(schema))


@cache
def mutated_arguments(name: str, schema: str) -> frozenset[int]:
    """Return the positions of the arguments that an op writes: those declared `(a!)`, else the first of `name_`."""
    declared = schema_arguments(schema)
    written = frozenset(position for position, text in enumerate(declared) if re.search(r"\([^()]*!", text))
    if written or declared:
        return written
    return frozenset({0}) if name.endswith("_") and "::" in name else frozenset()


def _arguments(inputs: dict[str, Any], schema: str) -> str:
    """Return the arguments that are no tensors as JSON: a list of [name, value]; "[]" when there are none."""
    names = argument_names(schema)
    found = []
    for position, (value, kind) in enumerate(zip(inputs["values"], inputs["types"], strict=True)):
        if "Tensor(" in kind:
            continue
        name = names[position] if position < len(names) else str(position)
        found.append([name, None if kind == "None" else value])
    return json.dumps(found, separators=(",", ":"))
