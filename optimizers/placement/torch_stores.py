"""Classes of torch.distributed that it documents but does not export for type checkers."""

from __future__ import annotations

from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

__all__ = ["PrefixStore", "Store", "TCPStore"]
