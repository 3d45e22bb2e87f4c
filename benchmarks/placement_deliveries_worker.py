"""One process of many that send tensors of mixed size to one another: is each one delivered, whole, once, in order?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from optimizers.placement.baselines.backend import World
from optimizers.placement.torch_stores import PrefixStore
from optimizers.placement.transport import open_transport
from optimizers.placement.transport.slots import Receiver, Sender, receiver, sender

MOST_WORDS = 1 << 15
SLOTS = 3
WORD_BYTES = 8


def sizes_of(source: int, target: int, transfers: int, seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return how many words each of a pair's transfers has, 1 to MOST_WORDS, small and large ones alike often."""
    draw = np.random.default_rng((seed, source, target))
    return np.exp(draw.uniform(0.0, np.log(MOST_WORDS), transfers)).astype(np.int64)


def mark_of(source: int, sequence: int) -> int:
    """Return the word that every word of a transfer is: no other transfer of the crowd has the same."""
    return (source + 1) << 40 | sequence


def deliver(world: World, transfers: int, seed: int, transports: str) -> dict[str, Any]:
    """Send `transfers` tensors to each other rank and take theirs; return how many came, and what was wrong.

    Every rank sends one to each peer, then takes one of each: with more slots than one nobody waits for ever.
    """
    peers = [rank for rank in range(world.size) if rank != world.rank]
    with open_transport(
        PrefixStore("transport", world.store),
        world.rank,
        world.size,
        secret=world.secret,
        transports=transports,
        timeout_seconds=world.timeout_seconds,
    ) as transport:
        # Pair by pair, both ends of a pair at once, in the same order everywhere.
        senders: dict[int, Sender] = {}
        receivers: dict[int, Receiver] = {}
        for source in range(world.size):
            for target in range(world.size):
                if source == world.rank != target:
                    senders[target] = sender(transport, target, "crowd", WORD_BYTES * MOST_WORDS, SLOTS)
                if target == world.rank != source:
                    receivers[source] = receiver(transport, source, "crowd", WORD_BYTES * MOST_WORDS, SLOTS)
        out = {peer: sizes_of(world.rank, peer, transfers, seed) for peer in peers}
        due = {peer: sizes_of(peer, world.rank, transfers, seed) for peer in peers}
        buffer = torch.zeros(MOST_WORDS, dtype=torch.int64)
        intact, torn, lost = 0, 0, 0
        for turn in range(transfers):
            for peer in peers:
                words = buffer[: int(out[peer][turn])]
                words.fill_(mark_of(world.rank, turn))
                senders[peer].send(words)
            for peer in peers:
                with receivers[peer].receive() as delivery:
                    found = delivery.tensor.numpy().view(np.int64)
                    if delivery.sequence != turn + 1 or len(found) != due[peer][turn]:
                        lost += 1
                    elif (found != mark_of(peer, turn)).any():
                        torn += 1
                    else:
                        intact += 1
        links = "+".join(sorted({link.transport for link in transport.describe_links()}))
        transport.barrier()
    return {"intact": intact, "torn": torn, "lost": lost, "transport": links}
