"""Rule: chains of ops that write tensors to memory only for the next op to read them back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from analyzer.diagnosis.calls import Call, calls_of
from analyzer.diagnosis.finding import Finding
from analyzer.graph import Graph
from analyzer.measurement import Estimate
from analyzer.run import Run

RULE = "memory-bound"
SHORTEST_CHAIN = 2
LEAST_SECONDS_PER_OP = 10e-6
"""Below this an op is bound by its dispatch: another rule's matter."""


def find(run: Run) -> Iterator[Finding]:
    """Yield a finding for each chain of at least two memory-bound ops linked by intermediate tensors."""
    if run.device.flops_per_second is None or run.device.bytes_per_second is None:
        return
    ridge = run.device.flops_per_second.value / run.device.bytes_per_second.value
    members = {call.op.index: call for call in calls_of(run) if _is_bound(call, ridge)}
    links = _links(run.graph)
    for chain in _chains(members, links):
        finding = _finding(run, chain)
        if finding is not None:
            yield finding


def _is_bound(call: Call, ridge: float) -> bool:
    if call.kind not in ("pointwise", "reducing") or call.op.self_seconds is None or call.bytes_moved == 0:
        return False
    return call.seconds >= LEAST_SECONDS_PER_OP and call.flops / call.bytes_moved < ridge


def _links(graph: Graph) -> dict[int, set[int]]:
    """Return, for each call, the calls that read what it wrote; views in between are looked through."""
    links: dict[int, set[int]] = defaultdict(set)
    for edge in graph.edges:
        source, target = graph.top_level_of[edge.source], graph.top_level_of[edge.target]
        if source >= 0 and target >= 0 and source != target:
            links[source].add(target)
    return links


def _chains(members: dict[int, Call], links: dict[int, set[int]]) -> Iterator[list[Call]]:
    """Yield maximal paths: each op but the last feeds exactly one op, which is a member too."""
    follower = {index: next(iter(links[index])) for index in members if len(links.get(index, ())) == 1}
    follower = {index: target for index, target in follower.items() if target in members}
    followed = set(follower.values())
    seen: set[int] = set()
    for index in members:
        if index in followed or index in seen:
            continue
        chain = [members[index]]
        while chain[-1].op.index in follower and follower[chain[-1].op.index] not in seen:
            seen.add(chain[-1].op.index)
            chain.append(members[follower[chain[-1].op.index]])
        seen.add(chain[-1].op.index)
        if len(chain) >= SHORTEST_CHAIN:
            yield chain


def _finding(run: Run, chain: Sequence[Call]) -> Finding | None:
    tensors = run.graph.tensors
    # Each tensor between two ops is written once and read once more than a fused loop would.
    avoided = sum(
        2 * sum(tensors[output].nbytes for output in call.op.outputs if output not in chain[-1].op.outputs)
        for call in chain[:-1]
    )
    seconds = sum(call.seconds for call in chain)
    moved = sum(call.bytes_moved for call in chain)
    if moved == 0 or avoided == 0:
        return None
    share = min(avoided / moved, 1.0)
    names = " -> ".join(call.op.name.removeprefix("aten::") for call in chain[:6]) + (" …" if len(chain) > 6 else "")
    first = chain[0].op
    return Finding(
        id=f"{RULE}:{first.index}",
        rule=RULE,
        title=f"{names}: {100 * share:.0f} % of the bytes they move are intermediate tensors",
        evidence={
            "ops": len(chain),
            "self_seconds": seconds,
            "share_of_step": min(seconds / max(run.step_seconds.median, 1e-12), 1.0),
            "bytes_moved": moved,
            "intermediate_bytes": avoided,
            "achieved_bytes_per_second": moved / seconds if seconds else 0.0,
            "peak_bytes_per_second": run.device.bytes_per_second.value if run.device.bytes_per_second else 0.0,
            "scope": first.scope,
            "first_source": first.source,
        },
        ops=tuple(call.op.index for call in chain),
        estimate=Estimate(
            low=0.5 * share * seconds,
            mid=0.8 * share * seconds,
            high=share * seconds,
            unit="s",
            basis="measured self times times the share of bytes that one loop would not move",
        ),
        optimizer="" if run.training else "fusion",
    )
