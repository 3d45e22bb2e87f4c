"""Foreign hosts, other sites' pages, large bodies, and what the browser is told. All over a real connection."""

import re

import dash
import pytest

from app.web.context import ServerSettings
from app.web.security import BODY_BYTES, content_security_policy, is_loopback, is_trusted_host

CALLBACK = "/_dash-update-component"
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "host", ["evil.com", "evil.com:8050", "127.0.0.1.evil.com", "127.0.0.1@evil.com", "", "192.168.1.7"]
)
def test_a_foreign_host_is_refused_on_every_kind_of_path(open_server, host):
    for path in ("/", "/_dash-layout", "/api/none", "/assets/favicon.svg"):
        answer = open_server.ask(path, host=host)
        assert answer.status == 400
        assert "--trusted-host" in answer.text


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
@pytest.mark.parametrize("port", [None, 9000])
def test_every_name_of_this_machine_is_served_also_through_a_tunnel_with_another_port(open_server, name, port):
    assert open_server.ask("/", host=f"{name}:{port}" if port else name).status == 200


def test_a_named_host_is_trusted_in_any_case_and_with_any_port():
    settings = ServerSettings(trusted_hosts=("Bench.example.org",))
    assert is_trusted_host("bench.EXAMPLE.org:443", settings)
    assert not is_trusted_host("other.example.org", settings)


def test_a_wildcard_address_trusts_addresses_but_no_names():
    settings = ServerSettings(host="0.0.0.0")
    assert is_trusted_host("192.168.1.7:8050", settings)
    assert not is_trusted_host("evil.com", settings)


def test_one_address_trusts_itself_and_no_other_one():
    settings = ServerSettings(host="192.168.1.7")
    assert is_trusted_host("192.168.1.7:8050", settings)
    assert not is_trusted_host("192.168.1.8", settings)


@pytest.mark.parametrize("name, expected", [("127.0.0.9", True), ("::1", True), ("0.0.0.0", False), ("bench", False)])
def test_only_addresses_that_no_other_machine_reaches_are_loopback(name, expected):
    assert is_loopback(name) is expected


@pytest.mark.parametrize(
    "origin", ["http://evil.com", "null", "https://127.0.0.1", "http://127.0.0.1:1", "http://localhost"]
)
def test_a_callback_from_another_origin_is_refused(open_server, origin):
    answer = open_server.ask(CALLBACK, "POST", {**JSON, "Origin": origin}, "{}")
    assert answer.status == 403
    assert "Origin" in answer.json["error"]


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_sites_page_can_neither_send_nor_load_anything(open_server, site, method):
    for mode in ("cors", "no-cors"):
        answer = open_server.ask("/_dash-layout", method, {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode})
        assert answer.status == 403


def test_a_form_on_another_site_cannot_navigate_with_a_post(open_server):
    fetch = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert open_server.ask(CALLBACK, "POST", {**JSON, **fetch}, "{}").status == 403


def test_a_link_on_another_site_may_be_followed_but_not_framed(open_server):
    fetch = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert open_server.ask("/runs", headers=fetch).status == 200
    assert open_server.ask("/runs", headers={**fetch, "Sec-Fetch-Dest": "iframe"}).status == 403


def test_the_own_page_may_send_callbacks(open_server):
    headers = {**JSON, "Origin": open_server.origin, "Sec-Fetch-Site": "same-origin"}
    answer = open_server.ask(CALLBACK, "POST", headers, '{"output": "no.such"}')
    assert answer.status == 400
    assert "reload" in answer.json["error"]


def test_a_browser_is_refused_on_the_workers_routes(open_server):
    for headers in ({"Origin": open_server.origin}, {"Sec-Fetch-Site": "same-origin"}):
        answer = open_server.ask("/api/worker/claim", "POST", {**JSON, **headers}, "{}")
        assert answer.status == 403
        assert "workers" in answer.json["error"]


def test_a_body_over_the_limit_is_refused_in_words(open_server):
    answer = open_server.ask(CALLBACK, "POST", JSON, b'"' + b"x" * BODY_BYTES + b'"')
    assert answer.status == 413
    assert answer.json["error"] == "This is too large; send less at once."


def test_a_chunked_body_is_not_stored_without_end(open_server):
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    sent = chunk * (5 * BODY_BYTES // 0x100000) + b"0\r\n\r\n"
    try:
        answer = open_server.ask(CALLBACK, "POST", {**JSON, "Transfer-Encoding": "chunked"}, sent)
    except (ConnectionError, BrokenPipeError):
        return
    assert answer.status in (400, 413)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        "{}",
        '{"output": 7}',
        '{"output": "no.such"}',
        '{"output": "page.children", "inputs": 7}',
        '{"output": "..page.children...selection.data...page-title.data..", "inputs": [{"id": []}]}',
        '{"output": "..page.children...selection.data...page-title.data..", "outputs": 1, "inputs": []}',
    ],
)
def test_an_unreadable_callback_is_a_clients_mistake(open_server, body, capfd):
    answer = open_server.ask(CALLBACK, "POST", JSON, body)
    assert answer.status == 400
    assert "error" in answer.json
    assert "Traceback" not in answer.text + capfd.readouterr().err


def test_a_callback_of_another_content_type_is_refused(open_server):
    # A form of another site can send text/plain without asking first.
    answer = open_server.ask(CALLBACK, "POST", {"Content-Type": "text/plain"}, '{"output": "no.such"}')
    assert answer.status == 415


def policy_of(answer):
    parts = (part.split() for part in answer.headers["Content-Security-Policy"].split(";"))
    return {name: values for name, *values in parts}


def test_only_our_own_scripts_run(open_server):
    policy = policy_of(open_server.ask("/"))
    assert policy["script-src"][0] == "'self'"
    assert all(value.startswith("'sha256-") for value in policy["script-src"][1:])
    assert policy["frame-ancestors"] == policy["object-src"] == ["'none'"]
    assert policy["connect-src"] == policy["default-src"] == ["'self'"]
    assert "unsafe-eval" not in content_security_policy(())


def test_every_inline_script_of_the_page_is_named_in_the_policy(open_server):
    answer = open_server.ask("/")
    hashes = open_server.server.dash.csp_hashes()
    inline = re.findall(r"<script(?![^>]*src=)(?![^>]*application/json)[^>]*>", answer.text)
    assert 0 < len(inline) <= len(hashes)
    assert set(hashes) <= set(policy_of(answer)["script-src"])


@pytest.mark.parametrize("path", ["/", "/_dash-layout", "/_dash-dependencies", "/api/none"])
def test_data_is_kept_by_no_cache_and_guessed_by_no_browser(open_server, path):
    headers = open_server.ask(path).headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Server" not in headers


def test_a_route_may_set_its_own_policy(tmp_path):
    from flask import Flask, Response

    from app.web.security import send_headers

    flask = Flask("alone")
    send_headers(flask, "default-src 'self'")

    @flask.get("/report")
    def report() -> Response:
        return Response("x", headers={"Content-Security-Policy": "sandbox; frame-ancestors 'self'"})

    with flask.test_client() as client:
        headers = client.get("/report").headers
    assert headers["Content-Security-Policy"] == "sandbox; frame-ancestors 'self'"
    assert "X-Frame-Options" not in headers


def test_unknown_addresses_of_the_api_are_no_page(open_server):
    answer = open_server.ask("/api/nothing/here")
    assert (answer.status, answer.json) == (404, {"error": "There is nothing at this address."})
    assert open_server.ask("/favicon.ico").status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../pyproject.toml",
        "/assets/%2e%2e/pyproject.toml",
        "/assets/..%2f..%2fetc/passwd",
        "/_dash-component-suites/dash/../../../../../etc/passwd",
        "/_dash-component-suites/dash/..%2f..%2fetc%2fpasswd",
        "/_dash-component-suites/os/path.js",
        "/_dash-component-suites/dash/dash.py",
    ],
)
def test_no_path_leads_out_of_the_files_that_are_served(open_server, path):
    answer = open_server.ask(path)
    assert answer.status == 404
    assert "root:" not in answer.text and "[project]" not in answer.text and "import " not in answer.text


def links_of(page):
    return re.findall(r'(?:src|href)="([^"]+)"', page)


def test_the_page_names_no_other_server(open_server):
    page = open_server.ask("/").text
    assert '<html lang="en">' in page
    assert "://" not in page
    assert all(link.startswith("/") and not link.startswith("//") for link in links_of(page))


def test_every_script_style_and_icon_comes_from_this_server(open_server):
    paths = [*links_of(open_server.ask("/").text), "/_dash-component-suites/plotly/package_data/plotly.min.js"]
    assert any("favicon.svg" in path for path in paths)
    for path in paths:
        assert open_server.ask(path).status == 200, path


def test_our_own_scripts_and_styles_ask_no_other_server():
    from app.server import assets_folder

    files = [path for path in assets_folder().rglob("*") if path.suffix in (".js", ".css", ".svg")]
    assert files
    for path in files:
        outside = set(re.findall(r"https?://[^\s\"')]+", path.read_text(encoding="utf-8")))
        assert outside <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}, path


def test_the_configuration_in_the_page_names_no_versions(open_server):
    page = open_server.ask("/").text
    config = re.search(r'id="_dash-config"[^>]*>(.*?)</script>', page)[1]
    assert dash.__version__ not in config
