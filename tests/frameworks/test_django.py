"""Django: the example, under each server that people run it with, from request to sandbox."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.tracking import KEY
from support.web import EXAMPLES, Crowd, Web, calls, crowd_of, each_once, reloaded_under_load

pytest.importorskip("django", reason="pip install django")
pytest.importorskip("gunicorn", reason="pip install gunicorn")

EXAMPLE = "django_shop"

KINDS = {"sync": "--worker-class sync", "threads": "--worker-class gthread --threads 4"}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def gunicorn(options: str) -> str:
    return f"gunicorn --bind fd://{{fd}} {options} shop.wsgi"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The example's database without anybody in it."""
    folder = shutil.copytree(EXAMPLES / EXAMPLE, tmp_path_factory.mktemp("migrated") / EXAMPLE)
    run(folder, "manage.py", "migrate")
    return (folder / "shop.db").read_bytes()


@pytest.fixture
def shop(folder: Path, database: bytes) -> Path:
    (folder / "shop.db").write_bytes(database)
    return folder


def run(folder: Path, *command: str, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "KM_API_KEY": KEY, **variables}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stderr
    return done


# Servers.


@each_kind
def test_every_order_arrives_once_with_its_person(kind, shop, sandbox):
    """From workers forked from a process that has loaded the application; Django has configured logging twice there."""
    with Web(shop, gunicorn(f"--preload --workers 2 {kind}"), sandbox) as web:
        with crowd_of(web, 4, 40) as crowd:
            crowd.finish()
        web.stop()
    assert len(crowd.ordered) == 40
    each_once(sandbox, crowd)
    assert sorted(call.person for call in calls(sandbox, "Signed Up")) == sorted(set(crowd.ordered.values()))


@each_kind
def test_workers_that_are_replaced_after_so_many_requests_lose_nothing(kind, shop, sandbox):
    with Web(shop, gunicorn(f"--preload --workers 2 --max-requests 6 {kind}"), sandbox) as web:
        with crowd_of(web, 4, 1_000) as crowd:
            web.said("Booting worker", 5)
        web.stop()
    assert len(crowd.ordered) > 12
    each_once(sandbox, crowd)


@pytest.mark.slow
@pytest.mark.parametrize("preload", ["--preload", ""], ids=["preload", "each loads"])
@each_kind
def test_workers_that_are_reloaded_under_load_lose_nothing(kind, preload, shop, sandbox):
    """SIGHUP again and again, while orders come without a pause; and SIGTERM under the same load."""
    with Web(shop, gunicorn(f"{preload} --workers 2 {kind}"), sandbox) as web:
        reloaded_under_load(web, sandbox)


def test_the_autoreloader_loses_nothing_and_sends_nothing_twice(shop, sandbox):
    """Of its two processes both configure logging; the one that serves is replaced when a file changes."""
    with Web(shop, "manage runserver 127.0.0.1:{port}", sandbox) as web:
        web.visitor().arrive("/items/0")
        with crowd_of(web, 2, 20) as crowd:
            crowd.finish()
            (shop / "shop" / "views.py").touch()
            web.said("changed, reloading")
            web.said("Watching for file changes", 2)
            web.visitor().arrive("/items/0")
        with Crowd(crowd.visitors, 20, first=20) as more:
            more.finish()
        web.interrupt()
        web.ended()
    crowd.ordered |= more.ordered
    assert len(crowd.ordered) == 40
    each_once(sandbox, crowd)


@pytest.mark.parametrize("server", ["uvicorn --fd {fd}", "hypercorn --bind fd://{fd}"], ids=["uvicorn", "hypercorn"])
def test_under_an_asgi_server_nothing_is_lost_when_it_stops(server, shop, sandbox):
    """Django knows nothing of ASGI's lifespan, and uvicorn ends by a signal: only the middleware around it delivers."""
    pytest.importorskip(server.partition(" ")[0])
    with Web(shop, f"{server} shop.asgi:application", sandbox) as web:
        with crowd_of(web, 4, 40) as crowd:
            crowd.finish()
        web.stop()
    assert len(crowd.ordered) == 40
    each_once(sandbox, crowd)


# The middleware.


def extend(shop: Path, views: str) -> None:
    """More views for the example."""
    with (shop / "shop" / "urls.py").open("a") as urls:
        urls.write(views)


MEETINGS = {
    "threads": """
import threading
from django.http import HttpResponse

both_here = threading.Barrier(2)

def meet(request):
    for time in range(3):
        both_here.wait(20)
        views.logger.info("Met", extra=views.km.event(name=request.user.username, time=time))
    return HttpResponse("Bye")

urlpatterns.append(path("meeting", meet))
""",
    "async": """
import asyncio
from django.http import HttpResponse

here, both_here = [], [asyncio.Event() for _ in range(3)]

async def meet(request):
    user = await request.auser()
    for time in range(3):
        here.append(time)
        if here.count(time) == 2:
            both_here[time].set()
        await asyncio.wait_for(both_here[time].wait(), 20)
        views.logger.info("Met", extra=views.km.event(name=user.username, time=time))
    return HttpResponse("Bye")

urlpatterns.append(path("meeting", meet))
""",
}


@pytest.mark.parametrize(
    ("server", "views"),
    [
        (gunicorn("--worker-class gthread --threads 2"), MEETINGS["threads"]),
        ("uvicorn --fd {fd} shop.asgi:application", MEETINGS["async"]),
    ],
    ids=MEETINGS,
)
def test_two_requests_at_once_do_not_see_each_others_person(server, views, shop, sandbox):
    extend(shop, views)
    with Web(shop, server, sandbox) as web:
        visitors = crowd_of(web, 2, 0).visitors.values()
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(lambda visitor: visitor.get("/meeting"), visitors)) == ["Bye", "Bye"]
        web.stop()
    met = calls(sandbox, "Met")
    assert sorted(call.properties["time"] for call in met) == ["0", "0", "1", "1", "2", "2"]
    assert all(call.person == call.properties["name"] for call in met)
    assert len({call.person for call in met}) == 2


STREAMS = """
from django.http import StreamingHttpResponse

def parts():
    for part in range(3):
        views.logger.info("Streamed", extra=views.km.event(part=part))
        yield "."

async def parts_async():
    for part in parts():
        yield part

def stream(request):
    return StreamingHttpResponse(parts())

async def stream_async(request):
    return StreamingHttpResponse(parts_async())

urlpatterns += [path("stream", stream), path("stream-async", stream_async)]
"""


@pytest.mark.parametrize(
    ("server", "path"),
    [
        (gunicorn(KINDS["threads"]), "/stream"),
        ("uvicorn --fd {fd} shop.asgi:application", "/stream"),
        ("uvicorn --fd {fd} shop.asgi:application", "/stream-async"),
    ],
    ids=["WSGI", "ASGI, sync", "ASGI, async"],
)
def test_what_is_logged_while_a_response_is_streamed_is_still_of_that_person(server, path, shop, sandbox):
    extend(shop, STREAMS)
    with Web(shop, server, sandbox) as web:
        visitor = web.visitor()
        visitor.post("/people/bob")
        assert visitor.get(path) == "..."
        web.stop()
    streamed = [(call.person, call.properties["part"]) for call in calls(sandbox, "Streamed")]
    assert sorted(streamed) == [("bob", "0"), ("bob", "1"), ("bob", "2")]


def test_who_acts_is_looked_up_only_for_a_call_that_names_nobody(shop):
    """Without KM_PERSON it is the primary key of whoever is signed in then; an asynchronous view cannot look it up."""
    settings = shop / "shop" / "settings.py"
    settings.write_text(settings.read_text().replace("KM_PERSON =", "UNUSED ="))
    extend(
        shop,
        """
from django.http import HttpResponse

def do(request, what):
    if what != "nothing":
        views.logger.info("Done", extra=views.km.event(what if what != "something" else None))
    return HttpResponse(what)

urlpatterns.append(path("do/<str:what>", do))
""",
    )
    (shop / "ask.py").write_text("""
import os
import django

os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
django.setup()

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

client = Client(headers={"host": "localhost"})
client.post("/people/bob")
for path in ("/do/nothing", "/do/eve", "/do/something", "/items/1"):
    with CaptureQueriesContext(connection) as queries:
        client.get(path)
    print(path, len(queries))
""")
    done = run(shop, "ask.py", KM_MODE="print")
    assert done.stdout.split() == ["/do/nothing", "0", "/do/eve", "0", "/do/something", "1", "/items/1", "1"]
    assert re.findall('event "(.*)" person="(.*?)"', done.stderr) == [
        ("Signed Up", "1"),
        ("Done", "eve"),
        ("Done", "1"),
        ("Looked", "1"),
    ]


@pytest.mark.parametrize("wrong", ["shop.people.nobody", "shop.nowhere.person_of", 5])
def test_a_person_setting_that_names_no_callable_says_so_when_the_server_starts(wrong, shop):
    settings = shop / "shop" / "settings.py"
    settings.write_text(settings.read_text() + f"\nKM_PERSON = {wrong!r}\n")
    done = run(shop, "-c", "import shop.wsgi", code=1)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("km_logging.errors.SettingsError: KM_PERSON")
    assert "check the spelling" in last or "must be callable" in last
