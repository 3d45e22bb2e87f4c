"""What pages show of a fused candidate region by region: what it replaced, every way measured, how right it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.units import printable

if TYPE_CHECKING:
    from analyzer.device import Peak
    from analyzer.run import Run
    from optimizers.fusion.alternatives import Alternative
    from optimizers.fusion.errors import Errors
    from optimizers.fusion.proof_record import Proof, RegionProof
    from optimizers.plan import Applied, Candidate, Plan

MOST_PLACES = 6


@dataclass(frozen=True, slots=True)
class RegionView:
    """One generated kernel, or one region that went back to the library.

    ops:        how many ops of a step it replaces; names: which ones, the most frequent first.
    modules:    where in the model they come from, as far as the run's ops tell; sources: lines of the user's code.
    predicted, measured: seconds of a step that it saves; None where nothing was predicted or timed.
    flops, bytes_before, bytes_after: of one call.
    """

    kernel: str
    kind: str
    kept: bool
    reason: str
    calls: int
    ops: int
    names: tuple[tuple[str, int], ...]
    modules: tuple[str, ...]
    sources: tuple[str, ...]
    first_op: int | None
    ways: tuple[Alternative, ...]
    errors: Errors | None
    eager_errors: Errors | None
    unproven: str
    predicted: float | None
    measured: float | None
    flops: float
    bytes_before: int
    bytes_after: int
    phase: str = ""
    """"forward" or "backward" in training."""

    @property
    def key(self) -> str:
        """Return what no other region of the candidate is called: forward and backward may share a kernel."""
        return f"{self.phase}:{self.kernel}" if self.phase else self.kernel

    def way(self, name: str) -> Alternative | None:
        """Return the way called `name`."""
        return next((way for way in self.ways if way.name == name), None)

    @property
    def title(self) -> str:
        """Return its ops in a few words: "tanh, mul ×2 and 3 more"."""
        shown = [name if count == 1 else f"{name} ×{count:,}" for name, count in self.names[:3]]
        more = f" and {len(self.names) - 3} more" if len(self.names) > 3 else ""
        return ", ".join(shown) + more if shown else "no op of its own"


@dataclass(frozen=True, slots=True)
class RegionsView:
    """All regions of one candidate: `optimizer` applied them; peaks are those of the run's device, 0.0 if unknown."""

    experiment: str
    optimizer: str
    regions: tuple[RegionView, ...]
    whole: tuple[Alternative, ...]
    seconds: Mapping[str, float]
    flops_per_second: float
    bytes_per_second: float
    peak_source: str
    matched: float
    """The share of the graph's ops that were found among the run's: 0 to 1."""
    problem: str = ""
    """Why there are no regions, or not all of them."""

    def region(self, key: str) -> RegionView | None:
        """Return the region of that key."""
        return next((region for region in self.regions if region.key == key), None)


def proofs(candidate: Candidate) -> list[tuple[Applied, Proof]]:
    """Return what was applied with a proof of its regions. Raises RecordError for one that cannot be read."""
    from optimizers.fusion.proof_record import FILE, load_proof

    return [(item, load_proof(item.blobs[FILE])) for item in candidate.applied if FILE in item.blobs]


def regions_view(experiment: str, candidate: Candidate, run: Run) -> RegionsView | None:
    """Return the regions of a candidate; None where none of its optimizers leaves a proof of regions."""
    from optimizers.fusion.alignment import NOT_FOUND

    found = proofs(candidate)
    if not found:
        return None
    applied, proof = found[0]
    places = {name: _aligned(name, ops, run) for name, ops in proof.graphs.items()}
    ops = [place for group in places.values() for place in group]
    return RegionsView(
        experiment=experiment,
        optimizer=applied.plan.optimizer,
        regions=tuple(_region(region, proof, places[region.graph], applied.plan, run) for region in proof.regions),
        whole=proof.whole,
        seconds=proof.seconds,
        flops_per_second=_value(run.device.flops_per_second),
        bytes_per_second=_value(run.device.bytes_per_second),
        peak_source="; ".join(
            peak.source for peak in (run.device.flops_per_second, run.device.bytes_per_second) if peak is not None
        ),
        matched=sum(place != NOT_FOUND for place in ops) / len(ops) if ops else 0.0,
        problem=printable(proof.problem),
    )


def _aligned(name: str, ops: Sequence[tuple[str, str]], run: Run) -> tuple[int, ...]:
    from optimizers.fusion.alignment import align

    kind = name.partition("_")[0]
    return align(ops, run.graph, (kind,) if kind in ("forward", "backward") else ())


def _value(peak: Peak | None) -> float:
    return peak.value if peak is not None else 0.0


def _region(region: RegionProof, proof: Proof, places: Sequence[int], plan: Plan, run: Run) -> RegionView:
    positions = [k for call in region.ops for k in call]
    graph = proof.graphs[region.graph]
    names = Counter(graph[k][1].rpartition("::")[2] for k in positions)
    ops = [places[k] for k in positions if places[k] >= 0]
    modules = Counter(run.graph.ops[k].scope for k in ops if run.graph.ops[k].scope)
    sources = Counter(run.graph.ops[k].source for k in ops if run.graph.ops[k].source)
    eager, fused = region.seconds("eager"), region.seconds("fused")
    timed = region.kept and eager is not None and fused is not None
    return RegionView(
        kernel=region.kernel,
        kind=region.kind,
        kept=region.kept,
        reason=_reason(region),
        calls=len(region.ops),
        ops=len(positions),
        names=tuple((printable(name), count) for name, count in names.most_common()),
        modules=_most(modules),
        sources=_most(sources),
        first_op=min(ops, default=None),
        ways=region.alternatives,
        errors=region.errors,
        eager_errors=region.eager_errors,
        unproven=region.unproven,
        predicted=predicted_seconds(ops, plan, run),
        measured=region.calls * (eager - fused) if timed and eager is not None and fused is not None else None,
        flops=region.flops,
        bytes_before=region.bytes_before,
        bytes_after=region.bytes_after,
        phase=region.graph.partition("_")[0],
    )


def _reason(region: RegionProof) -> str:
    reasons = [way.reason for way in region.alternatives if way.name == "fused" and way.reason]
    return reasons[0] if reasons else ""


def _most(counts: Counter[str]) -> tuple[str, ...]:
    shown = tuple(printable(text) for text, _ in counts.most_common(MOST_PLACES))
    return (*shown, f"and {len(counts) - MOST_PLACES} more") if len(counts) > MOST_PLACES else shown


def predicted_seconds(ops: Sequence[int], plan: Plan, run: Run) -> float | None:
    """Return what the plan predicted that these ops of the run save: of each target the part that they make up."""
    if not ops:
        return None
    tops = {run.graph.top_level_of[op] for op in ops}
    total, known = 0.0, False
    for target in plan.targets:
        shared = len(tops.intersection(target.ops))
        if shared and target.estimate is not None:
            known = True
            total += target.estimate.mid * shared / len(target.ops)
    return total if known else None
