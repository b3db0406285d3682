"""Real web servers in processes of their own, visitors who ask them over HTTP, and what reached the sandbox of it."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import requests

from km_logging.sandbox import Received, Sandbox
from support.tracking import GUARD, KEY, eventually

#: For gunicorn's configuration. A signal that comes before a worker is ready is lost, and gunicorn waits for 30 s.
READY = """
def post_worker_init(worker):
    worker.log.info("Ready")
"""

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


class Web:
    """A web server and its workers; a context manager that ends them, should the test not have.

    The test opens the listening socket, so its port is known, and whoever connects before a worker accepts waits.

    Args:
        folder: where the application is; also where the log of all its processes goes.
        command: what to run as ``python -m``; ``{fd}`` stands for the descriptor of the socket, ``{port}`` for a port
            of the server's own.
        sandbox: where to track.
        **variables: more of the environment.
    """

    def __init__(self, folder: Path, command: str, sandbox: Sandbox, **variables: object) -> None:
        self.sandbox = sandbox
        found = re.search(r"^gunicorn .*?(?:--workers (\d+)|$)", command)
        self._gunicorns = int(found[1] or 1) if found else 0
        self._log = folder / "server.log"
        # Bound and not listening, it keeps the port for a server that listens for itself.
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=512) if "{fd}" in command else _reserved()
        self.port = self._socket.getsockname()[1]
        words = shlex.split(command.format(fd=self._socket.fileno(), port=self.port))
        environment = {name: str(value) for name, value in variables.items()}
        environment = {"KM_API_KEY": KEY, "KM_ENDPOINT": sandbox.endpoint, **environment}
        environment["XDG_RUNTIME_DIR"] = str(folder)  # where gunicorn puts its control socket
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=folder,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[self._socket.fileno()],
                start_new_session=True,
            )

    def __enter__(self) -> Web:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._socket.close()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(GUARD)
        if kind is not None:
            sys.stdout.write(self.log)

    @property
    def pid(self) -> int:
        """Of the server's first process."""
        return self._process.pid

    @property
    def log(self) -> str:
        """What all its processes have written until now."""
        return self._log.read_text("utf-8", errors="replace")

    def said(self, pattern: str, times: int = 1) -> list[str]:
        """Wait until what matches the pattern was written so often; returns all of it."""
        eventually(lambda: self._process.poll() is not None or len(re.findall(pattern, self.log)) >= times, pattern)
        found = re.findall(pattern, self.log)
        assert len(found) >= times, f"it ended without: {pattern}"
        return found

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the server, which tells its workers."""
        self._process.send_signal(number)

    def interrupt(self) -> None:
        """As Ctrl-C does, which goes to all of its processes."""
        os.killpg(self._process.pid, signal.SIGINT)

    def settle(self) -> None:
        """Wait until as many of gunicorn's workers as there should be are ready, and none of them is about to go."""
        eventually(lambda: not self._gunicorns or self._is_calm(), "the workers")

    def _is_calm(self) -> bool:
        says = r"\[(\d+)\] \[INFO\] "
        moments = ("Booting worker", "Ready", "Autorestarting", "Worker exiting")
        booted, ready, retiring, gone = ({*re.findall(says + moment, self.log)} for moment in moments)
        return booted == ready and len(ready) == self._gunicorns + len(gone) and retiring <= gone

    def stop(self) -> None:
        """Have it stop as its operator does, and wait until it has."""
        self.settle()
        self.send(signal.SIGTERM)
        self.ended()

    def refuse(self) -> None:
        """Let nobody connect any more, once the server has closed its socket as well."""
        self._socket.close()

    def ended(self) -> None:
        """Wait until it has ended; nothing was wrong with us meanwhile."""
        self._socket.close()
        self._process.wait(GUARD)
        eventually(lambda: not _group_exists(self._process.pid), "the end of the workers")
        assert "km_logging" not in self.log, "a complaint of ours, or a traceback through us"

    def visitor(self, **headers: str) -> Visitor:
        """Somebody who may ask it."""
        return Visitor(f"http://127.0.0.1:{self.port}", headers)


def _reserved() -> socket.socket:
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    return reserved


def _group_exists(group: int) -> bool:
    with suppress(ProcessLookupError):
        os.killpg(group, 0)
        return True
    return False


class Visitor:
    """Somebody with cookies of their own. Each request has a connection of its own, as by a proxy without keep-alive.

    Args:
        url: of the server.
        headers: of each request.
    """

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers.update({**headers, "Connection": "close"})

    def post(self, path: str) -> str:
        """The answer to a POST."""
        return self._ask("POST", path)

    def get(self, path: str) -> str:
        """The answer to a GET."""
        return self._ask("GET", path)

    def _ask(self, method: str, path: str) -> str:
        response = self._session.request(method, self._url + path, timeout=GUARD)
        assert response.status_code == 200, (path, response.status_code, response.text)
        return response.text

    def arrive(self, path: str) -> None:
        """Ask until the server that listens for itself is there."""

        def is_there() -> bool:
            with suppress(requests.ConnectionError):
                self.get(path)
                return True
            return False

        eventually(is_there, "the server")


class Crowd:
    """Visitors who order all at once, each under a name and each item once, until they are told to leave.

    Args:
        visitors: by name.
        most: no more orders than this.
        first: the number of the first item.
    """

    def __init__(self, visitors: dict[str, Visitor], most: int, first: int = 0) -> None:
        self.visitors = visitors
        self._items = iter(range(first, first + most))
        self._lock = threading.Lock()  # guards the items
        self._leaving = threading.Event()
        #: Who ordered which item, and has an answer.
        self.ordered: dict[int, str] = {}
        #: Items whose order got no answer: nobody knows.
        self.doubtful: dict[int, str] = {}
        self._threads = [threading.Thread(target=self._order, args=pair) for pair in visitors.items()]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def _order(self, name: str, visitor: Visitor) -> None:
        while not self._leaving.is_set():
            with self._lock:
                item = next(self._items, None)
            if item is None:
                return
            try:
                visitor.post(f"/orders/{item}")
                self.ordered[item] = name
            except requests.ConnectionError:
                self.doubtful[item] = name

    def wait(self, orders: int) -> None:
        """Until so many orders more are answered, or all are."""
        wanted = len(self.ordered) + orders
        eventually(lambda: len(self.ordered) >= wanted or not any(t.is_alive() for t in self._threads), "the orders")

    def finish(self) -> None:
        """Wait until all are answered."""
        for thread in self._threads:
            thread.join(4 * GUARD)
            assert not thread.is_alive()

    def leave(self) -> None:
        """Order nothing more."""
        self._leaving.set()
        self.finish()


def crowd_of(web: Web, size: int, most: int) -> Crowd:
    """So many who have signed up."""
    visitors = {f"visitor-{number}": web.visitor() for number in range(size)}
    for name, visitor in visitors.items():
        visitor.post(f"/people/{name}")
    return Crowd(visitors, most)


def calls(sandbox: Sandbox, name: str) -> list[Received]:
    """The events of this name that have arrived."""
    return [call for call in sandbox.calls if call.name == name]


def each_once(sandbox: Sandbox, crowd: Crowd) -> None:
    """Each order that was answered has arrived once, and is that visitor's; of the others, none more than once."""
    arrived = calls(sandbox, "Ordered")
    told = {(int(call.properties["item"]), call.person) for call in arrived}
    assert max(Counter(call.properties["item"] for call in arrived).values(), default=1) == 1
    assert set(crowd.ordered.items()) <= told
    assert told <= {*crowd.ordered.items(), *crowd.doubtful.items()}
    assert [call.problems for call in arrived] == [()] * len(arrived)


def reloaded_under_load(web: Web, sandbox: Sandbox) -> None:
    """Reload gunicorn's two workers again and again under load, then stop it under the same load; each order counts."""
    with crowd_of(web, 6, 2_000) as crowd:
        for time in range(1, 6):
            crowd.wait(60)
            web.send(signal.SIGHUP)
            web.said("Booting worker", 2 + 2 * time)
            web.settle()
        crowd.wait(60)
        web.send(signal.SIGTERM)
        web.refuse()
        crowd.finish()
    web.ended()
    assert len(crowd.ordered) > 360
    each_once(sandbox, crowd)
