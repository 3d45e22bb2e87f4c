"""What is kept of the proof of a fused program: for each region its ops, every way measured, errors, and roofline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from analyzer.errors import RecordError
from analyzer.record import from_plain, to_plain
from optimizers.fusion.alternatives import Alternative
from optimizers.fusion.errors import Errors

FILE = "proof.json"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class RegionProof:
    """One generated kernel, or a region that was measured and went back to the library.

    kernel:       its name in the program's source, and of the blob that holds its own source.
    kind:         "region", "loop", or the kind of another kernel.
    graph:        key of the captured graph in Proof.graphs that `ops` number.
    calls:        how often one step runs it; 0 where it is not in the program.
    ops:          for each call, the ops that it replaces: positions in that graph. Views are left out.
    alternatives: every way that was measured, seconds of one call.
    errors, eager_errors: of the kernel and of the ATen ops against float64, each on the values that it had in a run
                  of the model; None where they could not be had, and `unproven` says why.
    flops:        floating-point operations of one call, one for each element of an elementwise op.
    bytes_before: moved by the ATen ops of one call, each tensor once for each op; bytes_after: by the kernel, each
                  element once.
    """

    kernel: str
    kind: str
    graph: str
    calls: int
    ops: tuple[tuple[int, ...], ...]
    alternatives: tuple[Alternative, ...]
    kept: bool
    errors: Errors | None = None
    eager_errors: Errors | None = None
    unproven: str = ""
    flops: float = 0.0
    bytes_before: int = 0
    bytes_after: int = 0

    @property
    def replaced(self) -> int:
        """Return how many ops of one step it replaces."""
        return sum(len(call) for call in self.ops)

    def seconds(self, name: str) -> float | None:
        """Return the seconds of one call in the way called `name`, None where it was not timed."""
        return next((way.seconds for way in self.alternatives if way.name == name), None)


@dataclass(frozen=True, slots=True)
class Proof:
    """The proof of one fused candidate.

    graphs:  for each captured graph its ops in order, (name of the node, name of the op): "add_3", "aten::add".
    regions: kept ones first, in the order of the program. whole: the ways to run the whole step that were measured.
    seconds: what applying took, by stage. problem: why the regions could not be proven, "" where they were.
    """

    graphs: Mapping[str, tuple[tuple[str, str], ...]]
    regions: tuple[RegionProof, ...]
    whole: tuple[Alternative, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""
    format_version: int = FORMAT_VERSION


def save_proof(proof: Proof) -> bytes:
    """Return the proof as JSON."""
    # One line: a graph of 14,000 ops would be as many lines otherwise.
    return json.dumps(to_plain(proof), separators=(",", ":"), allow_nan=False).encode()


def load_proof(data: bytes) -> Proof:
    """Return the proof that `save_proof` wrote. Raises RecordError where it is corrupt or too new."""
    try:
        proof = from_plain(Proof, json.loads(data))
    except ValueError as error:
        raise RecordError(f"{FILE} of the candidate cannot be read: {error}; optimize again") from error
    if proof.format_version > FORMAT_VERSION:
        raise RecordError(f"a proof of format {proof.format_version} is newer than this version: upgrade")
    return proof
