"""The engine's records: a saved storage wherever it is, and what autograd holds in its stead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from optimizers.swap.lanes import Ticket
from optimizers.swap.references import references
from optimizers.swap.repetition import view_on

CHANGED = (
    "one of the variables needed for gradient computation has been modified by an inplace operation: a tensor of "
    "shape {shape} is at version {now}; expected version {then} instead"
)


@dataclass(slots=True)
class Copying:
    """A copy on its way, and the memory that it copies from or to."""

    ticket: Ticket
    storage: torch.UntypedStorage


class Entry:
    """One saved storage: resident (`storage`), leaving, away, or arriving.

    aliases: a tensor for each saved one, with its version when it was saved, until the storage leaves.
    changed: the saved tensors that were written in place after they were saved, by place, with both versions.
    """

    __slots__ = (
        "__weakref__",
        "aliases",
        "arriving",
        "away",
        "bytes",
        "changed",
        "leaving",
        "offset",
        "remake",
        "storage",
    )

    def __init__(self, storage: torch.UntypedStorage) -> None:
        self.storage: torch.UntypedStorage | None = storage
        self.bytes = storage.nbytes()
        self.aliases: list[tuple[torch.Tensor, int]] = []
        self.changed: dict[int, tuple[int, int]] = {}
        self.leaving: Copying | None = None
        self.arriving: Copying | None = None
        self.away = False
        self.offset = 0
        self.remake: Callable[[], torch.UntypedStorage] | None = None

    def is_held_elsewhere(self) -> bool:
        """Return whether something beside what was saved holds the storage: it may write it, and moving frees none."""
        if self.storage is None:
            return False
        return references(self.storage._cdata) > len(self.aliases)

    def settle(self) -> None:
        """Note which saved tensors were changed since, and let go of them: only the storage is held from now on."""
        for place, (alias, version) in enumerate(self.aliases):
            if alias._version != version:
                self.changed[place] = (alias._version, version)
        self.aliases = []


class Saved:
    """What autograd keeps for a saved tensor whose storage the engine follows."""

    __slots__ = ("dtype", "entry", "offset", "place", "shape", "strides")

    def __init__(self, entry: Entry, tensor: torch.Tensor) -> None:
        self.entry, self.place = entry, len(entry.aliases)
        self.dtype, self.shape, self.strides = tensor.dtype, tensor.shape, tensor.stride()
        self.offset = int(tensor.storage_offset())
        entry.aliases.append((tensor.detach(), tensor._version))

    def tensor(self) -> torch.Tensor:
        """Return the tensor; its storage is resident. Raises RuntimeError, as autograd does, if it was changed."""
        entry = self.entry
        if entry.aliases:
            alias, version = entry.aliases[self.place]
            return checked(alias, version)
        if self.place in entry.changed:
            now, then = entry.changed[self.place]
            raise RuntimeError(CHANGED.format(shape=list(self.shape), now=now, then=then))
        assert entry.storage is not None, "asked for before it was brought back"
        return view_on(entry.storage, self.dtype, self.shape, self.strides, self.offset)


class Kept:
    """What autograd keeps for a saved tensor that stays where it is."""

    __slots__ = ("alias", "version")

    def __init__(self, tensor: torch.Tensor) -> None:
        self.alias, self.version = tensor.detach(), tensor._version

    def tensor(self) -> torch.Tensor:
        """Return the tensor. Raises RuntimeError, as autograd does, if it was changed."""
        return checked(self.alias, self.version)


def checked(alias: torch.Tensor, version: int) -> torch.Tensor:
    """Return the alias if its version is still that one: with hooks on, autograd does not look itself."""
    if alias._version != version:
        raise RuntimeError(CHANGED.format(shape=list(alias.shape), now=alias._version, then=version))
    return alias
