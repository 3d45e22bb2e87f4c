import dataclasses
import threading
import time

import pytest

from analyzer.run import save_run, with_content_id
from app.store import open_store
from app.store.errors import StoreError
from app.views import loaded
from app.views.loaded import Cache, derived, load_ahead, loaded_diagnosis, loaded_run
from tests.app.values import report_run


def test_the_values_used_last_are_kept():
    cache, made = Cache(2), []
    for key in ("a", "b", "a", "c", "a", "b"):
        assert cache.get((key,), lambda key=key: made.append(key) or key.upper()) == key.upper()
    assert made == ["a", "b", "c", "b"]


def test_two_requests_for_one_missing_value_make_it_once():
    cache, made, found = Cache(), [], []

    def make():
        made.append(1)
        time.sleep(0.05)
        return object()

    threads = [threading.Thread(target=lambda: found.append(cache.get(("run",), make))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and len(set(map(id, found))) == 1


def test_what_could_not_be_made_is_tried_again():
    cache = Cache()
    with pytest.raises(ZeroDivisionError):
        cache.get(("x",), lambda: 1 / 0)
    assert cache.get(("x",), lambda: 2) == 2


@pytest.fixture
def store(tmp_path):
    with open_store(str(tmp_path / "store")) as store:
        yield store


def save(store, **changes):
    run = with_content_id(dataclasses.replace(report_run(), **changes))
    store.save("run", lambda folder: save_run(run, folder), name=run.name, created=run.created)
    return run


def test_a_run_is_loaded_once_with_its_findings(store, monkeypatch):
    run = save(store)
    assert loaded_run(store, run.id) == run
    monkeypatch.setattr(loaded, "load_run", lambda folder: pytest.fail("loaded again"))
    assert loaded_run(store, run.id[:8]) is loaded_run(store, "latest")
    assert loaded_diagnosis(store, run.id) is loaded_diagnosis(store, run.id)
    assert loaded_diagnosis(store, run.id).parent == run.id


def test_each_run_has_values_of_its_own(store):
    first, second = save(store), save(store, name="other.py:workload")
    for _ in range(2):
        assert derived(store, first.id, "name", lambda run: run.name) == first.name
        assert derived(store, second.id, "name", lambda run: run.name) == "other.py:workload"


def test_a_run_that_was_deleted_is_gone_from_memory_too(store):
    run = save(store)
    loaded_run(store, run.id)
    store.discard(store.get(run.id))
    with pytest.raises(StoreError):
        loaded_run(store, run.id)


def test_a_run_loaded_ahead_is_there_when_it_is_asked_for(store, monkeypatch):
    run = save(store)
    load_ahead(store, run.id).join()
    monkeypatch.setattr(loaded, "load_run", lambda folder: pytest.fail("loaded again"))
    assert loaded_run(store, run.id) == run


def test_loading_ahead_leaves_errors_to_the_request_that_needs_the_run(store):
    load_ahead(store, "run-unknown").join()
    with pytest.raises(StoreError, match="run-unknown"):
        loaded_run(store, "run-unknown")
