import subprocess
import sys

import pytest

from analyzer.errors import HotbenchError
from app.server import assets_folder, make_server, needs_login
from app.store import open_store
from app.web.context import ServerSettings
from tests.app.web.conftest import store_with_users


@pytest.mark.parametrize(
    "settings, has_users, expected",
    [
        (ServerSettings(), False, False),
        (ServerSettings(), True, False),
        (ServerSettings(host="localhost"), True, False),
        (ServerSettings(host="::1"), False, False),
        (ServerSettings(login=True), True, True),
        (ServerSettings(host="0.0.0.0"), True, True),
        (ServerSettings(host="192.168.1.7"), True, True),
        (ServerSettings(trusted_hosts=("bench.example.org",)), True, True),
    ],
)
def test_only_the_loopback_goes_without_login(settings, has_users, expected):
    assert needs_login(settings, has_users) is expected


@pytest.mark.parametrize(
    "settings",
    [
        ServerSettings(host="0.0.0.0"),
        ServerSettings(host="bench.example.org"),
        ServerSettings(login=True),
        ServerSettings(trusted_hosts=("bench.example.org",)),
    ],
)
def test_a_server_that_others_reach_is_refused_without_users(settings):
    with pytest.raises(HotbenchError, match="`hotbench users add NAME --role admin`"):
        needs_login(settings, has_users=False)


def test_a_refused_server_leaves_the_store_closed(tmp_path):
    with pytest.raises(HotbenchError, match="others can reach 0.0.0.0"):
        make_server(ServerSettings(store=str(tmp_path), host="0.0.0.0"))
    # A store that is still open could not be moved away on every system, and its log would stay.
    assert not list(tmp_path.glob("*.key"))


def test_two_servers_live_in_one_process(tmp_path):
    first = make_server(ServerSettings(store=str(tmp_path / "a")), jobs_run=False)
    second = make_server(ServerSettings(store=store_with_users(tmp_path / "b"), login=True), jobs_run=False)
    try:
        assert first.dash is not second.dash
        assert set(first.dash.callback_map) == set(second.dash.callback_map)
        assert first.flask.test_client().get("/_dash-layout", base_url="http://127.0.0.1").status_code == 200
        assert second.flask.test_client().get("/_dash-layout", base_url="http://127.0.0.1").status_code == 401
    finally:
        first.stop()
        second.stop()


def test_a_server_without_users_makes_no_key(tmp_path):
    make_server(ServerSettings(store=str(tmp_path)), jobs_run=False).stop()
    assert not list(tmp_path.glob("*.key"))


def test_the_page_keeps_what_it_needs_beside_the_program():
    names = {path.name for path in assets_folder().iterdir()}
    assert {"favicon.svg", "login.css", "session.js"} <= names


def test_an_installation_without_its_scripts_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("app.server.CHECKOUT", tmp_path)
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(tmp_path / "prefix"))
    with pytest.raises(HotbenchError, match="missing from this installation"):
        assets_folder()
    installed = tmp_path / "prefix" / "share" / "hotbench" / "assets"
    installed.mkdir(parents=True)
    (installed / "favicon.svg").touch()
    assert assets_folder() == installed


def test_a_stopped_server_leaves_a_store_that_opens(tmp_path):
    server = make_server(ServerSettings(store=str(tmp_path)))
    server.start()
    server.stop()
    with open_store(str(tmp_path)) as store:
        assert store.entries() == ()


def test_a_server_starts_without_torch_and_without_the_optimizers(tmp_path):
    code = (
        "import sys\n"
        "from app.server import make_server\n"
        "from app.web.context import ServerSettings\n"
        f"make_server(ServerSettings(store={str(tmp_path)!r}), jobs_run=False).stop()\n"
        "print(sorted({'torch', 'numba', 'sympy', 'optimizers.registry'} & set(sys.modules)))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.stdout, ended.returncode) == ("[]\n", 0), ended.stderr
