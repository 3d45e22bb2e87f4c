"""The forward's ops as they happen: which storages each reads, writes and makes, and whether it can be repeated."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from optimizers.swap.plain import is_plain
from optimizers.swap.references import references
from optimizers.swap.trace import TracedOp

# What updates a state that its schema does not name gives another result when it is repeated.
STATEFUL = ("batch_norm",)


def tensors_of(value: Any) -> list[torch.Tensor]:
    """Return the tensors in nested arguments or results, in order."""
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


@dataclass
class SeenStorage:
    """A storage met in a traced step; `alive` keeps its identity from being handed out again."""

    number: int
    bytes: int
    address: int
    alive: StorageWeakRef
    writers: list[int] = field(default_factory=list)


def references_to(storage: SeenStorage) -> int:
    """Return how many tensors stand on the storage now, those of autograd included."""
    # The identity stays this storage's while there is a weak reference to it.
    return references(storage.alive.cdata)


class StorageNumbers:
    """Numbers storages in the order in which they are met."""

    def __init__(self) -> None:
        self.seen: list[SeenStorage] = []
        self._by_identity: dict[int, SeenStorage] = {}

    def of(self, storage: torch.UntypedStorage) -> SeenStorage:
        """Return the storage's record, a new one where it was not met before."""
        found = self._by_identity.get(storage._cdata)
        if found is None:
            alive = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
            found = SeenStorage(len(self.seen), storage.nbytes(), storage.data_ptr(), alive)
            self._by_identity[storage._cdata] = found
            self.seen.append(found)
        return found

    def count(self) -> int:
        """Return how many there are."""
        return len(self.seen)


class OpTracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the ops of a forward."""

    def __init__(self, numbers: StorageNumbers, next_mark: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numbers, self.next_mark = numbers, next_mark
        self.ops: list[TracedOp] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        arguments = [self._number(tensor) for tensor in tensors_of((args, given))]
        met = self.numbers.count()
        result = func(*args, **given)
        index = len(self.ops)
        outputs = [self._number(tensor) for tensor in tensors_of(result)]
        changed = {self._number(tensor) for tensor in _mutated(func, args, given)}
        for number in dict.fromkeys([*outputs, *sorted(changed)]):
            if number >= met or number in changed:
                self.numbers.seen[number].writers.append(index)
        random = torch.Tag.nondeterministic_seeded in func.tags
        refusal = _refusal(str(func), given, random, tensors_of((args, given, result)))
        self.ops.append(TracedOp(index, str(func), self.next_mark(), tuple(arguments), tuple(outputs), random, refusal))
        return result

    def _number(self, tensor: torch.Tensor) -> int:
        return self.numbers.of(tensor.untyped_storage()).number if is_plain(tensor) else -1


class OpTimer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Times the ops of a forward."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seconds: list[float] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        begin = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        self.seconds.append(time.perf_counter() - begin)
        return result


def _mutated(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[place] if place < len(args) else kwargs.get(argument.name)
            found += tensors_of(given)
    return found


def _refusal(name: str, kwargs: dict[str, Any], random: bool, tensors: Sequence[torch.Tensor]) -> str:
    if any(word in name for word in STATEFUL):
        return f"{name} updates a state"
    if random and kwargs.get("generator") is not None:
        return f"{name} draws from a generator of its own"
    if not all(is_plain(tensor) for tensor in tensors):
        return f"{name} works on tensors that are no plain memory"
    return ""
