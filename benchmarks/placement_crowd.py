"""Processes of benchmarks.placement_worker: ranks that are not trainings, started together and ended together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from optimizers.placement.launch import Place, meeting_point
from optimizers.placement.workers import Meeting, RankProcess, Workers

WORKER = "benchmarks.placement_worker"
BUILD_SECONDS = 300.0


@contextmanager
def crowd(size: int, places: Sequence[Place] = (), meeting: Meeting | None = None) -> Iterator[Workers]:
    """Have so many ranks, nothing asked of them yet. meeting: rank 0 opens the store there; by default it is here."""
    with ExitStack() as stack:
        store = None
        if meeting is None:
            store, meeting = meeting_point(BUILD_SECONDS)
            stack.callback(lambda held: None, store)  # The store lives as long as its ranks.
        processes: list[RankProcess] = []
        for rank in range(size):
            place = places[rank] if places else Place()
            variables = {**dict(place.variables), **({} if store else {"TORCHELASTIC_USE_AGENT_STORE": "False"})}
            process = RankProcess(
                rank, size, meeting, threads=1, prefix=place.prefix, variables=variables, module=WORKER
            )
            processes.append(process)
            stack.callback(process.end)
        yield stack.enter_context(Workers(processes))
