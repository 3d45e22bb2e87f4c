"""Logging in: the gate before every page, the form, and what ends a login."""

from __future__ import annotations

import math
from datetime import timedelta
from urllib.parse import quote, urlsplit

from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    current_app,
    make_response,
    redirect,
    render_template,
    request,
    session,
)
from flask.sessions import SecureCookieSessionInterface, SessionMixin
from flask_login import LoginManager, current_user, login_user, logout_user

from app.store import Store
from app.store.users import User, check_password, user
from app.web.access import Person
from app.web.attempts import Attempts
from app.web.context import context
from app.web.secret import secret_key
from app.web.security import API, CALLBACKS, WORKER_API

_ATTEMPTS = "hotbench-login-attempts"
_IDLE = timedelta(hours=12)
_OPEN = ("/login", "/assets/")
"""What needs no login: the form and what it looks like. It holds nothing of anybody's work."""

blueprint = Blueprint("login", __name__)


class _Login:
    """A person with a login that is not over: what Flask-Login asks of one."""

    is_authenticated = True
    is_active = True
    is_anonymous = False

    def __init__(self, found: User) -> None:
        self.person = Person(found.name, found.role)
        self._session = found.session

    def get_id(self) -> str:
        """Return what the cookie holds."""
        return f"{self._session} {self.person.name}"


class _Cookies(SecureCookieSessionInterface):
    """Login cookies, sent over https alone once they came over https."""

    def get_cookie_secure(self, app: Flask) -> bool:
        """Return whether this request came over https."""
        return request.is_secure

    def should_set_cookie(self, app: Flask, session: SessionMixin) -> bool:
        """Return whether the answer renews the cookie: never one that a proxy may keep for others."""
        is_shared = request.path.startswith(("/assets/", "/_dash-component-suites/"))
        return bool(session.modified) or (not is_shared and super().should_set_cookie(app, session))


def ask_for_login(flask: Flask, store: Store, attempts: Attempts | None = None) -> None:
    """Let nobody past without a login. Worker routes ask for their own tokens instead."""
    flask.secret_key = secret_key(store)
    flask.session_interface = _Cookies()
    flask.config.update(
        # A browser does not tell the ports of a machine apart: two servers there must not share a cookie.
        SESSION_COOKIE_NAME=f"hotbench-{store.database.store_id()[:12]}",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        PERMANENT_SESSION_LIFETIME=_IDLE,
    )
    flask.extensions[_ATTEMPTS] = attempts or Attempts()
    manager = LoginManager(flask)
    manager.user_loader(_load)
    flask.before_request(_gate)
    flask.register_blueprint(blueprint)


def _load(identity: str) -> _Login | None:
    """Return the login of a cookie; None when the user is gone, or password or role changed since."""
    mark, _, name = identity.partition(" ")
    found = user(context().store.database, name)
    return _Login(found) if found is not None and found.session == mark else None


def _gate() -> Response | None:
    if request.path.startswith((*_OPEN, WORKER_API)) or current_user.is_authenticated:
        return None
    if request.path.startswith((API, CALLBACKS)) or request.method != "GET":
        abort(401, "Nobody is logged in, or the login is over: open /login and try again.")
    here = request.full_path.rstrip("?")
    return make_response(redirect(f"/login?next={quote(here, safe='')}" if here != "/" else "/login"))


@blueprint.get("/login")
def show_login() -> Response:
    """Return the form."""
    target = local_target(request.args.get("next", ""))
    if current_user.is_authenticated:
        return make_response(redirect(target))
    return _form(target)


@blueprint.post("/login")
def log_in() -> Response:
    """Log in, or say why not."""
    name = request.form.get("name", "").strip().lower()[:80]
    target = local_target(request.form.get("next", ""))
    address = request.remote_addr or ""
    attempts: Attempts = current_app.extensions[_ATTEMPTS]
    wait = attempts.begin(address, name)
    if wait > 0:
        words = f"Too many wrong passwords. Try again in {math.ceil(wait / 60)} min."
        answer = _form(target, name, words, 429)
        answer.headers["Retry-After"] = str(math.ceil(wait))
        return answer
    found = check_password(context().store.database, name, request.form.get("password", ""))
    if found is None:
        return _form(target, name, "Name or password is wrong.", 401)
    attempts.succeeded(address, name)
    # A cookie that somebody planted before must not become this person's.
    session.clear()
    login_user(_Login(found))
    session.permanent = True
    return make_response(redirect(target))


@blueprint.post("/logout")
def log_out() -> Response:
    """End this login."""
    logout_user()
    session.clear()
    return make_response(redirect("/login"))


def local_target(text: str) -> str:
    """Return where to go after the login: a path of this server, "/" for anything else."""
    parts = urlsplit(text) if text.isprintable() and "\\" not in text else None
    is_local = parts is not None and text.startswith("/") and not text.startswith("//")
    return text if is_local and parts is not None and not parts.scheme and not parts.netloc else "/"


def _form(target: str, name: str = "", words: str = "", code: int = 200) -> Response:
    return make_response(render_template("login.html", target=target, name=name, words=words), code)
