"""A store and its queue."""

import pytest

from app.jobs.queue import Jobs
from app.store import open_store
from tests.app.jobs.making import Clock


@pytest.fixture
def store(tmp_path):
    with open_store(str(tmp_path / "store")) as opened:
        yield opened


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def jobs(store, clock):
    return Jobs(store.database, clock)
