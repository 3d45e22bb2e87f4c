"""Errors in words, on pages, routes and in callbacks."""

import json

import pytest
from dash import Dash, Input, Output, html
from flask import Flask

from analyzer.errors import HotbenchError
from app.server import CHECKOUT
from app.web.access import Forbidden
from app.web.faults import answer_callback_error, answer_errors


@pytest.fixture
def client(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    flask = Flask("app", root_path=str(CHECKOUT / "app"))
    answer_errors(flask)

    def fail(error):
        def view():
            raise error

        return view

    for path, error in {
        "refused": HotbenchError("no run 'x'; name another"),
        "forbidden": Forbidden("vera is a viewer"),
        "broken": RuntimeError("secret at /home/somebody"),
    }.items():
        flask.add_url_rule(f"/api/{path}", f"api-{path}", fail(error))
        flask.add_url_rule(f"/{path}", path, fail(error))
    return flask.test_client()


def test_a_users_mistake_is_told_in_its_own_words(client):
    answer = client.get("/api/refused")
    assert (answer.status_code, answer.json) == (400, {"error": "no run 'x'; name another"})
    assert "no run &#39;x&#39;; name another" in client.get("/refused").text


def test_a_forbidden_act_is_told_in_its_own_words(client):
    answer = client.get("/api/forbidden")
    assert (answer.status_code, answer.json) == (403, {"error": "vera is a viewer"})


def test_our_own_mistake_tells_neither_its_text_nor_a_path(client, capfd, tmp_path):
    for path in ("/broken", "/api/broken"):
        answer = client.get(path)
        assert answer.status_code == 500
        assert "secret" not in answer.text and "/home" not in answer.text and "Traceback" not in answer.text
    said = capfd.readouterr().err
    assert said.count("unexpected RuntimeError") == 2
    assert "Traceback" not in said
    assert len(list(tmp_path.glob("hotbench-error-*.txt"))) == 2


@pytest.mark.parametrize("method, path, status", [("GET", "/api/none", 404), ("POST", "/api/refused", 405)])
def test_the_frameworks_own_errors_have_words_too(client, method, path, status):
    answer = client.open(path, method=method)
    assert answer.status_code == status
    assert set(answer.json) == {"error"}


def callback_client(error):
    flask = Flask("callbacks")
    dash = Dash("callbacks", server=flask, on_error=answer_callback_error)
    dash.layout = html.Div([html.Div(id="in"), html.Div(id="one"), html.Div(id="two")])

    @dash.callback(Output("one", "children"), Input("in", "n_clicks"))
    def single(_clicks):
        raise error

    @dash.callback(Output("two", "children"), Output("two", "title"), Input("in", "n_clicks"))
    def several(_clicks):
        raise error

    return flask.test_client()


def call(client, *outputs):
    listed = [{"id": id, "property": name} for id, name in outputs]
    output = ".".join(outputs[0]) if len(outputs) == 1 else f"..{'...'.join('.'.join(one) for one in outputs)}.."
    body = {
        "output": output,
        "outputs": listed[0] if len(listed) == 1 else listed,
        "inputs": [{"id": "in", "property": "n_clicks", "value": 1}],
        "changedPropIds": ["in.n_clicks"],
    }
    return client.post("/_dash-update-component", json=body)


@pytest.mark.parametrize("outputs", [[("one", "children")], [("two", "children"), ("two", "title")]])
def test_an_act_that_is_refused_shows_a_notification_and_changes_nothing_else(outputs):
    answer = call(callback_client(Forbidden("vera is a viewer and this needs an editor")), *outputs)
    assert answer.status_code == 200
    said = json.loads(answer.text)
    notice = said["sideUpdate"]["notify"]["sendNotifications"][0]
    assert notice["title"] == "Not allowed"
    assert "needs an editor" in json.dumps(notice["message"])
    assert not said.get("response")


def test_a_mistake_in_a_callback_tells_no_traceback(capfd, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    answer = call(callback_client(ZeroDivisionError("a secret")), ("one", "children"))
    assert answer.status_code == 200
    assert "secret" not in answer.text
    assert "terminal" in answer.text
    assert "unexpected ZeroDivisionError" in capfd.readouterr().err
