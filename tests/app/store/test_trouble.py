"""Full disks, locks, corrupt files, other processes: one clear line each, and nothing half-written is listed."""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.store import StoreError, open_store
from tests.app.store.processes import save

ROOT = Path(__file__).parents[3]
CAPABILITY_DAC_OVERRIDE, DROP_FROM_BOUNDING_SET = 1, 24


def start(*arguments, **options):
    """Return the running `python -m tests.app.store.processes …`."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.app.store.processes", *map(str, arguments)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, **options,
    )  # fmt: skip


def finish(process):
    """Return (exit code, stdout, stderr); whatever happens the process is gone."""
    try:
        out, err = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return process.returncode, out, err


def test_two_processes_save_at_once_into_a_store_that_neither_finds(tmp_path):
    processes = [start("save_many", tmp_path / "new", name, 12) for name in ("a", "b")]
    assert [finish(process)[::2] for process in processes] == [(0, ""), (0, "")]
    with open_store(str(tmp_path / "new")) as store:
        assert sorted(entry.id for entry in store.entries()) == sorted(
            f"run-{name}{index:03d}" for name in "ab" for index in range(12)
        )
        assert all(store.folder(entry).is_dir() for entry in store.entries())


def test_a_disk_that_fills_while_saving_leaves_nothing(tmp_path):
    code, _, err = finish(start("save_limited", tmp_path, "run-ab12", 300_000))
    assert code == 2 and "cannot save run to" in err and len(err.splitlines()) == 1
    with open_store(str(tmp_path)) as store:
        assert store.entries() == ()
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == ["store-id"]


def test_a_database_that_cannot_grow_lists_nothing(tmp_path):
    with open_store(str(tmp_path)) as store:
        engine = store._database._engine
        with engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        # The limit holds for that one connection, which the pool hands out again.
        with pytest.raises(StoreError, match="cannot grow: the disk is full; free space"):
            save(store, "run-ab12", summary={"much": "x" * 100_000})
        assert store.entries() == ()


def test_a_killed_process_leaves_nothing_listed_and_its_leftover_is_swept(tmp_path):
    process = start("save_slowly", tmp_path, "run-ab12")
    assert process.stdout.readline() == "half\n"
    os.killpg(process.pid, signal.SIGKILL)
    finish(process)
    with open_store(str(tmp_path)) as store:
        assert store.entries() == ()
        assert len(list((tmp_path / "blobs").glob("*.partial"))) == 1
        assert len(store.sweep(now=1e12)) == 1


def test_a_locked_database_is_named_after_the_wait(tmp_path):
    process = start("hold_lock", tmp_path)
    assert process.stdout.readline() == "locked\n"
    try:
        with open_store(str(tmp_path), busy_seconds=0.1) as store:
            assert store.entries() == ()
            with pytest.raises(StoreError, match="is locked by another process; wait for it"):
                save(store, "run-ab12")
    finally:
        process.stdin.close()
        process.stdin = None
        assert finish(process)[0] == 0


@pytest.mark.parametrize(
    "content",
    [b"this is no database, but it is long enough to look like one" * 50, b"SQLite format 3\0" + b"\xff" * 4000],
)
def test_a_corrupt_database_is_named_and_left_alone(tmp_path, content):
    database = tmp_path / "hotbench.sqlite"
    database.write_bytes(content)
    with (
        pytest.raises(StoreError, match=r"hotbench\.sqlite is corrupt.*; restore it from a backup"),
        open_store(str(tmp_path)),
    ):
        pass
    assert database.read_bytes() == content


def test_a_read_only_store_can_be_read_and_says_why_it_cannot_be_written(tmp_path):
    with open_store(str(tmp_path)) as store:
        save(store, "run-ab12")
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    library = ctypes.CDLL(None)
    try:
        # Root may write anywhere: the child gives that up, so that the modes hold for it.
        process = start(
            "show", tmp_path, preexec_fn=lambda: library.prctl(DROP_FROM_BOUNDING_SET, CAPABILITY_DAC_OVERRIDE, 0, 0, 0)
        )
        code, out, err = finish(process)
    finally:
        for path in (tmp_path, *tmp_path.rglob("*")):
            path.chmod(0o755)
    assert out.strip() == "run-ab12", err
    assert code == 2 and "is read-only; give a folder that you may write to" in err and len(err.splitlines()) == 1


def test_a_store_where_no_folder_can_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StoreError, match="cannot make the store's folder .*Not a directory"),
        open_store(str(tmp_path / "file" / "store")),
    ):
        pass


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="is a file; give a folder"), open_store(str(tmp_path / "file")):
        pass
