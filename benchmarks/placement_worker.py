"""A process of benchmarks.placement that sends or receives single tensors, told what to do by JSON lines."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from analyzer.errors import HotbenchError
from benchmarks.placement_deliveries_worker import deliver
from benchmarks.placement_peers import Peer, make_peer
from optimizers.placement.baselines.backend import World
from optimizers.placement.rank_process import serve, world_from_environment


class Session:
    """A rank of a pair (`connect`, `transfer`), or of a crowd that sends to one another (`deliver`)."""

    world: World
    peer: Peer

    def connect(self, method: str, most_bytes: int) -> dict[str, Any]:
        """Connect the pair."""
        torch.set_num_threads(1)
        self.world = world_from_environment(120.0)
        self.peer = make_peer(method, self.world, most_bytes)
        return {"transport": self.peer.transport}

    def transfer(self, count: int, repeats: int, seed: int) -> dict[str, Any]:
        """Send or receive `count` bytes so many times; the first time is checked and not timed."""
        content = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, count, dtype=np.uint8))
        if self.world.rank:
            for turn in range(repeats + 1):
                found = self.peer.receive(count)
                if turn == 0 and not torch.equal(found, content):
                    raise HotbenchError(f"{count} bytes arrived otherwise than they were sent")
            return {"seconds": []}
        seconds = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            self.peer.send(content)
            seconds.append(time.perf_counter() - start)
        return {"seconds": seconds[1:]}

    def deliver(self, transfers: int, seed: int, transports: str) -> dict[str, Any]:
        """Take part in a crowd's transfers."""
        torch.set_num_threads(1)
        return deliver(world_from_environment(120.0), transfers, seed, transports)

    def quit(self) -> dict[str, Any]:
        """Nothing is left to do."""
        return {}


REQUESTS = {
    "connect": Session.connect,
    "transfer": Session.transfer,
    "deliver": Session.deliver,
    "quit": Session.quit,
}

if __name__ == "__main__":
    serve(REQUESTS, Session())
