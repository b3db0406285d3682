"""Starting and stopping, logging nothing, and the command's foreground server."""

from __future__ import annotations

import logging
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import requests

import km_logging as km
from km_logging.errors import MissingExtraError, SettingsError
from km_logging.sandbox import Sandbox, server
from km_logging.sandbox.engine import Engine, mended

KEY = "s3cr3t-Key"
TIMEOUT = 30


def connected(sandbox: Sandbox) -> socket.socket:
    url = urlsplit(sandbox.endpoint)
    return socket.create_connection((url.hostname, url.port), timeout=TIMEOUT)


def test_a_sandbox_takes_what_the_library_sends() -> None:
    """The whole way: a log call, over HTTP, to a call without a problem."""
    with Sandbox() as sandbox, km.Tracker(api_key=KEY, endpoint=sandbox.endpoint) as tracker:
        tracker.event("bob", "Signed Up", timestamp=1_262_304_000, plan="pro")
        tracker.set("bob", gender="male")
        tracker.alias("bob", "bob@bob.com")
        calls = {call.kind: call for call in sandbox.wait(3, TIMEOUT)}
    assert (calls["event"].name, calls["event"].timestamp, calls["event"].properties) == (
        "Signed Up",
        1_262_304_000,
        {"plan": "pro"},
    )
    assert calls["set"].properties == {"gender": "male"}
    assert calls["alias"].identity == "bob@bob.com"
    assert [call.problems for call in calls.values()] == [(), (), ()]


def test_the_endpoint_is_on_loopback_and_on_a_free_port() -> None:
    with Sandbox() as one, Sandbox() as other:
        assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+", one.endpoint)
        assert one.endpoint != other.endpoint


def test_connections_are_accepted_from_the_start_until_the_end() -> None:
    sandbox = Sandbox()
    sandbox.start()
    with connected(sandbox):
        pass
    sandbox.stop()
    with pytest.raises(ConnectionRefusedError):
        connected(sandbox)


def test_the_calls_outlive_the_server() -> None:
    with Sandbox() as sandbox:
        requests.get(f"{sandbox.endpoint}/e?_p=bob", timeout=TIMEOUT)
    assert [call.person for call in sandbox.calls] == ["bob"]


def test_the_number_of_calls_held_is_bounded() -> None:
    with Sandbox(capacity=1) as sandbox:
        for person in ("ann", "bob"):
            requests.get(f"{sandbox.endpoint}/e?_p={person}", timeout=TIMEOUT)
        assert [call.person for call in sandbox.wait(2, TIMEOUT)] == ["bob"]
        assert sandbox.store.forgotten == 1


def test_stop_may_be_called_before_start_and_again() -> None:
    sandbox = Sandbox()
    sandbox.stop()
    sandbox.start()
    sandbox.stop()
    sandbox.stop()
    assert "km_logging-sandbox" not in {it.name for it in threading.enumerate()}


def test_a_sandbox_runs_once() -> None:
    with Sandbox() as sandbox, pytest.raises(RuntimeError, match="make another one"):
        sandbox.start()


def test_a_sandbox_that_was_not_started_has_no_endpoint() -> None:
    with pytest.raises(RuntimeError, match="start it first"):
        _ = Sandbox().endpoint


def test_stopping_ends_streams_and_whoever_waits() -> None:
    with Sandbox() as sandbox, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(sandbox.wait, 1, None)
        with requests.get(f"{sandbox.endpoint}/api/stream", stream=True, timeout=TIMEOUT) as answer:
            lines = answer.iter_lines(chunk_size=1)
            assert next(lines).startswith(b": ")
            sandbox.stop()
            assert list(lines) == [b""]  # a stream that was cut off would raise
        assert waiting.result(timeout=TIMEOUT) == []


def test_stopping_cuts_a_request_that_does_not_end() -> None:
    with Sandbox() as sandbox:
        connection = connected(sandbox)
        connection.sendall(b"POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(1_000).startswith(b"HTTP/1.1 100")  # the sandbox waits for the body now
    with connection:
        assert connection.recv(1_000) == b""
    assert sandbox.calls == []


def test_an_address_that_is_taken_is_an_error_with_the_remedy() -> None:
    with Sandbox() as sandbox:
        port = urlsplit(sandbox.endpoint).port or 0
        with pytest.raises(SettingsError, match=rf"127\.0\.0\.1:{port} .*: choose another"):
            Sandbox(port=port).start()


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70_000), ("127.0.0.1", -1), ("203.0.113.1", 0)])
def test_an_address_that_cannot_be_is_an_error_with_the_remedy(host: str, port: int) -> None:
    with pytest.raises(SettingsError, match=r"cannot listen on .*: choose"):
        Sandbox(host, port).start()


def test_connections_answer_at_once() -> None:
    """Otherwise the end of each answer waits for the client's delayed acknowledgement of its head."""
    with server._listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_an_error_at_the_start_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """`start` never waits for a server that will not be."""

    async def fail(*_arguments: object, **_options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Engine, "startup", fail)
    with pytest.raises(ZeroDivisionError):
        Sandbox().start()


def test_an_error_later_on_is_told_like_any_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []

    async def fail(*_arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Engine, "main_loop", fail)
    monkeypatch.setattr(threading, "excepthook", lambda hooked: told.append(hooked.exc_type))
    with Sandbox():
        pass
    assert told == [ZeroDivisionError]


@pytest.mark.parametrize(
    ("name", "endpoint"),
    [
        (("127.0.0.1", 8123), "http://127.0.0.1:8123"),
        (("0.0.0.0", 8123), "http://127.0.0.1:8123"),
        (("::1", 8123, 0, 0), "http://[::1]:8123"),
        (("::", 8123, 0, 0), "http://[::1]:8123"),
        (("192.168.0.5", 80), "http://192.168.0.5:80"),
    ],
)
def test_the_endpoint_is_where_this_machine_reaches_the_socket(name: tuple[object, ...], endpoint: str) -> None:
    class Listener:
        def getsockname(self) -> tuple[object, ...]:
            return name

    assert server._endpoint(Listener()) == endpoint  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        (b"GET /\xff\x00 HTTP/1.1\r\nHost: \xff\r\n", b"GET /%FF%00 HTTP/1.1\r\nHost: \xff\r\n"),
        (b"GET /e?a b\rc HTTP/1.1 HTTP/1.1\r\n", b"GET /e?a%20b%0Dc%20HTTP/1.1 HTTP/1.1\r\n"),
        (b"CONNECT /e?_p=bob HTTP/1.1\r\n", b"GET /e?_p=bob HTTP/1.1\r\n"),
        (b"GET /e\n", b"GET /e\n"),
        (b"\r\nGET /e HTTP/1.1\r\n", b"\r\nGET /e HTTP/1.1\r\n"),
        (b"nonsense\n\xff", b"nonsense\n\xff"),
    ],
)
def test_the_first_line_is_mended_and_nothing_else(sent: bytes, seen: bytes) -> None:
    assert mended(sent) == seen


def test_an_address_to_listen_on_is_a_name_of_this_machine() -> None:
    """Whoever listens on an address may read at that address; there is one on every Linux that is no loopback name."""
    sandbox = Sandbox("203.0.113.7", allow_hosts=["sandbox.test"])
    assert sandbox._allow_hosts == ("sandbox.test", "203.0.113.7")
    assert Sandbox("fd00::1")._allow_hosts == ("[fd00::1]",)
    assert "read and clear all that it holds" in (sandbox.warning or "")


# Logging.


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """Every record that reaches the root logger, at any level."""
    found: list[logging.LogRecord] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    root, collector = logging.getLogger(), Collector()
    level = root.level
    root.addHandler(collector)
    root.setLevel(1)
    yield found
    root.removeHandler(collector)
    root.setLevel(level)


def test_no_request_is_logged_with_its_query(records: list[logging.LogRecord]) -> None:
    """Not even where everything is logged: uvicorn writes access logs, and traces whole scopes."""
    with Sandbox() as sandbox:
        for path in ("/e", "/s", "/a", "/nowhere"):
            with connected(sandbox) as connection:
                head = "Host: localhost\r\nConnection: close\r\nContent-Length: 13\r\n\r\n"
                connection.sendall(f"POST {path}?_k={KEY} HTTP/1.1\r\n{head}_k={KEY}".encode())
                assert b"".join(iter(lambda it=connection: it.recv(65_536), b"")).startswith(b"HTTP/1.1 ")
        with connected(sandbox) as connection:
            connection.sendall(f"GET /e?_k={KEY} HTTP/1.1\r\nno header\r\n\r\n".encode())
            assert connection.recv(1_000).startswith(b"HTTP/1.1 400")
    texts = [record.getMessage() + repr(record.__dict__) for record in records]
    assert any("selector" in text for text in texts)  # records do come here
    assert not any("uvicorn" in text for text in texts)  # but none of another server than the application's
    assert [text for text in texts if KEY in text] == []


def test_uvicorns_loggers_stay_as_they_are() -> None:
    """An application of uvicorn's own may run in the same process."""
    loggers = [logging.getLogger(name) for name in ("uvicorn", "uvicorn.access", "uvicorn.error", "uvicorn.asgi")]
    before = [(it.level, it.propagate, list(it.handlers)) for it in loggers]
    with Sandbox() as sandbox:
        requests.get(f"{sandbox.endpoint}/e", timeout=TIMEOUT)
    assert [(it.level, it.propagate, list(it.handlers)) for it in loggers] == before


# The extra, and what it costs.


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_without_the_extra_the_remedy_is_said(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("app", "engine"):
        monkeypatch.delitem(sys.modules, f"km_logging.sandbox.{module}", raising=False)
    for module in [it for it in sys.modules if it.partition(".")[0] == package]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"km-logging sandbox .* pip install 'km_logging\[sandbox\]'"):
        Sandbox().start()


def test_importing_the_package_does_not_import_the_extra() -> None:
    code = "import km_logging.sandbox, sys; print({'starlette', 'uvicorn', 'h11'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=TIMEOUT)
    assert done.stdout.strip() == "set()"


# The foreground.

SERVE = """
import sys
from km_logging.sandbox import serve
serve(port=0, on_ready=lambda endpoint: print(endpoint, flush=True))
print("over", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_foreground_server_ends_cleanly_at_a_signal(number: signal.Signals) -> None:
    """With a stream open, too: what stands after `serve` still runs, and nothing is on stderr."""
    command = [sys.executable, "-W", "error", "-c", SERVE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            endpoint = process.stdout.readline().strip()
            with requests.get(f"{endpoint}/api/stream", stream=True, timeout=TIMEOUT) as answer:
                lines = answer.iter_lines(chunk_size=1)
                assert next(lines).startswith(b": ")
                process.send_signal(number)
                assert list(lines) == [b""]
            assert process.communicate(timeout=TIMEOUT) == ("over\n", "")
            assert process.returncode == 0
        finally:
            process.kill()


def test_run_serves_in_this_thread_until_stopped() -> None:
    """In a thread that is not the main one, no signal handler can be set, and none is needed."""
    sandbox = Sandbox()
    endpoints: list[str] = []

    def stop(endpoint: str) -> None:
        endpoints.append(endpoint)
        sandbox.stop()

    with ThreadPoolExecutor(1) as threads:
        threads.submit(sandbox.run, stop).result(timeout=TIMEOUT)
    assert endpoints == [sandbox.endpoint]


def test_signal_handlers_are_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    sandbox = Sandbox()
    during: list[object] = []

    def stop(_endpoint: str) -> None:
        during.append(signal.getsignal(signal.SIGTERM))
        sandbox.stop()

    sandbox.run(stop)
    assert during != [before[1]]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_serving_other_machines_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said before it listens; here it never does, since tests stay on loopback."""
    served: list[object] = []
    monkeypatch.setattr(Sandbox, "run", lambda _sandbox, on_ready: served.append(on_ready))
    server.serve("0.0.0.0", 0)
    assert "The sandbox is not for open networks" in capsys.readouterr().err
    server.serve("127.0.0.1", 0)
    assert capsys.readouterr().err == ""
    assert len(served) == 2
