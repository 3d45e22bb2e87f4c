"""What a server's answers mean to a worker: come again, stop for good, or let the job go."""

import json
import shutil
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from analyzer.errors import HotbenchError
from app.worker.client import Assignment, Client
from app.worker.errors import LostJobError, RefusedError, UnreachableError

JOB = Assignment("job-1", "c1", "profile", "a job", {}, {})


class Answers(BaseHTTPRequestHandler):
    """Gives what the test put into `answer`, and remembers what it was asked."""

    answer = (200, {}, b"{}")
    asked: list = []  # noqa: RUF012

    def do_POST(self):
        size = int(self.headers.get("Content-Length", 0))
        type(self).asked.append((self.path, dict(self.headers), self.rfile.read(size)))
        code, headers, body = type(self).answer
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST  # noqa: N815

    def log_message(self, *_):
        pass


@pytest.fixture
def answers():
    class Own(Answers):
        asked = []  # noqa: RUF012

    server = HTTPServer(("127.0.0.1", 0), Own)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Own, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def refusal(code, words="no", word=""):
    return code, {}, json.dumps({"error": words, "code": word}).encode()


def test_every_request_names_token_session_and_claim(answers, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    handler, url = answers
    client = Client(url + "/under/", "t0ken", "s1")
    assert client.report({"cpu": 0.5}, JOB, []) is False
    path, headers, body = handler.asked[0]
    assert path == "/under/api/worker/report" and headers["Authorization"] == "Bearer t0ken"
    assert headers["Hotbench-Session"] == "s1" and headers["Hotbench-Claim"] == "c1"
    assert json.loads(body) == {"load": {"cpu": 0.5}, "job": "job-1", "notes": []}


@pytest.mark.parametrize("code", [502, 503, 504, 429])
def test_a_server_that_is_busy_or_away_is_worth_another_try(answers, code):
    handler, url = answers
    handler.answer = refusal(code, "come again")
    with pytest.raises(UnreachableError, match="cannot answer now: come again"):
        Client(url, "t", "s").hello({})


def test_nobody_there_is_worth_another_try():
    with pytest.raises(UnreachableError, match="does not answer: Connection refused"):
        Client("http://127.0.0.1:1", "t", "s").hello({})


@pytest.mark.parametrize(
    ("answer", "final", "words"),
    [
        (refusal(401, "the token of gpu-1 was revoked", "token"), True, "^the token of gpu-1 was revoked$"),
        (refusal(409, "another process works", "session"), True, "^another process works$"),
        (refusal(400, "the upload is corrupt"), False, "^the upload is corrupt$"),
        ((413, {}, b"<html>too large</html>"), False, "answered HTTP 413$"),
        ((404, {}, b"<html>"), True, "is no Hotbench server: it answered HTTP 404"),
        ((200, {}, b"<html>welcome</html>"), True, "is no Hotbench server: it answered no JSON"),
        ((302, {"Location": "https://other"}, b""), True, "sends on to https://other; give that address"),
    ],
)
def test_a_no_is_told_in_words(answers, answer, final, words):
    handler, url = answers
    handler.answer = answer
    with pytest.raises(RefusedError, match=words) as caught:
        Client(url, "t", "s").hello({})
    assert caught.value.final is final


def test_a_redirect_is_not_followed_with_the_token(answers):
    handler, url = answers
    handler.answer = (307, {"Location": url + "/elsewhere"}, b"")
    with pytest.raises(RefusedError, match="sends on to"):
        Client(url, "t", "s").hello({})
    assert len(handler.asked) == 1


def test_a_job_that_is_no_longer_ours_is_let_go(answers):
    handler, url = answers
    handler.answer = refusal(409, "job-1 has ended: cancelled", "job")
    with pytest.raises(LostJobError, match="job-1 has ended: cancelled"):
        Client(url, "t", "s").begin(JOB)


def test_a_claim_that_cannot_be_read_and_one_without_a_job(answers):
    handler, url = answers
    assert Client(url, "t", "s").claim([], 0) is None
    handler.answer = (200, {}, b'{"job": {"id": "job-1"}}')
    with pytest.raises(UnreachableError, match="gave a job that cannot be read"):
        Client(url, "t", "s").claim([], 0)


def test_values_travel_as_files(answers, tmp_path):
    handler, url = answers
    (tmp_path / "a.zip").write_bytes(b"zipped" * 100_000)
    Client(url, "t", "s").put(JOB, "run", "run-1", tmp_path / "a.zip")
    path, _, body = handler.asked[0]
    assert path == "/api/worker/jobs/job-1/values/run/run-1" and body == b"zipped" * 100_000
    handler.answer = (200, {"Hotbench-Kind": "run"}, b"packed" * 9)
    assert Client(url, "t", "s").get(JOB, "run", tmp_path / "b.zip") == "run"
    assert (tmp_path / "b.zip").read_bytes() == b"packed" * 9
    assert handler.asked[1][0] == "/api/worker/jobs/job-1/inputs/run"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:8050",
        "ftp://host",
        "http://",
        "http://user:word@host",
        "http://host?a=1",
        "http://host:0",
        "http://[:1",
    ],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(HotbenchError, match="is no address of a server; write it as https://host:8050"):
        Client(url, "t", "s")


@pytest.mark.parametrize("token", ["two words", "new\nline", "ünreadable"])
def test_what_is_no_token_is_refused(token):
    with pytest.raises(HotbenchError, match="--token is no token"):
        Client("http://host", token, "s")


def test_a_file_without_certificates_is_refused(tmp_path):
    (tmp_path / "ca.pem").write_text("none here")
    for file in (tmp_path / "ca.pem", tmp_path / "missing.pem"):
        with pytest.raises(HotbenchError, match="no certificates can be read from it"):
            Client("https://host", "t", "s", file)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command to make a certificate")
def test_a_server_is_believed_by_the_certificate_that_was_named_and_by_no_other(answers, tmp_path):
    handler, _ = answers
    key, certificate = tmp_path / "key.pem", tmp_path / "ca.pem"
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    server = HTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        url = f"https://localhost:{server.server_port}"
        assert Client(url, "t", "s", certificate).hello({}) == {}
        with pytest.raises(RefusedError, match="is not trusted .*; name its CA with --ca") as caught:
            Client(url, "t", "s").hello({})
        assert caught.value.final and len(handler.asked) == 1
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_only_what_leaves_the_machine_unencrypted_is_in_the_clear():
    assert Client("http://gpu-box:8050", "t", "s").in_the_clear
    for url in ("https://gpu-box", "http://127.0.0.1:8050", "http://localhost", "http://[::1]:8050"):
        assert not Client(url, "t", "s").in_the_clear
