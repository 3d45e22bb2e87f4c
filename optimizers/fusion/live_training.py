"""The programs of a training step with their real tensors: taken while torch.compile builds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from optimizers.fusion.alternatives import two_ways
from optimizers.fusion.api import graph_hash
from optimizers.fusion.backend_choice import Chosen
from optimizers.fusion.capture import Captured
from optimizers.fusion.live import LiveProgram
from optimizers.fusion.program import Program
from optimizers.fusion.proof import graph_ops, prove_regions, proven
from optimizers.fusion.proof_record import Proof, RegionProof
from optimizers.fusion.timing import Comparison

if TYPE_CHECKING:
    from optimizers.plan import Candidate


@dataclass
class Watch:
    """Keeps what each program was chosen from, by its graph's hash; the latest where one was built twice."""

    seen: dict[str, tuple[LiveProgram, Chosen]] = field(default_factory=dict)

    def __call__(
        self, captured: Captured, weights: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor], chosen: Chosen
    ) -> None:
        """Keep one program with copies of its inputs: what backward reads is written anew in the next step."""
        assert isinstance(chosen.program, Program), "a backend that is watched measures anew"
        key = graph_hash(captured)
        copies = [_kept(tensor) for tensor in inputs]
        self.seen[key] = LiveProgram(captured, chosen.program, chosen.kernels, tuple(weights), copies, key), chosen


def _kept(tensor: torch.Tensor) -> torch.Tensor:
    copied = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
    return copied.copy_(tensor.detach())


def prove_training(watch: Watch, decided: Mapping[str, Any], seconds: Mapping[str, float]) -> Proof:
    """Return the proof of the programs that were kept. decided: what fuse_training decided.

    What failed in proving a program leaves that program without errors, not the candidate.
    """
    graphs: dict[str, tuple[tuple[str, str], ...]] = {}
    regions: list[RegionProof] = []
    problems: list[str] = []
    for item in decided["programs"]:
        if item["graph"] not in watch.seen:
            continue
        live, chosen = watch.seen[item["graph"]]
        key = f"{item['kind']}_{item['graph']}"
        graphs[key] = graph_ops(live.captured, live.program)
        found, problem = proven(partial(_prove, live, chosen, key))
        regions += found
        problems += [problem] if problem else []
    whole = two_ways(Comparison(**decided["eager_over_fused"]), True, "program")
    return Proof(graphs, tuple(regions), whole, dict(seconds), "; ".join(problems))


def _prove(live: LiveProgram, chosen: Chosen, key: str) -> tuple[RegionProof, ...]:
    weights, inputs = list(live.weights), list(live.inputs)
    with torch.random.fork_rng(devices=[]):  # the program and the graph draw what the user's next step should draw
        return prove_regions(live.captured, live.program, live.kernels, chosen.choices, weights, inputs, key)


def live_training(candidate: Candidate) -> list[LiveProgram]:
    """Return the forward and backward programs of a training candidate, built afresh as they were decided."""
    from analyzer.workload import rebuild_workload
    from optimizers.fusion.backend_training import rebuild_training

    workload = rebuild_workload(candidate.reference)
    watch = Watch()
    for item in candidate.applied:
        rebuild_training(workload, item.decisions, watch)
    return [live for live, _ in watch.seen.values()]
