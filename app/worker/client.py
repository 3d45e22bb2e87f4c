"""The worker's half of the protocol: HTTP through the standard library, with time-outs, no redirects."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from analyzer.errors import HotbenchError
from app.worker.errors import LostJobError, RefusedError, UnreachableError

TIMEOUT_SECONDS = 15.0
TRANSFER_SECONDS = 600.0
_MOST_JSON_BYTES = 16 << 20
_CHUNK = 1 << 20
_AGAIN = (408, 425, 429, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Assignment:
    """A job that this worker holds. claim: what every further request about it must name."""

    id: str
    claim: str
    kind: str
    title: str
    arguments: Mapping[str, Any]
    needs: Mapping[str, Any]

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Assignment:
        """Return the job that the server wrote."""
        try:
            texts = (str(data["id"]), str(data["claim"]), str(data["kind"]), str(data["title"]))
            return cls(*texts, dict(data["arguments"]), dict(data["needs"]))
        except (KeyError, TypeError, ValueError) as error:
            raise UnreachableError(
                f"the server gave a job that cannot be read ({error}); is it a newer one?"
            ) from error


class Client:
    """One server, as one worker process sees it; `session` tells this process from an earlier one with the token."""

    def __init__(self, url: str, token: str, session: str, ca: Path | None = None) -> None:
        self.url = _checked(url)
        self._headers = {"Authorization": f"Bearer {token}", "Hotbench-Session": session}
        if not token.isascii() or not token.isprintable() or " " in token:
            raise HotbenchError("--token is no token; `hotbench workers add NAME` on the server prints one")
        self._opener = _opener(self.url, ca)

    @property
    def in_the_clear(self) -> bool:
        """Return whether the token travels over a network that others may read."""
        return self.url.startswith("http:") and not _is_loopback(self.url)

    def hello(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Introduce this process; return what the server wants the worker to know."""
        return self._json("POST", "hello", {"about": about})

    def claim(self, workloads: list[dict[str, str]], wait_seconds: float) -> Assignment | None:
        """Return a job to do, None when there was none for `wait_seconds`."""
        body = {"workloads": workloads, "wait_seconds": wait_seconds}
        data = self._json("POST", "claim", body, timeout=TIMEOUT_SECONDS + wait_seconds)
        return Assignment.from_plain(data["job"]) if isinstance(data.get("job"), dict) else None

    def begin(self, job: Assignment) -> None:
        """Say that the work begins now: from here on nobody else will be given it."""
        self._json("POST", f"jobs/{job.id}/begin", {}, job)

    def report(self, load: Mapping[str, Any], job: Assignment | None, notes: list[dict[str, Any]]) -> bool:
        """Say that this worker lives, and what happened to its job; return whether it was cancelled."""
        body = {"load": load, "job": job.id if job is not None else None, "notes": notes}
        return bool(self._json("POST", "report", body, job).get("cancel"))

    def finish(self, job: Assignment, ending: Mapping[str, Any], timeout: float = TRANSFER_SECONDS) -> dict[str, Any]:
        """Hand over how the job ended; return what has become of it. Saying it twice is harmless."""
        return self._json("POST", f"jobs/{job.id}/finish", ending, job, timeout=timeout)

    def put(self, job: Assignment, kind: str, id: str, archive: Path) -> None:
        """Send one packed value."""
        with archive.open("rb") as stream:
            size = str(archive.stat().st_size)
            headers = {**self._of(job), "Content-Type": "application/zip", "Content-Length": size}
            place = f"jobs/{job.id}/values/{kind}/{urllib.parse.quote(id, safe='')}"
            with self._open("PUT", place, stream, headers, TRANSFER_SECONDS) as answer:
                answer.read(_MOST_JSON_BYTES)

    def get(self, job: Assignment, name: str, archive: Path) -> str:
        """Write the packed value that the job's argument `name` means into `archive`; return its kind."""
        place = f"jobs/{job.id}/inputs/{name}"
        with self._open("GET", place, None, self._of(job), TRANSFER_SECONDS) as answer, archive.open("wb") as target:
            try:
                while block := answer.read(_CHUNK):
                    target.write(block)
            except (OSError, http.client.HTTPException) as error:
                raise UnreachableError(f"the server broke off while it sent the {name}: {_words(error)}") from error
            return str(answer.headers.get("Hotbench-Kind", ""))

    def _of(self, job: Assignment) -> dict[str, str]:
        return {"Hotbench-Claim": job.claim}

    def _json(
        self,
        method: str,
        place: str,
        body: Mapping[str, Any],
        job: Assignment | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", **(self._of(job) if job is not None else {})}
        with self._open(method, place, json.dumps(body).encode(), headers, timeout) as answer:
            try:
                data = json.loads(answer.read(_MOST_JSON_BYTES))
            except (OSError, http.client.HTTPException) as error:
                raise UnreachableError(f"{self.url} broke off its answer: {_words(error)}") from error
            except ValueError as error:
                raise RefusedError(f"{self.url} is no Hotbench server: it answered no JSON", "address") from error
        return data if isinstance(data, dict) else {}

    def _open(
        self, method: str, place: str, body: bytes | IO[bytes] | None, headers: Mapping[str, str], timeout: float
    ) -> Any:
        request = urllib.request.Request(
            f"{self.url}/api/worker/{place}", data=body, headers={**self._headers, **headers}, method=method
        )
        try:
            return self._opener.open(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            raise self._refusal(error) from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                why = error.reason.verify_message
                raise RefusedError(
                    f"the certificate of {self.url} is not trusted ({why}); name its CA with --ca", "address"
                ) from error
            raise UnreachableError(f"{self.url} does not answer: {_words(error.reason)}") from error
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(f"{self.url} does not answer: {_words(error)}") from error

    def _refusal(self, error: urllib.error.HTTPError) -> HotbenchError:
        """Return what an answer that is no success means."""
        try:
            data = json.loads(error.read(_MOST_JSON_BYTES))
            words, code = str(data["error"]), str(data.get("code", ""))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, http.client.HTTPException):
            words, code = "", ""
        finally:
            error.close()
        if error.code in _AGAIN:
            return UnreachableError(f"{self.url} cannot answer now: {words or f'HTTP {error.code}'}")
        if code == "job":
            return LostJobError(words)
        if not words and 300 <= error.code < 400:
            where = error.headers.get("Location", "elsewhere")
            return RefusedError(f"{self.url} sends on to {where}; give that address with --server", "address")
        if not words and error.code in (404, 405):
            return RefusedError(f"{self.url} is no Hotbench server: it answered HTTP {error.code}", "address")
        return RefusedError(
            words or f"{self.url} answered HTTP {error.code}", code or ("token" if error.code == 401 else "")
        )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token to another address."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _opener(url: str, ca: Path | None) -> urllib.request.OpenerDirector:
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if _is_loopback(url):
        handlers.append(urllib.request.ProxyHandler({}))
    if url.startswith("https:"):
        try:
            context = ssl.create_default_context(cafile=str(ca) if ca else None)
        except (OSError, ssl.SSLError) as error:
            raise HotbenchError(
                f"--ca {ca}: no certificates can be read from it ({_words(error)}); give a PEM file"
            ) from error
        handlers.append(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers)


def _checked(url: str) -> str:
    """Return the address without a slash at its end. Raises HotbenchError for what is none."""
    try:
        parts = urllib.parse.urlsplit(url.strip())
        port = parts.port
    except ValueError:
        parts, port = urllib.parse.urlsplit(""), None
    plain = not (parts.query or parts.fragment or parts.username or parts.password) and port != 0
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
        raise HotbenchError(f"--server {url!r} is no address of a server; write it as https://host:8050")
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def _is_loopback(url: str) -> bool:
    host = urllib.parse.urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _words(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
