"""One generated kernel as a folder that runs by itself: its code, its memory, float64 results, and eager's ops."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch

from analyzer.errors import HotbenchError, RecordError
from analyzer.identity import content_id
from analyzer.record import dump_json, write_folder
from kernels.compiler.ir import Region
from kernels.compiler.kinds import kind_of
from kernels.compiler.loop_ir import LoopProgram
from kernels.compiler.source import op_list
from kernels.compiler.standalone import render_standalone
from optimizers.fusion.live import LiveProgram
from optimizers.fusion.proof import laid_out, products_of, replaced_nodes
from optimizers.fusion.proof_eager import Nodes, Values, op_nodes, visit_parts
from optimizers.fusion.proof_kernels import Outputs, outputs_of, stored_dtypes, visit_kernels
from optimizers.fusion.proof_kinds import provable
from optimizers.fusion.replay import Body, memory_sizes
from optimizers.fusion.reproducer_eager import eager_files
from optimizers.fusion.runtime import KernelCall

KIND = "reproducer"
RUN = "reproduce.py"
Tensors = list[torch.Tensor]


@dataclass(frozen=True, slots=True)
class Reproducer:
    """What was written. runs_with: the command that runs it, DIR being the folder; it needs numpy and numba."""

    reproducer: str
    kernel: str
    files: tuple[str, ...]
    sha256: str
    runs_with: str


def find_region(live: Sequence[LiveProgram], name: str) -> tuple[LiveProgram, str]:
    """Return the program that has the kernel called `name`, and its full name.

    A part of the name that only one kernel has is enough. Raises HotbenchError, naming those that exist.
    """
    known = {kernel: program for program in live for kernel in replaced_nodes(program.program)}
    if name in known:
        return known[name], name
    found = [kernel for kernel in known if name and name in kernel]
    if len(found) == 1:
        return known[found[0]], found[0]
    listed = ", ".join(list(known)[:8]) + (f" and {len(known) - 8} more" if len(known) > 8 else "")
    what = "fits several kernels" if found else "is no kernel of this program"
    raise HotbenchError(f"region {name!r} {what}; choose one of {listed}")


def export_region(live: LiveProgram, kernel: str, folder: Path, about: Mapping[str, Any] | None = None) -> Reproducer:
    """Write the kernel called `kernel` into `folder`, whole or not at all. about: plain values for region.json.

    Raises HotbenchError for a kind of kernel that has no reproducer, RecordError where the folder cannot be written.
    """
    files = region_files(live, kernel, about or {})
    identity = content_id(KIND, {name: hashlib.sha256(data).hexdigest() for name, data in files.items()})
    manifest = write_folder(folder.absolute(), dict(files), KIND, identity)
    return Reproducer(identity, kernel, tuple(sorted(files)), manifest.digest(), f"python DIR/{RUN}")


def region_files(live: LiveProgram, kernel: str, about: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files of a reproducer by name."""
    body = live.program.kernels[kernel]
    if not provable(body):
        raise HotbenchError(f"{kernel} is a {type(body).__name__}, a kind of kernel that cannot be exported alone yet")
    memory, outputs = _run(live, kernel)
    eager = _eager(live, kernel)
    return {
        RUN: (Path(__file__).parent / "reproducer_script.py").read_bytes(),
        "README.md": _readme(live, kernel, body).encode(),
        "region.json": dump_json(_describe(live, kernel, body, about)),
        "memory.npz": _packed({f"memory.{k}": item.numpy() for k, item in enumerate(memory)}),
        "expected.npz": _expected(outputs),
        **{f"kernels/{name}": data for name, data in render_standalone({kernel: live.program.kernels[kernel]}).items()},
        **eager,
    }


def _run(live: LiveProgram, kernel: str) -> tuple[Tensors, Outputs]:
    found: list[tuple[Tensors, Outputs]] = []

    def visit(name: str, call: KernelCall, memory: Tensors) -> None:
        if name == kernel:
            found.append((memory, outputs_of(live.program.kernels[name], call, memory)))

    with torch.no_grad():
        visit_kernels(live.program, live.kernels, list(live.weights), list(live.inputs), visit)
    if not found:
        raise RecordError(f"{kernel} was not called when its program ran; optimize again")
    return found[0]


def _eager(live: LiveProgram, kernel: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}

    def visit(_name: str, part: Nodes, values: Values) -> None:
        found.update(eager_files(part, values))

    nodes = replaced_nodes(live.program)[kernel][0]
    with torch.no_grad():
        tensors = [*live.weights, *live.inputs]
        visit_parts(
            laid_out(live.captured, live.program).graph, {kernel: nodes}, tensors, visit, products_of(live.program)
        )
    return found


def _expected(outputs: Outputs) -> bytes:
    arrays = {}
    for number, written, reference in zip(outputs.buffers, outputs.written, outputs.references, strict=True):
        arrays[f"written.{number}"] = np.packbits(written)
        arrays[f"reference.{number}"] = reference
    return _packed(arrays)


def _packed(arrays: Mapping[str, Any]) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def _describe(live: LiveProgram, kernel: str, body: Body, about: Mapping[str, Any]) -> dict[str, Any]:
    names = {node.name: str(node.target) for node in op_nodes(laid_out(live.captured, live.program).graph)}
    replaced = [names[node] for node in replaced_nodes(live.program)[kernel][0] if node in names]
    return {
        "kernel": kernel,
        "kind": kind_of(body).name,
        "memory_bytes": list(memory_sizes(body)),
        "dtypes": _dtypes(body),
        "same_as": [buffer.same_as for buffer in body.buffers] if isinstance(body, Region) else [],
        "replaces": replaced,
        "source": op_list(body) if isinstance(body, Region) else [],
        "versions": {"torch": torch.__version__, "numba": numba.__version__, "numpy": np.__version__},
        "threads": torch.get_num_threads(),
        **about,
    }


def _dtypes(body: Body) -> dict[str, str]:
    """Return the dtype of each buffer whose results are compared, by its number."""
    if isinstance(body, LoopProgram):
        return {str(k): dtype for k, dtype in stored_dtypes(body).items()}
    return {str(k): buffer.dtype for k, buffer in enumerate(body.buffers) if buffer.written}


_README = """# {kernel}: one generated kernel, by itself

    python DIR/reproduce.py

`DIR` is this folder. It needs numpy and numba, and nothing of Hotbench; where torch is installed, the ATen ops that the
kernel replaces run beside it. It prints times and errors against float64, and ends with 1 where the results are wrong.

The kernel replaces {count} ops of one call: {ops}.

| file | what it is |
|---|---|
| `kernels/` | the generated Numba kernel, and what it imports |
| `memory.npz` | the memory that it was called with, as it was in a run of the model |
| `expected.npz` | the results in float64, from an interpreter of the same operations |
| `eager.py`, `operands.npz` | the ATen ops that it replaces, on their real operands, and their results in float64 |
| `region.json` | shapes, dtypes, versions, and the kernel's operations one by one |
| `manifest.json` | the SHA-256 of every file |
"""


def _readme(live: LiveProgram, kernel: str, body: Body) -> str:
    described = _describe(live, kernel, body, {})["replaces"]
    counts: dict[str, int] = {}
    for name in described:
        counts[name] = counts.get(name, 0) + 1
    ops = ", ".join(name if count == 1 else f"{name} x{count}" for name, count in counts.items())
    return _README.format(kernel=kernel, count=len(described), ops=ops or "none of its own")
