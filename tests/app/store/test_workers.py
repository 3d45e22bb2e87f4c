"""Workers: a token is known by its hash alone, and holds until it is revoked."""

import pytest
from sqlalchemy import select

from app.store import StoreError, open_store, tables
from app.store.workers import Workers, token_hash


@pytest.fixture
def store(tmp_path):
    with open_store(str(tmp_path / "store")) as opened:
        yield opened


def test_a_token_finds_its_worker_and_is_not_stored(store):
    workers = Workers(store.database)
    worker, token = workers.add("gpu-1", "ada")
    other, another = workers.add("gpu-2", "ada")
    assert token != another and len(token) >= 43
    assert workers.of_token(token) == worker and workers.of_token(another) == other
    assert workers.of_token("") is None and workers.of_token(token + "x") is None
    with store.database.reading() as connection:
        rows = [str(tuple(row)) for row in connection.execute(select(tables.workers))]
    assert token not in "".join(rows) and token_hash(token) in "".join(rows)


@pytest.mark.parametrize("name", ["", " ", "-a", "a b", "a/b", "x" * 61, "ä"])
def test_a_name_of_other_signs_is_refused(store, name):
    with pytest.raises(StoreError, match="is no worker's name"):
        Workers(store.database).add(name, "ada")


def test_a_name_is_given_once_and_free_again_after_a_revocation(store):
    workers = Workers(store.database)
    first, token = workers.add("gpu-1", "ada")
    with pytest.raises(StoreError, match="there is a worker 'gpu-1' already; revoke it"):
        workers.add("gpu-1", "ada")
    revoked = workers.revoke("gpu-1")
    assert revoked.revoked is not None and revoked.id == first.id and workers.of_token(token) == revoked
    assert workers.revoke(first.id) == revoked
    second, _ = workers.add("gpu-1", "ada")
    assert [worker.id for worker in workers.list()] == [second.id, first.id]


def test_an_unknown_name_lists_those_there_are(store):
    workers = Workers(store.database)
    workers.add("gpu-1", "ada")
    with pytest.raises(StoreError, match="no worker 'gpu-7'; there are: gpu-1"):
        workers.revoke("gpu-7")
    with pytest.raises(StoreError, match="no worker 'worker-none'"):
        workers.get("worker-none")


def test_a_worker_counts_as_gone_after_half_a_minute(store):
    now = 1000.0
    workers = Workers(store.database, lambda: now)
    worker, _ = workers.add("gpu-1", "ada")
    assert not worker.alive(now)
    workers.seen(worker.id, {"host": "box"})
    now = 1029.0
    assert workers.get(worker.id).alive(now) and workers.get(worker.id).about == {"host": "box"}
    assert not workers.get(worker.id).alive(1030.0)
    workers.seen(worker.id)
    assert workers.get(worker.id).seen == 1029.0 and workers.get(worker.id).about == {"host": "box"}
    assert not workers.revoke("gpu-1").alive(now)
