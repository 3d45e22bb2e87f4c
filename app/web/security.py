"""What every request passes before a page or a route sees it, and what every answer carries.

A foreign Host is refused (DNS rebinding), a request that another site's page sent is refused (cross-site requests),
a body has a limit, and the browser is told to run our scripts alone.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from flask import Flask, Response, abort, request

from app.web.context import ServerSettings

BODY_BYTES = 16 << 20
"""Most bytes of a request's body."""
UPLOAD_BYTES = 4 << 30
"""Most bytes on an upload route, which sets `request.max_content_length` itself."""
API = "/api/"
WORKER_API = "/api/worker/"
CALLBACKS = "/_dash-"

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_WILDCARDS = ("0.0.0.0", "::")
_READING = ("GET", "HEAD", "OPTIONS")


def is_loopback(name: str) -> bool:
    """Return whether `name` is this machine's own address, which no other machine reaches."""
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def is_trusted_host(header: str, settings: ServerSettings) -> bool:
    """Return whether a request for this Host is meant for us.

    The port is not compared: through an SSH tunnel it is another one. A page that another port of this machine
    serves is kept away by its Origin.
    """
    match = _HOST.fullmatch(header)
    if match is None:
        return False
    name = match[1].lower()
    if is_loopback(name) or name in {host.lower() for host in settings.trusted_hosts}:
        return True
    if is_loopback(settings.host):
        return False
    if settings.host in _WILDCARDS:
        # A rebinding attack needs a name: an address in the Host header is the one that the browser spoke to.
        return _is_address(name) or name == socket.gethostname().lower()
    return name.strip("[]") == settings.host.lower()


def content_security_policy(script_hashes: Sequence[str]) -> str:
    """Return the policy of our pages: our own scripts and the named inline ones, nothing from another server.

    Inline styles are allowed: the component libraries write them.
    """
    parts = {
        "default-src": ["'self'"],
        "script-src": ["'self'", *script_hashes],
        "style-src": ["'self'", "'unsafe-inline'"],
        "img-src": ["'self'", "data:", "blob:"],
        "font-src": ["'self'", "data:"],
        "worker-src": ["'self'", "blob:"],
        "connect-src": ["'self'"],
        "frame-src": ["'self'"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
    return "; ".join(f"{name} {' '.join(values)}" for name, values in parts.items())


def refuse_foreign_requests(flask: Flask, settings: ServerSettings) -> None:
    """Check Host, Origin and the browser's fetch metadata of every request before anything else sees it."""
    flask.config["MAX_CONTENT_LENGTH"] = BODY_BYTES
    flask.config["MAX_FORM_MEMORY_SIZE"] = 1 << 20

    @flask.before_request
    def _check_host() -> None:
        if not is_trusted_host(request.environ.get("HTTP_HOST", ""), settings):
            abort(400, "This Host is not served here; a proxy's name is allowed with --trusted-host NAME.")

    @flask.before_request
    def _check_source() -> None:
        _refuse_other_sites()


def refuse_unknown_routes(flask: Flask) -> None:
    """Answer 404 where Dash would give its page for data: it takes every unknown path for one of its own."""

    @flask.before_request
    def _check_route() -> None:
        unknown = request.url_rule is None or request.url_rule.rule == "/<path:path>"
        if unknown and request.path.startswith((API, CALLBACKS, "/favicon.ico")):
            abort(404)


def _refuse_other_sites() -> None:
    origin = request.headers.get("Origin")
    if request.path.startswith(WORKER_API) and (origin or request.headers.get("Sec-Fetch-Site")):
        abort(403, "This route is for workers; a browser has no business here.")
    site = request.headers.get("Sec-Fetch-Site", "none")
    # Following a link from elsewhere is fine; loading our data into another site's page is not.
    follows_link = (
        request.method == "GET"
        and request.headers.get("Sec-Fetch-Mode") == "navigate"
        and request.headers.get("Sec-Fetch-Dest", "document") == "document"
    )
    if site not in ("same-origin", "none") and not follows_link:
        abort(403, "Another site's page sent this request; open this server's own page.")
    if request.method not in _READING and origin is not None and not _is_own(origin):
        abort(403, "The Origin is another server's; a proxy must pass Host and X-Forwarded-Proto on.")


def _is_own(origin: str) -> bool:
    parts = urlsplit(origin)
    ours = urlsplit(request.host_url)
    return (parts.scheme, parts.netloc.lower()) == (ours.scheme, ours.netloc.lower())


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


_SCRIPTS = "/_dash-component-suites/"


def send_headers(flask: Flask, policy: str) -> None:
    """Add our headers to every answer; a route that set one itself keeps its own."""

    @flask.after_request
    def _add(response: Response) -> Response:
        headers = response.headers
        if "Content-Security-Policy" not in headers:
            headers["Content-Security-Policy"] = policy
            headers.setdefault("X-Frame-Options", "DENY")
        headers.setdefault("X-Content-Type-Options", "nosniff")
        headers.setdefault("Referrer-Policy", "same-origin")
        headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        headers.setdefault("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
        # What is shown is somebody's work: no proxy and no shared computer keeps it. Scripts are nobody's: kept, and
        # compared by their ETag, they need not be sent and compiled anew for each page (plotly's has 4.8 MB).
        headers.setdefault("Cache-Control", "no-cache" if request.path.startswith(_SCRIPTS) else "no-store")
        return response
