"""Jupyter, with real kernels: cells run again, threads print, the kernel is interrupted, restarted and shut down."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from subprocess import DEVNULL
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

from support.servers import Reply, TrackingServer
from support.tracking import GUARD, KEY, people, person_of, tracker_for

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "notebook.ipynb"

#: Every way to configure, as a cell that somebody runs more than once. ``say`` logs one event.
CELLS = {
    "a handler added": """
        logger.addHandler(km.KissmetricsHandler())
        logger.setLevel("INFO")
        say = lambda person: logger.info("Signed Up", extra=km.event(person))
    """,
    "basicConfig": """
        logging.basicConfig(level="INFO", handlers=[km.KissmetricsHandler()])
        say = lambda person: logger.info("Signed Up", extra=km.event(person))
    """,
    "basicConfig, forced": """
        logging.basicConfig(level="INFO", handlers=[km.KissmetricsHandler()], force=True)
        say = lambda person: logger.info("Signed Up", extra=km.event(person))
    """,
    "dictConfig": """
        logging.config.dictConfig({
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"kissmetrics": {"class": "km_logging.KissmetricsHandler"}},
            "root": {"level": "INFO", "handlers": ["kissmetrics"]},
        })
        say = lambda person: logger.info("Signed Up", extra=km.event(person))
    """,
    "structlog": """
        structlog.configure(processors=[km.KissmetricsProcessor(drop=True), structlog.processors.JSONRenderer()])
        say = lambda person: structlog.get_logger().info("Signed Up", km="event", person=person)
    """,
    "a tracker made": """
        tracker = km.Tracker()
        say = lambda person: tracker.event(person, "Signed Up")
    """,
    "a handler with a tracker made": """
        logger.addHandler(km.KissmetricsHandler(tracker=km.Tracker()))
        logger.setLevel("INFO")
        say = lambda person: logger.info("Signed Up", extra=km.event(person))
    """,
}

IMPORTS = """
import logging, logging.config, structlog
import km_logging as km
logger = logging.getLogger("notebook")
"""


def _manager(folder: str) -> KernelManager:
    """For a kernel of this Python, with its sockets in a folder: a TCP port may be taken before the kernel has it."""
    manager = KernelManager(kernel_name="python3", transport="ipc", ip=f"{folder}/kernel", shutdown_wait_time=GUARD)
    assert manager.kernel_spec is not None
    manager.kernel_spec.argv[0] = sys.executable
    return manager


class Kernel:
    """A kernel of this Python; a context manager that ends it, should the test not have.

    On a busy machine a kernel may hang in its own shutdown, between two threads of its own, until Jupyter's signal: a
    test of many kernels must not go by each one's exit code.

    Args:
        endpoint: for ``KM_ENDPOINT``.
        variables: more of its environment.
    """

    def __init__(self, endpoint: str, **variables: str) -> None:
        self.endpoint, self._variables = endpoint, variables
        self._sockets = TemporaryDirectory()
        self.manager = _manager(self._sockets.name)

    def __enter__(self) -> Kernel:
        environ = {"KM_API_KEY": KEY, "KM_ENDPOINT": self.endpoint, **self._variables}
        self.manager.start_kernel(extra_arguments=["--HistoryManager.enabled=False"], env=environ, stderr=DEVNULL)
        self._process = self.manager.provisioner.process
        self._client = self.manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=GUARD)
        self.run(IMPORTS)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel(now=True)
        self._sockets.cleanup()

    def run(self, cell: str, status: str = "ok") -> str:
        """Run a cell; returns what it showed as text: the streams and the result."""
        shown: list[str] = []

        def show(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] in {"stream", "execute_result", "error"}:
                shown.append(str(content.get("text") or content.get("data") or content.get("ename")))

        indented = all(line[:8].isspace() for line in cell.splitlines() if line)
        text = "\n".join(line[8:] for line in cell.splitlines()) if indented else cell
        reply = self._client.execute_interactive(text, timeout=GUARD, output_hook=show)
        assert reply["content"]["status"] == status, shown
        return "".join(shown)

    def begin(self, cell: str) -> str:
        """Have a cell run, and do not wait for its end; returns what to give to `reply_to`."""
        return self._client.execute(cell, stop_on_error=False)

    def status_of(self, cell: str) -> str:
        """Wait until that cell has ended, and say how."""
        while (reply := self._client.get_shell_msg(timeout=GUARD))["parent_header"].get("msg_id") != cell:
            pass
        return reply["content"]["status"]

    def restart(self) -> None:
        """As the button does."""
        self.manager.restart_kernel(now=False, env=self.manager._launch_args["env"])
        self._process = self.manager.provisioner.process
        self._client.wait_for_ready(timeout=GUARD)
        self.run(IMPORTS)

    def shut_down(self) -> int:
        """As Jupyter does: it asks, and sends a signal if that does not help in time; returns the exit code."""
        self.manager.shutdown_kernel(now=False)
        return self._process.returncode


@pytest.fixture(autouse=True)
def _nothing_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jupyter keeps its files below this folder."""
    for variable in ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")


@pytest.fixture
def kernel(server: TrackingServer) -> Iterator[Kernel]:
    """A kernel whose applications track to `server`."""
    with Kernel(server.endpoint) as kernel:
        yield kernel


def test_however_often_the_configuring_cell_runs_each_event_arrives_once(kernel: Kernel, server: TrackingServer):
    """In each way to configure; also a record that reaches the handlers of two cells."""
    expected = []
    for way, cell in CELLS.items():
        for number in range(3):
            kernel.run(cell)
            kernel.run(f"say({f'{way} {number}'!r})")
            expected.append(f"{way} {number}")
        kernel.run("logger.handlers.clear(); logging.getLogger().handlers.clear()")
    kernel.shut_down()
    assert Counter(people(server)) == Counter(expected)


def test_what_is_pending_arrives_when_the_kernel_is_restarted_and_when_it_is_shut_down(kernel, server):
    """Each kernel has its own."""
    tell = "tracker = km.Tracker()\nfor number in range(50): tracker.event(f'{name}-{number}', 'Signed Up')"
    kernel.run(f"name = 'first'\n{tell}")
    kernel.restart()
    assert "NameError" in kernel.run("name", "error")
    kernel.run(f"name = 'second'\n{tell}")
    kernel.shut_down()
    expected = [f"{name}-{number}" for name in ("first", "second") for number in range(50)]
    assert Counter(people(server)) == Counter(expected)


def test_a_server_that_hangs_does_not_keep_a_kernel_from_ending(tmp_path: Path):
    """It ends by itself, without a signal; the calls are in the file."""
    outbox = f"sqlite:///{tmp_path / 'km.db'}"

    def ends_by_itself(person: str) -> bool:
        with (
            TrackingServer(lambda *_: Reply(delay=2 * GUARD)) as server,
            Kernel(server.endpoint, KM_DRAIN_TIMEOUT="0.5", KM_OUTBOX=outbox) as kernel,
        ):
            kernel.run(f"km.Tracker().event({person!r}, 'Signed Up')")
            server.wait(1)
            return kernel.shut_down() == 0

    said: list[str] = []
    while not ends_by_itself(f"person {len(said)}"):
        said.append("hung")
        assert len(said) < 3
    with TrackingServer() as server:
        with tracker_for(server.endpoint, outbox=outbox) as tracker:
            tracker.event("last", "Signed Up")
        assert sorted(people(server)) == ["last", *(f"person {number}" for number in range(len(said) + 1))]


def test_what_our_threads_say_is_shown_below_the_cell(kernel: Kernel):
    """The lines of mode "print", and problems, which logging shows on stderr where nothing is configured."""
    shown = kernel.run("tracker = km.Tracker(mode='print'); tracker.event('bob', 'Signed Up'); tracker.flush()")
    assert 'km_logging: event "Signed Up" person="bob" at ' in shown
    shown = kernel.run("tracker.event('', 'Signed Up'); tracker.flush()")
    assert "the person is empty" in shown


def test_an_interrupted_cell_loses_nothing_of_what_it_had_said(kernel: Kernel, server: TrackingServer):
    """And the next cell goes on. Only the call in which the interrupt strikes may neither be said nor counted out."""
    kernel.run("tracker = km.Tracker(capacity=100)")
    cell = kernel.begin("while True: said = tracker.event('bob', 'Tried', timestamp=1262304000)")
    server.wait(1)
    kernel.manager.interrupt_kernel()
    assert kernel.status_of(cell) == "error"
    assert kernel.run("tracker.event('ann', 'Signed Up'); print(tracker.flush(30))") == "True\n"
    kernel.run("assert tracker.stats().pending <= 1, tracker.stats()")
    assert people(server).count("ann") == 1


def test_cells_that_wait_or_start_processes_do_not_disturb_it(kernel: Kernel, server: TrackingServer):
    """`await` at the top of a cell, a shell command, which forks the kernel, and a person for a whole cell."""
    kernel.run("tracker = km.Tracker(); tracker.event('ann', 'Signed Up')")
    kernel.run("!true")
    assert "True" in kernel.run("await tracker.aflush()")
    kernel.run("with km.identify('bob'):\n    !true\n    tracker.event(None, 'Searched')")
    kernel.run("!true")
    kernel.shut_down()
    assert sorted(people(server)) == ["ann", "bob"]


def test_the_example_runs_from_top_to_bottom_twice(server: TrackingServer, monkeypatch: pytest.MonkeyPatch):
    """With nbclient, as `jupyter execute` does it; all cells again in the same kernel, as "Run All" does it."""
    import nbclient
    import nbformat

    monkeypatch.setenv("KM_API_KEY", KEY)
    monkeypatch.setenv("KM_ENDPOINT", server.endpoint)
    notebook = nbformat.read(EXAMPLE, as_version=4)
    once = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in once), "kept without outputs"
    notebook.cells += [nbformat.v4.new_code_cell(cell.source) for cell in once]
    with TemporaryDirectory() as sockets:
        nbclient.NotebookClient(notebook, km=_manager(sockets), timeout=GUARD).execute(cleanup_kc=True)
    told = [(target[:2], person_of(target)) for target in server.wait(8)]
    assert Counter(told) == {("/e", "bob"): 4, ("/s", "bob"): 2, ("/e", "ann"): 2}
