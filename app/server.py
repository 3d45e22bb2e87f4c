"""The server: Dash on Flask on waitress, with everything that the pages share."""

from __future__ import annotations

import contextlib
import json
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from dash import Dash, html
from flask import Flask

from analyzer.errors import HotbenchError
from app.api import artifacts, downloads, events, workers
from app.jobs.queue import Jobs
from app.jobs.runner import Runner
from app.store import Store, open_store
from app.store.users import users
from app.web import context as contexts
from app.web.access import Forbidden
from app.web.context import Context, ServerSettings
from app.web.faults import answer_callback_error, answer_errors
from app.web.listen import Listener, bind
from app.web.login import ask_for_login
from app.web.security import (
    content_security_policy,
    is_loopback,
    refuse_foreign_requests,
    refuse_unknown_routes,
    send_headers,
)

CHECKOUT = Path(__file__).resolve().parent.parent
_INDEX = """<!DOCTYPE html>
<html lang="en">
<head>
{%metas%}
<title>{%title%}</title>
<link rel="icon" href="/assets/favicon.svg" type="image/svg+xml">
{%css%}
</head>
<body>
{%app_entry%}
{%config%}
{%scripts%}
{%renderer%}
</body>
</html>
"""


@dataclass
class Server:
    """A server that is made but does not listen yet; `stop` must be called at its end."""

    dash: Dash
    flask: Flask
    context: Context
    runner: Runner | None
    _stack: contextlib.ExitStack

    def start(self) -> None:
        """Begin to work on queued jobs."""
        if self.runner is not None:
            self.runner.start()
            self._stack.callback(self.runner.stop)

    def stop(self) -> None:
        """End what runs in this process, and close the store."""
        self.context.stopping.set()
        self._stack.close()


def make_server(settings: ServerSettings, jobs_run: bool = True) -> Server:
    """Return a server over the store, with every page, route and safeguard; with `jobs_run` it also does local jobs.

    Raises HotbenchError when the store cannot be opened, or when others could reach a server without users.
    """
    stack = contextlib.ExitStack()
    try:
        return _assemble(settings, stack.enter_context(open_store(settings.store)), jobs_run, stack)
    except BaseException:
        stack.close()
        raise


def _assemble(settings: ServerSettings, store: Store, jobs_run: bool, stack: contextlib.ExitStack) -> Server:
    login = needs_login(settings, bool(users(store.database)))
    context = Context(settings, store, Jobs(store.database), login)
    flask = Flask("app", static_folder=None)
    contexts.install(context, flask.extensions)
    refuse_foreign_requests(flask, settings)
    if login:
        ask_for_login(flask, store)
    refuse_unknown_routes(flask)
    answer_errors(flask)
    _add_routes(flask)
    dash = _make_dash(flask)
    # Last: the hashes are of the inline scripts that the pages declared.
    send_headers(flask, content_security_policy(dash.csp_hashes()))
    _warm_up(flask)
    return Server(dash, flask, context, Runner(store, context.jobs) if jobs_run else None, stack)


def needs_login(settings: ServerSettings, has_users: bool) -> bool:
    """Return whether people must log in. Raises HotbenchError where they must and there is nobody who could."""
    reachable = not is_loopback(settings.host) or bool(settings.trusted_hosts)
    if (reachable or settings.login) and not has_users:
        why = f"others can reach {settings.host}" if not is_loopback(settings.host) else "login is asked for"
        why = "--trusted-host lets others in" if settings.trusted_hosts else why
        raise HotbenchError(f"{why} and there is no user yet; add one first: `hotbench users add NAME --role admin`")
    return reachable or settings.login


def assets_folder() -> Path:
    """Return where our css and scripts are: in the checkout, else where an installation put them."""
    for folder in (CHECKOUT / "assets", Path(sysconfig.get_path("data")) / "share" / "hotbench" / "assets"):
        if (folder / "favicon.svg").is_file():
            return folder
    raise HotbenchError("the page's own scripts and styles are missing from this installation; install hotbench again")


class _Dash(Dash):
    """Dash that tells a browser no versions and no address of another server."""

    def interpolate_index(self, *args: Any, **parts: Any) -> str:
        config = parts["config"]
        opening, closing = config.index(">") + 1, config.rindex("</script>")
        values = json.loads(config[opening:closing])
        kept = {name: "" if "version" in name and isinstance(value, str) else value for name, value in values.items()}
        text = json.dumps(kept).replace("<", "\\u003c")
        parts["config"] = f"{config[:opening]}{text}{config[closing:]}"
        return str(super().interpolate_index(*args, **parts))  # type: ignore[no-untyped-call]


def _make_dash(flask: Flask) -> Dash:
    from app.pages import router

    dash = _Dash(
        "app",
        server=cast(Any, flask),
        title="Hotbench",
        update_title="",
        assets_folder=str(assets_folder()),
        assets_ignore=r"login\.css",
        index_string=_INDEX,
        serve_locally=True,
        compress=False,
        enable_mcp=False,
        suppress_callback_exceptions=True,
        add_log_handler=False,
        on_error=answer_callback_error,
        use_pages=False,
    )

    def layout() -> Any:
        try:
            return router.layout()
        except Forbidden:
            # Dash looks at the layout once before anybody is logged in; who is not never gets as far as this.
            return html.Div()

    dash.layout = layout
    router.register(dash)
    return dash


def _warm_up(flask: Flask) -> None:
    """Have Dash set itself up now: callbacks that contradict each other must not wait for the first visitor."""
    answer = flask.test_client().get("/assets/favicon.svg", base_url="http://127.0.0.1")
    if answer.status_code != 200:
        raise RuntimeError(f"the pages cannot be set up: {answer.status}")


def _add_routes(flask: Flask) -> None:
    for routes in (events, downloads, artifacts, workers):
        flask.register_blueprint(routes.blueprint)


def serve(settings: ServerSettings, ready: Callable[[Server, str], None]) -> None:
    """Answer requests until SIGTERM or Ctrl-C; `ready` is called once with the URL, when connections are taken."""
    bound = bind(settings)
    with contextlib.closing(bound):
        server = make_server(settings)
        try:
            listener = Listener(server.flask, settings, bound, server.context.stopping)
            server.start()
            ready(server, listener.url)
            listener.run()
        finally:
            server.stop()
