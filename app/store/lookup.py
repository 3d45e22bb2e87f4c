"""Find an entry by what a person types."""

from __future__ import annotations

from collections.abc import Sequence

from app.store.entry import Entry
from app.store.errors import StoreError

LATEST = "latest"
_SHOWN = 5
_MAKERS = {
    "experiment": "optimize RUN --with fusion",
    "artifact": "export EXPERIMENT -o DIR",
    "report": "publish RUN",
}
"""The command that makes the first one of a kind; of all others it is a capture."""


def choose(entries: Sequence[Entry], text: str, kinds: tuple[str, ...], label: str) -> Entry:
    """Return the entry that `text` names among `entries` (newest first).

    An id, a beginning of one (with or without "run-"), or "latest". Raises StoreError if none or several match.
    """
    wanted = " or ".join(kinds) or "entry"
    candidates = [entry for entry in entries if not kinds or entry.kind in kinds]
    if text == LATEST and candidates:
        return candidates[0]
    exact = [entry for entry in entries if entry.id == text]
    if exact and exact[0] not in candidates:
        raise StoreError(f"{text} is of kind {exact[0].kind}, not {wanted}; {_known(candidates, wanted, label)}")
    found = exact or [entry for entry in candidates if text and _begins(entry.id, text)]
    if len(found) == 1:
        return found[0]
    if found:
        raise StoreError(f"{text!r} is the beginning of {len(found)} ids: {_listed(found)}; write more of it")
    raise StoreError(f"no {wanted} {text!r}; {_known(candidates, wanted, label)}")


def _begins(id: str, text: str) -> bool:
    return id.startswith(text) or id.rpartition("-")[2].startswith(text)


def _known(entries: Sequence[Entry], wanted: str, label: str) -> str:
    if not entries:
        maker = _MAKERS.get(wanted, "profile FILE.py:FUNCTION")
        return f"the store {label} holds none yet: make one with `hotbench {maker}`"
    return f"the store holds {_listed(entries)}"


def _listed(entries: Sequence[Entry]) -> str:
    more = f" and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else ""
    return ", ".join(entry.id for entry in entries[:_SHOWN]) + more
