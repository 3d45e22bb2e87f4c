"""The trial at the start: every link carries patterns, put -> flush -> word, and what arrives is looked at whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kernels.transfer.words import LINE_BYTES
from optimizers.placement.transport.errors import TransportError

if TYPE_CHECKING:
    from optimizers.placement.transport.transport import Transport

ROUNDS = 4
PATTERN_BYTES = 1 << 16
_FORTH, _BACK = 0, LINE_BYTES
_HEAD = 2 * LINE_BYTES


def tried(transport: Transport) -> Transport:
    """Return the transport once every link has carried its patterns; raise TransportError for a torn one.

    Pairs take turns by distance, so that each worker has one to write to and one to hear from at a time.
    """
    for distance in range(1, transport.world_size):
        local, others = transport.arena("trial", _HEAD + PATTERN_BYTES)
        target = (transport.rank + distance) % transport.world_size
        origin = (transport.rank - distance) % transport.world_size
        data = local.tensor().numpy()
        check = transport.patience([target, origin], "carry the trial's patterns")
        for turn in range(1, ROUNDS + 1):
            pattern = _pattern(transport.rank, turn)
            others[target].put(pattern.ctypes.data, _HEAD, PATTERN_BYTES)
            others[target].flush(check)
            others[target].set_word(_FORTH, turn, check)
            transport.wait_word(local.address + _FORTH, turn, [origin], "carry the trial's patterns")
            if not np.array_equal(data[_HEAD:].view(np.uint32), _pattern(origin, turn)):
                name = transport.peers.name(origin)
                raise TransportError(f"what {name} wrote arrived torn; use another transport than this one")
            others[origin].set_word(_BACK, turn, check)
            transport.wait_word(local.address + _BACK, turn, [target], "answer the trial's patterns")
        transport.barrier()
        transport.release(*others.values(), local)
    transport.links = transport.describe_links()
    return transport


def _pattern(rank: int, turn: int) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    return np.arange(PATTERN_BYTES // 4, dtype=np.uint32) * np.uint32(2 * turn + 1) + np.uint32(rank << 16)
