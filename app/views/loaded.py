"""Runs and their findings, loaded once and shared by every page and request."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from analyzer.diagnosis.diagnose import diagnose
from analyzer.diagnosis.finding import Diagnosis
from analyzer.errors import HotbenchError
from analyzer.run import Run, load_run
from app.store import Entry, Store

KEPT = 6
"""A run of 20,000 ops takes about 100 MB as Python values."""


class Cache:
    """The values used last, by key. Two requests for one missing value compute it once."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._values: OrderedDict[tuple[str, ...], Any] = OrderedDict()
        self._making: dict[tuple[str, ...], threading.Lock] = {}

    def get(self, key: tuple[str, ...], make: Callable[[], Any]) -> Any:
        """Return the value of `key`, made by `make` if it is not there. What `make` raises is not kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._values:
                    return self._values[key]
            try:
                value = make()
                with self._lock:
                    self._values[key] = value
                    while len(self._values) > self._kept:
                        self._values.popitem(last=False)
            finally:
                with self._lock:
                    self._making.pop(key, None)
            return value


_runs = Cache()
_diagnoses = Cache(4 * KEPT)


def run_entry(store: Store, id: str) -> Entry:
    """Return the entry of the run that `id` names ("" or "latest": the newest). Raises StoreError if there is none."""
    return store.find(id or "latest", ("run",))


def loaded_run(store: Store, id: str) -> Run:
    """Return the run that `id` names, from memory if it was loaded before; never change it.

    Raises StoreError if there is none, RecordError if its folder is corrupt.
    """
    entry = run_entry(store, id)
    folder = store.folder(entry)
    run: Run = _runs.get((str(folder), entry.digest), lambda: load_run(folder))
    return run


def loaded_diagnosis(store: Store, id: str) -> Diagnosis:
    """Return the findings of the run that `id` names."""
    run = loaded_run(store, id)
    entry = run_entry(store, id)
    diagnosis: Diagnosis = _diagnoses.get((str(store.folder(entry)), entry.digest), lambda: diagnose(run))
    return diagnosis


def derived(store: Store, id: str, name: str, make: Callable[[Run], Any]) -> Any:
    """Return what `make` gives for the run that `id` names, kept in memory under `name`; never change it."""
    entry = run_entry(store, id)
    return _diagnoses.get((str(store.folder(entry)), entry.digest, name), lambda: make(loaded_run(store, entry.id)))


def load_ahead(store: Store, id: str) -> threading.Thread:
    """Begin to load the run that `id` names and its findings, and return the thread that does it.

    A browser takes as long to start its scripts as a large run takes to load: both at once is half the wait.
    """
    thread = threading.Thread(target=_load_quietly, args=(store, id), daemon=True, name="load-ahead")
    thread.start()
    return thread


def _load_quietly(store: Store, id: str) -> None:
    # Whatever is wrong with it is told by the request that needs it.
    with suppress(HotbenchError):
        loaded_diagnosis(store, id)
