"""A real server in this process, on a free port, and a client that sends exactly the headers it is given."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from app.server import Server, make_server
from app.web.context import ServerSettings
from app.web.listen import Listener, bind


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True)
class Running:
    server: Server
    port: int

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def origin(self) -> str:
        return f"http://{self.host}"

    def ask(
        self,
        path: str,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | str | None = None,
        host: str | None = None,
    ) -> Answer:
        """Send a request with these headers alone; `host` replaces the right Host."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = body.encode() if isinstance(body, str) else body
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", self.host if host is None else host)
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            if data is not None:
                connection.putheader("Content-Length", str(len(data)))
            connection.endheaders(data)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read().decode("utf-8", "replace"))
        finally:
            connection.close()

    def log_in(self, name: str, password: str, next: str = "/", headers: Mapping[str, str] | None = None) -> Answer:
        """Send the login form as a browser does."""
        return self.ask(
            "/login",
            "POST",
            {"Content-Type": "application/x-www-form-urlencoded", "Origin": self.origin, **(headers or {})},
            urlencode({"name": name, "password": password, "next": next}),
        )

    def cookie(self, name: str, password: str) -> dict[str, str]:
        """Return the header of somebody who is logged in."""
        answer = self.log_in(name, password)
        assert answer.status == 302, answer.text
        return {"Cookie": answer.headers["Set-Cookie"].split(";")[0]}


@contextmanager
def listening(settings: ServerSettings, jobs_run: bool = False) -> Iterator[Running]:
    """Yield a server that answers; it is stopped at the end."""
    bound = bind(settings)
    server = make_server(settings, jobs_run=jobs_run)
    try:
        listener = Listener(server.flask, settings, bound, server.context.stopping)
        server.start()
        listener.start()
        try:
            yield Running(server, bound.getsockname()[1])
        finally:
            listener.close()
    finally:
        server.stop()
        bound.close()
