"""The ATen ops that a kernel replaces, as Python of their own with their operands: what a reproducer compares with."""

from __future__ import annotations

import io
import operator
from typing import Any

import numpy as np
import torch

from optimizers.fusion.proof_eager import Nodes, Values, in_float64, leaving_nodes
from optimizers.fusion.replay import operands_of

_HEADER = '''"""The ATen ops that the kernel replaces, one after the other, as they were captured."""

from math import inf, nan

import torch
from torch import device

_USED = (inf, nan, device)


'''


def eager_files(part: Nodes, values: Values) -> dict[str, bytes]:
    """Return eager.py and operands.npz; nothing where the ops cannot be written down, such as those of a library."""
    source = eager_source(part)
    if not source:
        return {}
    arrays: dict[str, Any] = {}
    for position, node in enumerate(operands_of(part)):
        arrays |= _operand(f"operand.{position}", values[node])
    exact = in_float64(part, values)
    for position, node in enumerate(leaving_nodes(part)):
        if isinstance(exact[node], torch.Tensor):
            arrays[f"reference.{position}"] = exact[node].detach().contiguous().numpy()
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return {"eager.py": source.encode(), "operands.npz": stream.getvalue()}


def eager_source(part: Nodes) -> str:
    """Return a module with `run(operands…)`, which returns what leaves the part; "" where an op is not torch's."""
    if any(node.target is not operator.getitem and not str(node.target).startswith("aten.") for node in part):
        return ""
    graph = torch.fx.Graph()
    copies = {inner: graph.placeholder(inner.name) for inner in operands_of(part)}
    for node in part:
        copies[node] = graph.node_copy(node, lambda inner: copies[inner])
    graph.output(tuple(copies[node] for node in leaving_nodes(part)))
    body = graph.python_code("self").src
    body = body.replace("def forward(self, ", "def run(", 1).replace("def forward(self)", "def run()", 1)
    return _HEADER + body.strip("\n ") + "\n"


def _operand(name: str, value: Any) -> dict[str, Any]:
    """Return a tensor's elements, and its strides where they are not those of a contiguous one."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} is a {type(value).__name__}")
    found: dict[str, Any] = {name: value.detach().contiguous().numpy()}
    if not value.is_contiguous():
        found[f"{name}.strides"] = np.asarray(value.stride(), np.int64)
    return found
