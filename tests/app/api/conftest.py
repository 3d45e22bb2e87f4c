"""A desk that workers speak to, and one that is known to it."""

import pytest

from app.store import open_store
from tests.app.worker.desk import Asking, Desk, make_values

FIRST_SECOND = 1_800_000_000.0


@pytest.fixture(scope="package")
def values(tmp_path_factory):
    return make_values(tmp_path_factory.mktemp("values"))


@pytest.fixture
def now():
    """Return the desk's clock, which a test may move."""
    return [FIRST_SECOND]


@pytest.fixture
def desk(tmp_path, now):
    with open_store(str(tmp_path / "store")) as store:
        yield Desk(store, lambda: now[0])


@pytest.fixture
def asking(desk):
    _, token = desk.workers.add("gpu-1", "ada")
    worker = Asking(desk, token)
    assert worker.hello().status_code == 200
    return worker
