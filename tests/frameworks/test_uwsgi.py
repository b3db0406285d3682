"""uWSGI: real workers, with and without threads; its forks, which Python does not hear of, and its ends."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import urlopen

import pytest

from support.applications import EXAMPLES, Application, commands_of, free_port, need
from support.lasting import IMMEDIATE, each_once, names, relay_for, waiting
from support.servers import Reply, TrackingServer
from support.tls import SecureServer, authority
from support.tracking import GUARD, Answers, people

APP = """\
    import logging, os
    import km_logging as km

    logging.basicConfig(level="INFO", handlers=[logging.StreamHandler(), km.KissmetricsHandler()], format="%(message)s")
    logger = logging.getLogger("shop")
    if "EARLY" in os.environ:
        logger.info("Started", extra=km.event("early"))

    def application(environ, start_response):
        with km.identify(environ["PATH_INFO"][1:]):
            logger.info("Asked", extra=km.event())
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(os.getpid()).encode()]
    """


class Served(Application):
    """The application under uWSGI, with threads unless it is told otherwise."""

    def __init__(self, folder: Path, endpoint: str, *options: str, threads: bool = True, **variables: object) -> None:
        (folder / "app.py").write_text(textwrap.dedent(APP))
        self._address = f"127.0.0.1:{free_port()}"
        command = [uwsgi(), "--http-socket", self._address, "--wsgi-file", "app.py", "--need-app"]
        command += ["--hook-accepting", "print:accepts"]  # before that, a worker does not hear signals
        options = (*options, "--enable-threads") if threads else options
        variables = {"KM_API_KEY": "any", "KM_ENDPOINT": endpoint, "KM_SENDERS": 1, "KM_DRAIN_TIMEOUT": 20, **variables}
        super().__init__([*command, *options], folder, **variables)
        self.wait_for("accepts", 2 if "2" in options else 1)
        self.wait_for("WSGI app 0", 2 if "--lazy-apps" in options else 1)

    def ask(self, prefix: str, count: int) -> set[str]:
        """So many requests, each of its own person, four at once; the processes that have answered."""

        def ask(person: str) -> str:
            with urlopen(f"http://{self._address}/{person}", timeout=GUARD) as answer:
                return answer.read().decode()

        with ThreadPoolExecutor(4) as pool:
            processes = set(pool.map(ask, names(prefix, count)))
        # Before that a worker counts as busy.
        self.wait_for(f"GET /{prefix}-.* => generated", count)
        return processes


def uwsgi() -> str:
    """The program."""
    program = shutil.which("uwsgi", path=str(Path(sys.executable).parent)) or shutil.which("uwsgi")
    if program is None:
        need("uwsgi", "pip install pyuwsgi")
    return program


@pytest.fixture
def server() -> Iterator[TrackingServer]:
    """So slow that a worker ends with calls in the background."""
    with TrackingServer(Answers(Reply(delay=0.03))) as server:
        yield server


#: On SIGTERM a master reloads; here, it has the workers end what they are at, and itself. With --die-on-term it would
#: have busy ones end at once, and without their exit functions.
MASTER = ("--master", "--processes", "2", "--hook-master-start", "unix_signal:15 gracefully_kill_them_all")

LAZY = (*MASTER, "--lazy-apps")


@pytest.mark.parametrize("options", [MASTER, LAZY], ids=["loaded before the fork", "loaded after it"])
def test_what_is_pending_when_it_ends_is_delivered_over_tls(tmp_path, options):
    """Python is ended among the last; OpenSSL must be there still, although nothing but the sender needs it."""
    if options is LAZY and version() < (2, 0, 30):
        pytest.skip("before 2.0.30, what is loaded after the fork is cleaned up before Python ends")
    signed_by, file = authority(tmp_path)
    with SecureServer(signed_by, Answers(Reply(delay=0.03))) as server:
        with Served(tmp_path, server.endpoint, *options, REQUESTS_CA_BUNDLE=file) as served:
            served.ask("p", 20)
            served.stop()
        assert "backtrace" not in served.said, served.said
        each_once(server, *names("p", 20))


#: How Python hears of the fork, and how many processes load the application.
FORKS = {
    "not at all": (MASTER, 1),
    "in the child": ((*MASTER, "--py-call-osafterfork"), 1),
    "before and after": ((*MASTER, "--py-call-uwsgi-fork-hooks"), 1),
    "each worker loads": (LAZY, 2),
    "no master": (("--processes", "2", "--die-on-term"), 1),
    "no fork": (("--die-on-term",), 1),
}


@pytest.mark.parametrize("variables", [{}, IMMEDIATE], ids=["memory", "file"])
@pytest.mark.parametrize(
    ("options", "loads"),
    [FORKS["not at all"], *[pytest.param(*fork, marks=pytest.mark.slow) for fork in list(FORKS.values())[1:]]],
    ids=FORKS,
)
def test_what_is_logged_while_the_application_is_loaded_arrives_once(tmp_path, server, options, loads, variables):
    """However Python hears of the fork; and the workers go on, and deliver what they log."""
    if "--py-call-osafterfork" in options and sys.version_info >= (3, 13):
        pytest.skip("uWSGI crashes there, whatever the application does")
    with Served(tmp_path, server.endpoint, *options, EARLY=1, **variables) as served:
        served.ask("p", 20)
        server.wait(20 + loads)
        served.stop()
    each_once(server, *["early"] * loads, *names("p", 20))
    assert waiting(tmp_path) == []


@pytest.mark.slow
def test_workers_that_are_replaced_lose_nothing_and_send_nothing_again(tmp_path, server):
    """After so many requests each; what was logged at the start is not their successors'."""
    options = (*MASTER, "--max-requests", "4", "--min-worker-lifetime", "1")
    with Served(tmp_path, server.endpoint, *options, EARLY=1) as served:
        asked: list[str] = []
        processes: set[str] = set()
        while len(processes) < 6:
            person = f"round-{len(asked)}"
            processes |= served.ask(person, 4)
            asked += names(person, 4)
            threading.Event().wait(0.1)  # young ones are not replaced
        server.wait(len(asked) + 1)  # one that is just ending would be ended by the stop at once
        served.stop()
    each_once(server, "early", *asked)


def test_with_its_loop_for_gevent_a_file_keeps_the_calls(tmp_path, server):
    """There it runs no exit functions; what was pending is in the file, for a relay or the next process."""
    with Served(tmp_path, server.endpoint, *MASTER, "--gevent", "20", **IMMEDIATE) as served:
        served.ask("p", 20)
        served.stop()
    relay_for(tmp_path, server).run_once()
    assert {*people(server)} == {*names("p", 20)}
    assert waiting(tmp_path) == []


def version() -> tuple[int, ...]:
    """Of uWSGI."""
    said = subprocess.run([uwsgi(), "--version"], capture_output=True, text=True, timeout=GUARD, check=True).stdout
    return tuple(map(int, re.findall(r"\d+", said)[:3]))


def without_threads() -> None:
    """Skip the test where uWSGI always has them."""
    if version() >= (2, 0, 28):
        pytest.skip("since 2.0.28 it always runs threads")


def test_without_threads_it_says_so_once_and_a_file_keeps_the_calls(tmp_path, server):
    """With the remedy; each call is committed before its log call returns, and a relay sends them."""
    without_threads()
    with Served(tmp_path, server.endpoint, *MASTER, threads=False, KM_DELIVER="false", **IMMEDIATE) as served:
        processes = served.ask("p", 20)
        assert (sorted(waiting(tmp_path)), server.targets) == (sorted(names("p", 20)), [])
        said = served.wait_for("uWSGI runs no threads")
        assert len(said) == len({*processes})
        assert all("--enable-threads" in line for line in said)
        served.tell(signal.SIGKILL)
    relay_for(tmp_path, server).run_once()
    each_once(server, *names("p", 20))
    assert waiting(tmp_path) == []


def test_without_threads_calls_in_memory_are_sent_at_the_end(tmp_path, server):
    """And at the latest there; what was logged while the application was loaded, too."""
    without_threads()
    with Served(tmp_path, server.endpoint, *MASTER, threads=False, EARLY=1) as served:
        served.ask("p", 20)
        served.stop()
    each_once(server, "early", *names("p", 20))


def test_the_example_runs_by_the_command_in_its_first_lines(sandbox):
    uwsgi()
    (command, variables), (curl, _) = commands_of("with_uwsgi.py")
    address = f"127.0.0.1:{free_port()}"
    command = [word.replace("127.0.0.1:8000", address) for word in command]
    with Application(command, EXAMPLES.parent, **variables | {"KM_ENDPOINT": sandbox.endpoint}) as served:
        served.wait_for(r"spawned uWSGI worker 2")
        with urlopen(curl[-1].replace("127.0.0.1:8000", address), timeout=GUARD) as answer:
            assert answer.read() == b"hello\n"
        [call] = sandbox.wait(1, GUARD)
        assert (call.person, call.name, call.problems) == ("bob", "Page viewed", ())
        served.stop()
