"""One server without login and one with three users, each for all tests of a module."""

import pytest

from app.store import open_store
from app.store.users import add_user
from app.web.context import ServerSettings
from tests.app.web.servers import listening

PASSWORDS = {"vera": "viewing is enough", "edgar": "editing is fine", "ada": "admin of it all"}
ROLES = {"vera": "viewer", "edgar": "editor", "ada": "admin"}


@pytest.fixture(scope="module")
def open_server(tmp_path_factory):
    """Return a running server on the loopback that asks nobody for a login."""
    with listening(ServerSettings(store=str(tmp_path_factory.mktemp("open")), port=0)) as running:
        yield running


def store_with_users(folder):
    with open_store(str(folder)) as store:
        for name, role in ROLES.items():
            add_user(store.database, name, PASSWORDS[name], role)
    return str(folder)


@pytest.fixture(scope="module")
def login_server(tmp_path_factory):
    """Return a running server that asks for a login, with a viewer, an editor and an admin."""
    place = store_with_users(tmp_path_factory.mktemp("login"))
    with listening(ServerSettings(store=place, port=0, login=True)) as running:
        yield running
