"""A bucket of gradients in memory that every worker reaches: where it is summed, no copy of it is made.

Backward writes gradients into the bucket (gradient_as_bucket_view), whose memory is moved in place to where peers see
it. The worker that a share belongs to reads that share of every worker, sums it in the order of the ranks and writes
the mean to every worker, straight into the memory that the optimizer will read. Behind a network the shares come by
puts into slots that are registered in advance, and the mean goes by puts into the peers' buckets themselves.
"""

from __future__ import annotations

import torch

from kernels.transfer.words import LINE_BYTES
from optimizers.placement.means import mean_of
from optimizers.placement.shares import Share, shares
from optimizers.placement.transport.memory import SharedMemory
from optimizers.placement.transport.transport import Transport

_WAIT_READY, _WAIT_DONE = "write its part of the gradients", "write back the mean of the gradients"


class BucketMemory:
    """One bucket, shared by all workers; each makes and uses its buckets in the same order."""

    def __init__(self, transport: Transport, tensor: torch.Tensor, form: str) -> None:
        self.tensor = tensor.detach()
        self._transport = transport
        self._rank, self._world = transport.rank, transport.world_size
        self._shares = shares(form, tensor.numel(), self._world)
        self._item = tensor.element_size()
        self._others = [rank for rank in range(self._world) if rank != self._rank]
        self._owners = [rank for rank in self._others if self._shares[rank].count]
        self._sequence = 0
        self._bucket = transport.offer(SharedMemory.adopt(tensor))
        self._start = tensor.data_ptr() - self._bucket.address
        name = f"bucket {tensor.numel()} {tensor.dtype} {form}"  # workers that disagree wait for different names
        self._buckets = transport.exchange(name, self._bucket)
        self._words, self._remote_words = transport.arena(f"words of {name}", self._words_bytes())
        self._mapped = {rank: region.mapped_address for rank, region in self._buckets.items()}

    @property
    def bytes_moved(self) -> int:
        """Return the bytes that this worker sends for one mean: its parts of the others' shares, and its mean."""
        parts = sum(share.count for rank, share in enumerate(self._shares) if rank != self._rank)
        return self._item * (parts + self._shares[self._rank].count * len(self._others))

    def average(self) -> None:
        """Return nothing; replace the bucket by the mean of all workers' buckets, as every worker does now.

        Raises TransportError that names a peer which is gone or silent.
        """
        self._sequence += 1
        self._contribute()
        if self._shares[self._rank].count:
            for rank in self._others:
                self._transport.wait_word(self._word(rank, 0), self._sequence, [rank], _WAIT_READY)
            self._reduce()
        for rank in self._owners:
            self._transport.wait_word(self._word(rank, 1), self._sequence, [rank], _WAIT_DONE)

    def close(self) -> None:
        """Return nothing; let go of the peers' memory and offer this no more."""
        self._transport.release(*self._buckets.values(), *self._remote_words.values(), self._words, self._bucket)

    def _contribute(self) -> None:
        check = self._transport.patience(self._owners, "take this worker's part of the gradients")
        behind = [rank for rank in self._owners if not self._mapped[rank]]
        for rank in behind:
            share = self._shares[rank]
            place = self._slot(self._rank, share)
            self._remote_words[rank].put(self._address(share), place, share.count * self._item)
        for rank in behind:
            self._remote_words[rank].flush(check)
        for rank in self._owners:
            self._remote_words[rank].set_word(self._offset(self._rank, 0), self._sequence, check)

    def _reduce(self) -> None:
        share = self._shares[self._rank]
        check = self._transport.patience(self._others, "take the mean of the gradients")
        mine, size = self._address(share), share.count * self._item
        sources = [mine if rank == self._rank else self._source(rank, share) for rank in range(self._world)]
        near = [self._source(rank, share) for rank in self._others if self._mapped[rank]]
        mean_of(self.tensor.dtype, sources, [mine, *near], share.count)
        behind = [rank for rank in self._others if not self._mapped[rank]]
        for rank in behind:
            self._buckets[rank].put(mine, self._start + share.begin * self._item, size)
        for rank in behind:
            self._buckets[rank].flush(check)
        for rank in self._others:
            self._remote_words[rank].set_word(self._offset(self._rank, 1), self._sequence, check)

    def _source(self, rank: int, share: Share) -> int:
        """Return where this worker reads a peer's part of its own share."""
        if self._mapped[rank]:
            return self._mapped[rank] + self._start + share.begin * self._item
        return self._words.address + self._slot(rank, share)

    def _address(self, share: Share) -> int:
        return self.tensor.data_ptr() + share.begin * self._item

    def _offset(self, rank: int, kind: int) -> int:
        return LINE_BYTES * (2 * rank + kind)

    def _word(self, rank: int, kind: int) -> int:
        return self._words.address + self._offset(rank, kind)

    def _slot(self, rank: int, share: Share) -> int:
        """Return the offset, in the memory of the worker that the share belongs to, of another one's part of it."""
        stride = -(-share.count * self._item // LINE_BYTES) * LINE_BYTES
        return 2 * self._world * LINE_BYTES + rank * stride

    def _words_bytes(self) -> int:
        """Slots only where someone puts into them."""
        if all(region.mapped_address for region in self._buckets.values()):
            return 2 * self._world * LINE_BYTES
        return self._slot(self._world, self._shares[self._rank])
