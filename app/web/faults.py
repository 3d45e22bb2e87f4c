"""Errors as people and scripts see them: in words, without a traceback or a path of the server."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import dash
import dash_mantine_components as dmc
from flask import Flask, Response, jsonify, make_response, render_template, request
from werkzeug.exceptions import HTTPException

from analyzer.errors import HotbenchError
from app.fault import keep_traceback
from app.web.access import Forbidden
from app.web.security import API, CALLBACKS

_WORDS: Mapping[int, str] = {
    400: "This request cannot be read.",
    401: "Log in first.",
    403: "This is not allowed.",
    404: "There is nothing at this address.",
    405: "This address does not take that kind of request.",
    413: "This is too large; send less at once.",
    415: "This kind of content is not taken here.",
    429: "Too many attempts; wait a while.",
    500: "Something went wrong in Hotbench itself; the terminal that it was started in says more.",
}
# Dash raises one error or another for a file that a component package does not have.
_BUNDLES = "/_dash-component-suites/"
_DASH_CALLBACK = ("dash", "_callback.py")


def answer_errors(flask: Flask) -> None:
    """Answer every error in words: as JSON under /api and to callbacks, as a page elsewhere."""

    @flask.errorhandler(HTTPException)
    def _http(error: HTTPException) -> Response:
        if error.response is not None:
            return make_response(error.response)
        code = error.code or 500
        # werkzeug's own descriptions are not written for our readers.
        ours = error.description if error.description != type(error).description else None
        answer = _answer(code, ours or _WORDS.get(code, error.name))
        for name, value in error.get_headers(request.environ):
            if name in ("Retry-After", "Allow", "WWW-Authenticate"):
                answer.headers[name] = value
        return answer

    @flask.errorhandler(Forbidden)
    def _forbidden(error: Forbidden) -> Response:
        return _answer(403, str(error))

    @flask.errorhandler(HotbenchError)
    def _refused(error: HotbenchError) -> Response:
        return _answer(400, str(error))

    @flask.errorhandler(Exception)
    def _unexpected(error: Exception) -> Response:
        if request.path.startswith(_BUNDLES):
            return _answer(404, _WORDS[404])
        if _is_unreadable(error):
            return _answer(400, "This is no callback of this page; reload it.")
        report(error)
        return _answer(500, _WORDS[500])


def answer_callback_error(error: Exception) -> None:
    """Show an error of a callback as a notification: what its inputs changed stays as it was."""
    if not isinstance(error, HotbenchError):
        report(error)
    words = str(error) if isinstance(error, HotbenchError) else _WORDS[500]
    notification: dict[str, Any] = {
        "action": "show",
        "title": "Not allowed" if isinstance(error, Forbidden) else "That did not work",
        "message": dmc.Text(words, size="sm"),
        "color": "red",
        "autoClose": 12_000,
    }
    dash.set_props("notify", {"sendNotifications": [notification]})


def report(error: BaseException) -> None:
    """Keep the traceback of our own mistake and say on the server's terminal where it is."""
    text = " ".join(str(error).split())[:300]
    where = keep_traceback("".join(traceback.format_exception(error)))
    print(f"hotbench: error: unexpected {type(error).__name__}: {text}; {where}", file=sys.stderr, flush=True)


def _answer(code: int, words: str) -> Response:
    if request.path.startswith((API, CALLBACKS)):
        answer = jsonify({"error": words})
    else:
        answer = make_response(render_template("error.html", words=words))
    answer.status_code = code
    return answer


def _is_unreadable(error: Exception) -> bool:
    """Return whether Dash could not make sense of what a client sent, before any callback of ours ran."""
    if not request.path.startswith(CALLBACKS) or request.method != "POST":
        return False
    return not any(_in_callback(frame) for frame in _frames(error.__traceback__))


def _frames(trace: TracebackType | None) -> list[str]:
    files = []
    while trace is not None:
        files.append(trace.tb_frame.f_code.co_filename)
        trace = trace.tb_next
    return files


def _in_callback(file: str) -> bool:
    return file.replace("\\", "/").endswith("/".join(_DASH_CALLBACK))
