"""Who gets in, where they land, and what ends a login. All over a real connection."""

import dataclasses
import re

import pytest

from app.store.users import add_user, remove_user, set_password, set_role
from app.web import attempts
from app.web.access import Forbidden, Person, person, require
from app.web.context import ServerSettings
from app.web.login import local_target
from app.web.security import WORKER_API
from tests.app.web.conftest import PASSWORDS, store_with_users
from tests.app.web.servers import listening

CALLBACK = "/_dash-update-component"


def test_without_login_everybody_is_local_and_may_do_everything(open_server):
    with open_server.server.flask.test_request_context("/"):
        assert require("admin") == Person("local", "admin")
    assert open_server.ask("/").status == 200
    assert open_server.ask("/login").status == 200
    assert "Hotbench" in open_server.ask("/login").text
    assert "Set-Cookie" not in open_server.ask("/").headers


@pytest.mark.parametrize("path", ["/", "/runs", "/operators?run=run-1&op=3", "/anything"])
def test_a_page_leads_to_the_login_and_back(login_server, path):
    answer = login_server.ask(path)
    assert answer.status == 302
    form = login_server.ask(answer.headers["Location"]).text
    target = re.search(r'name="next" value="([^"]*)"', form)[1].replace("&amp;", "&")
    assert target == path
    assert login_server.log_in("vera", PASSWORDS["vera"], target).headers["Location"] == path


@pytest.mark.parametrize("path", ["/_dash-layout", "/_dash-dependencies", "/api/events", "/api/none", CALLBACK])
def test_data_and_callbacks_need_a_login(login_server, path):
    method = "POST" if path == CALLBACK else "GET"
    answer = login_server.ask(path, method, {"Content-Type": "application/json"}, "{}" if method == "POST" else None)
    assert answer.status == 401
    assert "/login" in answer.json["error"]


def test_nothing_of_the_page_is_served_without_a_login_but_the_form_and_its_looks(login_server):
    flask = login_server.server.flask
    for rule in flask.url_map.iter_rules():
        path = re.sub(r"<[^>]*>", "x", rule.rule)
        if path.startswith(("/login", "/assets/", WORKER_API)):
            continue
        for method in rule.methods - {"OPTIONS"}:
            assert login_server.ask(path, method).status in (302, 401), (method, path)
    assert login_server.ask("/assets/login.css").status == 200


def test_a_login_opens_the_pages(login_server):
    cookie = login_server.cookie("edgar", PASSWORDS["edgar"])
    assert login_server.ask("/runs", headers=cookie).status == 200
    assert login_server.ask("/_dash-layout", headers=cookie).status == 200
    assert login_server.ask("/login?next=/runs", headers=cookie).headers["Location"] == "/runs"


def test_the_cookie_is_kept_from_scripts_and_from_other_sites(login_server):
    plain = login_server.log_in("vera", PASSWORDS["vera"]).headers["Set-Cookie"]
    assert "HttpOnly" in plain and "SameSite=Lax" in plain and "Secure" not in plain


def test_a_cookie_that_came_over_https_is_never_sent_in_the_open(tmp_path):
    place = store_with_users(tmp_path / "store")
    settings = ServerSettings(store=place, port=0, trusted_hosts=("bench.example.org",))
    with listening(settings) as running:
        proxied = {"X-Forwarded-Proto": "https", "Origin": "https://bench.example.org"}
        body = f"name=vera&password={PASSWORDS['vera'].replace(' ', '+')}"
        form = {"Content-Type": "application/x-www-form-urlencoded", **proxied}
        answer = running.ask("/login", "POST", form, body, host="bench.example.org")
        assert answer.status == 302
        assert "Secure" in answer.headers["Set-Cookie"]


def test_a_proxys_headers_are_believed_only_where_a_proxy_was_announced(login_server):
    answer = login_server.log_in("vera", PASSWORDS["vera"], headers={"X-Forwarded-Proto": "https"})
    assert "Secure" not in answer.headers["Set-Cookie"]


@pytest.mark.parametrize(
    "name, password", [("vera", "wrong one entirely"), ("nobody", "x" * 12), ("", ""), ("vera", "x" * 5000)]
)
def test_a_wrong_login_says_the_same_whatever_is_wrong(login_server, name, password):
    answer = login_server.log_in(name, password)
    assert answer.status == 401
    assert "Name or password is wrong." in answer.text
    assert "Set-Cookie" not in answer.headers


def test_a_name_with_script_in_it_is_shown_as_text(login_server):
    answer = login_server.log_in('"><script>alert(1)</script>', "x" * 12)
    assert "<script>" not in answer.text
    assert "&lt;script&gt;" in answer.text


def test_another_sites_form_cannot_log_in(login_server):
    assert login_server.log_in("vera", PASSWORDS["vera"], headers={"Origin": "http://evil.com"}).status == 403


def test_a_login_in_place_of_another_starts_afresh(login_server):
    vera = login_server.cookie("vera", PASSWORDS["vera"])
    answer = login_server.log_in("ada", PASSWORDS["ada"], headers=vera)
    ada = {"Cookie": answer.headers["Set-Cookie"].split(";")[0]}
    assert ada != vera
    assert "admin" in login_server.ask("/_dash-layout", headers=ada).text


def test_logging_out_removes_the_cookie(login_server):
    cookie = login_server.cookie("vera", PASSWORDS["vera"])
    answer = login_server.ask("/logout", "POST", {**cookie, "Origin": login_server.origin})
    assert answer.headers["Location"] == "/login"
    assert "Max-Age=0" in answer.headers["Set-Cookie"] or "Expires=Thu, 01 Jan 1970" in answer.headers["Set-Cookie"]


def test_a_login_is_renewed_by_pages_but_never_with_what_a_proxy_may_keep(login_server):
    cookie = login_server.cookie("vera", PASSWORDS["vera"])
    page = login_server.ask("/runs", headers=cookie)
    assert "Set-Cookie" in page.headers
    for path in re.findall(r'src="(/_dash-component-suites/[^"]+|/assets/[^"]+)"', page.text):
        assert "Set-Cookie" not in login_server.ask(path, headers=cookie).headers


def test_a_forged_cookie_is_worth_nothing(login_server):
    cookie = login_server.cookie("vera", PASSWORDS["vera"])["Cookie"]
    name, _, value = cookie.partition("=")
    payload, *rest = value.split(".")
    forged = ".".join([payload[:-2] + ("AA" if payload[-2:] != "AA" else "BB"), *rest])
    assert login_server.ask("/runs", headers={"Cookie": f"{name}={forged}"}).status == 302


@pytest.mark.parametrize(
    "change",
    [
        lambda database: set_password(database, "gone", "another good password"),
        lambda database: set_role(database, "gone", "viewer"),
        lambda database: remove_user(database, "gone"),
    ],
)
def test_a_changed_user_is_logged_out_at_once(login_server, change):
    database = login_server.server.context.store.database
    add_user(database, "gone", "soon to be changed", "editor")
    try:
        cookie = login_server.cookie("gone", "soon to be changed")
        assert login_server.ask("/runs", headers=cookie).status == 200
        change(database)
        assert login_server.ask("/runs", headers=cookie).status == 302
        assert login_server.ask("/_dash-layout", headers=cookie).status == 401
    finally:
        if any(user == "gone" for user in _names(database)):
            remove_user(database, "gone")


def _names(database):
    from app.store.users import users

    return [user.name for user in users(database)]


@pytest.mark.parametrize(
    "target",
    [
        "//evil.com",
        "https://evil.com",
        "/\\evil.com",
        "\\\\evil.com",
        "javascript:alert(1)",
        "evil.com",
        "/\t/evil.com",
        "",
    ],
)
def test_a_login_never_leads_to_another_server(login_server, target):
    assert local_target(target) == "/"
    assert login_server.log_in("vera", PASSWORDS["vera"], target).headers["Location"] == "/"


def test_guessing_is_stopped_and_says_when_to_try_again(tmp_path):
    place = store_with_users(tmp_path / "store")
    with listening(ServerSettings(store=place, port=0, login=True)) as running:
        for _ in range(attempts.TRIES_OF_ADDRESS_AND_NAME):
            assert running.log_in("vera", "not her password").status == 401
        answer = running.log_in("vera", PASSWORDS["vera"])
        assert answer.status == 429
        assert int(answer.headers["Retry-After"]) > 0
        assert "Try again in" in answer.text
        assert running.log_in("ada", PASSWORDS["ada"]).status == 302


@pytest.mark.parametrize(
    "name, allowed", [("vera", ["viewer"]), ("edgar", ["viewer", "editor"]), ("ada", ["viewer", "editor", "admin"])]
)
def test_each_role_may_do_what_those_below_it_may(name, allowed):
    from tests.app.web.conftest import ROLES

    who = Person(name, ROLES[name])
    assert [role for role in ("viewer", "editor", "admin") if who.may(role)] == allowed


def acting_routes(flask):
    """Return (method, path) of every route that may change something, but for the workers' own."""
    for rule in flask.url_map.iter_rules():
        for method in rule.methods - {"GET", "HEAD", "OPTIONS"}:
            if rule.rule.startswith("/api/") and not rule.rule.startswith(WORKER_API):
                yield method, re.sub(r"<[^>]*>", "x", rule.rule)


def routes_open_to_a_viewer(running):
    """Return the acting routes that do not refuse a viewer in words."""
    cookie = running.cookie("vera", PASSWORDS["vera"])
    headers = {**cookie, "Content-Type": "application/json", "Origin": running.origin}
    found = []
    for method, path in acting_routes(running.server.flask):
        answer = running.ask(path, method, headers, "{}")
        if answer.status != 403 or "vera is a viewer" not in answer.json["error"]:
            found.append((method, path))
    return found


def test_a_viewer_is_refused_by_every_route_that_acts(login_server):
    assert routes_open_to_a_viewer(login_server) == []


def test_a_route_that_forgets_to_ask_for_a_role_is_found(tmp_path, monkeypatch):
    from app import server

    add_routes = server._add_routes

    def with_a_careless_one(flask):
        add_routes(flask)
        flask.add_url_rule("/api/careless/<id>", "careless", lambda id: "changed", methods=["POST"])
        flask.add_url_rule("/api/careful/<id>", "careful", lambda id: require("editor").name, methods=["DELETE"])

    monkeypatch.setattr(server, "_add_routes", with_a_careless_one)
    with listening(ServerSettings(store=store_with_users(tmp_path / "store"), port=0, login=True)) as running:
        assert routes_open_to_a_viewer(running) == [("POST", "/api/careless/x")]


def test_an_act_of_a_viewer_is_refused_in_words(tmp_path):
    place = store_with_users(tmp_path / "store")
    with listening(ServerSettings(store=place, port=0, login=True)) as running:
        cookies = {name: running.cookie(name, PASSWORDS[name]) for name in PASSWORDS}
        seen = {}

        def act():
            seen[person().name] = require("editor").role
            return "done"

        # Routes are declared before the first request; this one stands for every act.
        running.server.flask.view_functions["/_reload-hash"] = act
        for name, status in (("vera", 403), ("edgar", 200), ("ada", 200)):
            answer = running.ask("/_reload-hash", headers=cookies[name])
            assert answer.status == status, answer.text
        assert seen == {"edgar": "editor", "ada": "admin"}
        words = running.ask("/_reload-hash", headers=cookies["vera"]).text
        assert "vera is a viewer and this needs an editor" in words


def test_nobody_is_nobody_inside_a_request_without_a_login(login_server):
    with login_server.server.flask.test_request_context("/"), pytest.raises(Forbidden, match="nobody is logged in"):
        person()


def test_worker_routes_do_not_accept_a_login_in_place_of_a_token(login_server):
    cookie = login_server.cookie("ada", PASSWORDS["ada"])
    for rule in login_server.server.flask.url_map.iter_rules():
        if rule.rule.startswith(WORKER_API):
            path = re.sub(r"<[^>]*>", "x", rule.rule)
            for method in rule.methods - {"HEAD", "OPTIONS"}:
                body = None if method == "GET" else "{}"
                answer = login_server.ask(path, method, {**cookie, "Content-Type": "application/json"}, body)
                assert answer.status == 401, (method, path, answer.text)


def test_settings_are_values():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ServerSettings().port = 1
