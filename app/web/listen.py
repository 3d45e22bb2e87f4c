"""Listening: a socket of our own, waitress behind it, and a clean end."""

from __future__ import annotations

import contextlib
import copy
import errno
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask
from waitress import parser, wasyncore
from waitress.channel import HTTPChannel
from waitress.server import create_server

from analyzer.errors import HotbenchError
from app.store import StoreError
from app.store.workers import Workers
from app.web.context import ServerSettings, context_of
from app.web.security import BODY_BYTES, UPLOAD_BYTES, WORKER_API, is_loopback

_CONNECTIONS = 500
_THREADS = 32
"""An event stream holds one of them."""
# Some more than Flask takes, so that its answer in words is the one that is usually seen.
_READ_BYTES = 4 * BODY_BYTES
_GRACE_SECONDS = 3
# Only who connects from this machine, as the proxy does, is believed.
_BEHIND_PROXY: dict[str, Any] = {
    "trusted_proxy": "127.0.0.1",
    "trusted_proxy_headers": {"x-forwarded-for", "x-forwarded-proto"},
    "trusted_proxy_count": 1,
}


class _Parser(parser.HTTPRequestParser):  # type: ignore[misc]
    """Stores large bodies for workers alone, known by their token: anybody else could fill the disk with them."""

    adj: Any

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        if not (str(self.path).startswith(WORKER_API) and self.may_upload(self.headers.get("AUTHORIZATION", ""))):
            self.adj = copy.copy(self.adj)
            self.adj.max_request_body_size = _READ_BYTES

    def may_upload(self, authorization: str) -> bool:
        """Return whether it is a worker's token; asked before any of the body is read."""
        raise AssertionError("each listener's own class answers")


def _channel_class(workers: Workers) -> type[HTTPChannel]:
    """Return the channel of one listener, which knows the workers of its store."""

    class _OwnParser(_Parser):
        def may_upload(self, authorization: str) -> bool:
            with contextlib.suppress(StoreError):
                return workers.may_work(authorization)
            # A database that is busy for long: the worker comes again.
            return False

    return type("_OwnChannel", (HTTPChannel,), {"parser_class": _OwnParser})


def bind(settings: ServerSettings) -> socket.socket:
    """Return a socket bound to the settings' address. Raises HotbenchError in one line when it cannot be."""
    try:
        family, kind, _protocol, _name, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind)
    except (OSError, UnicodeError) as error:
        raise HotbenchError(
            f"--host {settings.host!r} is no address of this machine; give 127.0.0.1 or one of its own"
        ) from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(128)
    except (OSError, OverflowError) as error:
        bound.close()
        raise HotbenchError(_why_not(settings, error)) from error
    return bound


def _url(settings: ServerSettings, bound: socket.socket) -> str:
    """Return the URL to open: with the real port, and a name that a browser on this machine understands."""
    host, port = bound.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    elif is_loopback(settings.host) and settings.host == "localhost":
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Listener:
    """A server that listens. `run` answers until a signal; in tests `start` and `close` do without one."""

    def __init__(self, flask: Flask, settings: ServerSettings, bound: socket.socket, stopping: threading.Event) -> None:
        self.url = _url(settings, bound)
        self._stopping = stopping
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._server = create_server(
            flask,
            sockets=[bound],
            threads=_THREADS,
            ident="",
            max_request_body_size=UPLOAD_BYTES,
            clear_untrusted_proxy_headers=True,
            connection_limit=_CONNECTIONS,
            asyncore_use_poll=True,
            # Without it a long answer would not notice that its reader has gone.
            channel_request_lookahead=1,
            **(_BEHIND_PROXY if settings.trusted_hosts else {}),
        )
        self._server.channel_class = _channel_class(Workers(context_of(flask).store.database))
        # It warns of every request that waits a moment for a thread.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)

    def run(self) -> None:
        """Answer requests until SIGTERM or Ctrl-C."""
        with self._ending_on_signals():
            self._server.run()
        self._end()

    def start(self) -> None:
        """Answer requests in a thread."""
        self._thread = threading.Thread(target=self._loop, name="listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End what `start` began."""
        self._stopping.set()
        # The threads first: one that answers still needs the loop.
        self._server.task_dispatcher.shutdown(timeout=_GRACE_SECONDS)
        if self._thread is not None:
            self._ended.set()
            self._server.trigger.pull_trigger()
            self._thread.join()
        # Not in the loop's own thread: it may wake before the trigger is pulled, and would close it under our hands.
        self._close_sockets()

    def _loop(self) -> None:
        while not self._ended.is_set():
            wasyncore.loop(timeout=1, map=self._server._map, use_poll=True, count=1)

    def _close_sockets(self) -> None:
        wasyncore.close_all(self._server._map, ignore_all=True)

    def _end(self) -> None:
        self._stopping.set()
        self._server.task_dispatcher.shutdown(timeout=_GRACE_SECONDS)
        self._close_sockets()

    @contextmanager
    def _ending_on_signals(self) -> Iterator[None]:
        """Make SIGTERM and Ctrl-C end the loop, which knows SystemExit as a request to end."""

        def end(_number: int, _frame: object) -> None:
            # Long answers, such as event streams, end with this.
            self._stopping.set()
            raise SystemExit(0)

        before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        except SystemExit:
            # It arrived just before the loop began or after it ended.
            return
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _why_not(settings: ServerSettings, error: Exception) -> str:
    where = f"port {settings.port} of {settings.host}"
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return f"{where} is in use, perhaps by another Hotbench; give another with --port, or --port 0 for any free one"
    if number in (errno.EACCES, errno.EPERM):
        return f"{where} needs more rights than you have; give one from 1024 on with --port"
    if number == errno.EADDRNOTAVAIL:
        return f"{settings.host} is no address of this machine; give 127.0.0.1 or one of its own with --host"
    return f"cannot listen on {where}: {error}"
