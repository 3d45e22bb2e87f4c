"""Store work for processes of their own: `python -m tests.app.store.processes WHAT FOLDER …`."""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

from analyzer.errors import HotbenchError
from analyzer.record import write_folder
from app.store import Store, open_store


def save(store: Store, id: str, size: int = 100, **more: object) -> None:
    """Save a run-like folder of `size` bytes."""
    store.save(
        "run", lambda folder: write_folder(folder, {"data": os.urandom(size)}, "run", id), name="m.py:workload", **more
    )


def save_many(folder: str, name: str, count: str) -> None:
    """Open the store and save `count` values, one after the other."""
    for index in range(int(count)):
        with open_store(folder) as store:
            save(store, f"run-{name}{index:03d}")


def save_limited(folder: str, id: str, limit: str) -> None:
    """Save 1 MB where no file may grow beyond `limit` bytes: as on a full disk, the write fails half-way."""
    import signal

    with open_store(folder) as store:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
        save(store, id, size=1_000_000)


def save_slowly(folder: str, id: str) -> None:
    """Write half of a value, say so, and wait to be killed."""

    def write(target: Path) -> None:
        target.mkdir()
        (target / "data").write_bytes(b"half")
        print("half", flush=True)
        time.sleep(60)

    with open_store(folder) as store:
        store.save("run", write, name=id)


def hold_lock(folder: str) -> None:
    """Hold the database's write lock until stdin is closed."""
    with open_store(folder) as store, store._database.writing():
        print("locked", flush=True)
        sys.stdin.read()


def show(folder: str) -> None:
    """Print what the store holds, then try to save into it."""
    with open_store(folder) as store:
        print(*(entry.id for entry in store.entries()))
        save(store, "run-beef")


if __name__ == "__main__":
    try:
        globals()[sys.argv[1]](*sys.argv[2:])
    except HotbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
