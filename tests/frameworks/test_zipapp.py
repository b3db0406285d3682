"""Applications in a zipapp, that is a single file, with all that they need; run by a Python without site-packages."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipapp
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import km_logging
from support.servers import Reply, TrackingServer
from support.tls import SecureServer, authority
from support.tracking import GUARD, KEY, people

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "zipapp" / "__main__.py"


@pytest.fixture(scope="session")
def vendored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip install --target` would put there for the library alone, copied from where it is installed."""
    return _vendor(tmp_path_factory.mktemp("vendored"), "requests", "structlog")


def _vendor(folder: Path, *names: str) -> Path:
    shutil.copytree(Path(km_logging.__file__).parent, folder / "km_logging", ignore=shutil.ignore_patterns("*.pyc"))
    for name in _needed(*names):
        for file in importlib.metadata.files(name) or []:
            source, target = Path(file.locate()), folder / file
            if ".." not in file.parts and source.suffix != ".pyc" and source.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
    return folder


def _needed(*names: str) -> set[str]:
    """These distributions, and those that they need here."""
    needed = set(names)
    for name in names:
        requirements = map(Requirement, importlib.metadata.requires(name) or [])
        needed |= {it.name for it in requirements if it.marker is None or it.marker.evaluate({"extra": ""})}
    return needed if needed == set(names) else _needed(*needed)


@pytest.fixture
def run(vendored: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Packs an application with all that it needs and runs it; takes its text, and its environment."""

    def run(text: str, contents: Path = vendored, **environment: str) -> subprocess.CompletedProcess[str]:
        application = tmp_path / "application"
        shutil.copytree(contents, application)
        (application / "__main__.py").write_text(text)
        zipapp.create_archive(application, tmp_path / "application.pyz")
        shutil.rmtree(application)
        return _run(tmp_path / "application.pyz", **environment)

    return run


def _run(archive: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run an archive by a Python to which nothing but its own library and the archive is there."""
    environ = {name: value for name, value in os.environ.items() if not name.endswith("_CA_BUNDLE")}
    return subprocess.run(
        [sys.executable, "-I", "-S", archive.name],
        cwd=archive.parent,
        env={**environ, "KM_API_KEY": KEY, **environment},
        capture_output=True,
        text=True,
        timeout=2 * GUARD,
        check=False,
    )


def _quiet(done: subprocess.CompletedProcess[str]) -> str:
    """What it printed, if it went well."""
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_the_example_sends_what_it_logs(run, server: TrackingServer):
    _quiet(run(EXAMPLE.read_text("utf-8"), KM_ENDPOINT=server.endpoint))
    assert Counter(target[:2] for target in server.targets) == {"/e": 1, "/s": 1}
    assert people(server) == ["bob", "bob"]


def test_everything_comes_out_of_the_archive(run, server: TrackingServer):
    """Both front ends, the SQLite outbox beside the archive, and a call that is logged by the last function of all."""
    done = run(
        """if True:
        import atexit, logging, sys
        atexit.register(lambda: logging.getLogger("shop").info("Left", extra=km.event("bob")))
        import structlog
        import km_logging as km
        logging.basicConfig(level="INFO", handlers=[km.KissmetricsHandler(outbox="sqlite:///km.db")])
        structlog.configure(processors=[km.KissmetricsProcessor(drop=True), structlog.processors.JSONRenderer()])
        structlog.get_logger().info("Signed Up", km="event", person="ann")
        logging.getLogger("shop").info("Came", extra=km.event("bob"))
        print({module.__file__.partition(".pyz")[1] for module in list(sys.modules.values())
               if module.__name__.partition(".")[0] in {"km_logging", "structlog", "requests", "urllib3"}})
        """,
        KM_ENDPOINT=server.endpoint,
    )
    assert _quiet(done) == "{'.pyz'}\n"
    assert sorted(people(server)) == ["ann", "bob", "bob"]


@pytest.fixture
def secure(vendored: Path, tmp_path: Path):
    """A server for TLS, which wants a new connection for each request, and what trusts it: a bundle in the archive."""
    made, file = authority(tmp_path)
    contents = tmp_path / "contents"
    shutil.copytree(vendored, contents)
    shutil.copyfile(file, contents / "certifi" / "cacert.pem")
    with SecureServer(made, lambda *_: Reply(headers={"Content-Type": "image/gif", "Connection": "close"})) as server:
        yield server, contents


def test_the_ca_bundle_in_the_archive_serves_until_the_last_call(run, secure):
    """The copy that certifi makes of it is a temporary file, gone before what is logged last goes out."""
    server, contents = secure
    done = run(
        """if True:
        import km_logging as km
        tracker = km.Tracker()
        tracker.event("bob", "Signed Up")
        print(tracker.flush(30))
        tracker.event("ann", "Signed Up")
        """,
        contents,
        KM_ENDPOINT=server.endpoint,
    )
    assert _quiet(done) == "True\n"
    assert people(server) == ["bob", "ann"]


def test_the_ca_bundle_serves_on_after_a_forked_child_has_ended(run, secure):
    """The end of the child deletes certifi's file, which is the parent's."""
    server, contents = secure
    done = run(
        """if True:
        import os, sys, warnings
        import km_logging as km
        warnings.simplefilter("ignore")  # from 3.12 on, of the fork
        tracker = km.Tracker()
        tracker.event("bob", "Signed Up")
        print(tracker.flush(30), flush=True)
        child = os.fork()
        if not child:
            tracker.event("cy", "Signed Up")
            sys.exit(not tracker.flush(30))
        print(os.waitpid(child, 0)[1])
        tracker.event("ann", "Signed Up")
        print(tracker.flush(30))
        """,
        contents,
        KM_ENDPOINT=server.endpoint,
    )
    assert _quiet(done) == "True\n0\nTrue\n"
    assert people(server) == ["bob", "cy", "ann"]


def test_what_cannot_be_in_an_archive_is_refused_with_the_remedy(run):
    """The binding of libcurl is no Python, so it cannot be imported from there."""
    done = run("import km_logging; km_logging.Tracker(transport='curl')")
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("transport 'curl' needs the extra 'curl': pip install 'km_logging[curl]'")


def test_the_sandbox_finds_its_pages_and_the_command_line_its_commands(run, tmp_path_factory: pytest.TempPathFactory):
    contents = _vendor(
        tmp_path_factory.mktemp("sandbox"), "requests", "structlog", "starlette", "uvicorn", "click", "rich"
    )
    done = run(
        """if True:
        import runpy, sys, urllib.request
        import km_logging as km
        from km_logging.sandbox import Sandbox
        with Sandbox() as sandbox:
            request = urllib.request.Request(sandbox.endpoint, headers={"Accept": "text/html"})
            print(urllib.request.urlopen(request).status)
            with km.Tracker(endpoint=sandbox.endpoint) as tracker:
                tracker.event("bob", "Signed Up")
                print([call.person for call in sandbox.wait(1, 30)])
        sys.argv[1:] = ["url", "alias", "bob", "bob@bob.com"]
        runpy.run_module("km_logging", run_name="__main__")
        """,
        contents,
        KM_API_KEY="key",
    )
    status, arrived, url = _quiet(done).splitlines()
    assert (status, arrived) == ("200", "['bob']")
    assert url == "https://trk.kissmetrics.io/a?_k=key&_p=bob&_n=bob%40bob.com"


@pytest.mark.slow
def test_the_example_is_built_and_run_by_the_commands_in_its_first_lines(tmp_path: Path, server: TrackingServer):
    """With the real pip, from a copy of this project."""
    ignored = shutil.ignore_patterns(".*", "__pycache__", "build")
    shutil.copytree(ROOT, tmp_path / "project", ignore=ignored)
    *build, last = re.findall(r"^    (\S.*)$", EXAMPLE.read_text("utf-8").split('"""')[1], re.MULTILINE)
    for line in build:
        command = shlex.split(re.sub("^pip", "python -m pip", line).replace("python", sys.executable, 1))
        subprocess.run(command, cwd=tmp_path / "project", timeout=600, check=True)
    assert last == "KM_API_KEY=any KM_ENDPOINT=http://127.0.0.1:8123 python build/shop.pyz"
    _quiet(_run(tmp_path / "project" / "build" / "shop.pyz", KM_ENDPOINT=server.endpoint))
    assert people(server) == ["bob", "bob"]
