import os
import socket
import time

import pytest
from waitress.trigger import trigger

from analyzer.errors import HotbenchError
from app.store.workers import Workers
from app.web.context import ServerSettings
from app.web.listen import bind
from app.web.security import UPLOAD_BYTES
from tests.app.web.servers import listening


def test_a_free_port_is_found_and_told(open_server):
    assert open_server.port > 0


def test_a_port_in_use_is_told_in_one_line():
    with bind(ServerSettings(port=0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HotbenchError, match=f"^port {port} of 127.0.0.1 is in use.*--port 0"):
            bind(ServerSettings(port=port))


@pytest.mark.parametrize("host", ["no.such.host.invalid", "256.1.1.1", "a" * 300])
def test_a_host_that_is_nobody_is_told_in_one_line(host):
    with pytest.raises(HotbenchError, match="--host .* is no address"):
        bind(ServerSettings(host=host, port=0))


def test_an_address_of_another_machine_is_told_in_one_line():
    with pytest.raises(HotbenchError, match="203.0.113.9 is no address of this machine"):
        bind(ServerSettings(host="203.0.113.9", port=0))


def test_stopping_ends_long_answers(tmp_path):
    with listening(ServerSettings(store=str(tmp_path), port=0)) as running:
        stopping = running.server.context.stopping
        assert not stopping.is_set()
    assert stopping.is_set()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", running.port), timeout=5)


def test_the_loop_may_wake_before_the_end_has_told_it(tmp_path, monkeypatch):
    def pulled_twice(waking):
        os.write(waking.trigger, b"x")
        time.sleep(0.3)
        os.write(waking.trigger, b"x")  # a loop that had closed its pipe on waking would make this fail

    with listening(ServerSettings(store=str(tmp_path), port=0)) as running:
        assert running.ask("/").status == 200
        monkeypatch.setattr(trigger, "_physical_pull", pulled_twice)
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", running.port), timeout=5)


def first_line(running, path, length, token=""):
    head = f"POST {path} HTTP/1.1\r\nHost: {running.host}\r\nContent-Length: {length}\r\n"
    head += f"Authorization: Bearer {token}\r\n\r\n" if token else "\r\n"
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as connection:
        connection.sendall(head.encode())
        connection.settimeout(2)
        try:
            return connection.recv(4096).split(b"\r\n")[0]
        except TimeoutError:
            return b""


def test_a_huge_body_is_not_even_received_but_from_a_worker(open_server):
    workers = Workers(open_server.server.context.store.database)
    worker, token = workers.add(f"box-{open_server.port}", "local")
    huge = UPLOAD_BYTES - 1
    assert b"413" in first_line(open_server, "/_dash-update-component", huge, token)
    assert b"413" in first_line(open_server, "/api/worker/values", huge)
    assert b"413" in first_line(open_server, "/api/worker/values", huge, "somebody-elses")
    assert b"413" in first_line(open_server, "/api/worker/values", UPLOAD_BYTES + 1, token)
    assert first_line(open_server, "/api/worker/values", huge, token) == b""
    workers.revoke(worker.name)
    assert b"413" in first_line(open_server, "/api/worker/values", huge, token)
