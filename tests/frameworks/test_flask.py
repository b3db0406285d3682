"""Flask: the example under gunicorn with gevent workers, from request to sandbox."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.web import READY, Web, calls, crowd_of, each_once, reloaded_under_load

for needed in ("flask", "gevent", "gunicorn"):
    pytest.importorskip(needed, reason=f"pip install {needed}")

EXAMPLE = "flask_shop"

each_loading = pytest.mark.parametrize("preload", ["--preload", ""], ids=["preload", "each loads"])


def gunicorn(options: str = "", application: str = "shop:app") -> str:
    return f"gunicorn --bind fd://{{fd}} --worker-class gevent {options} {application}"


# Servers.


@each_loading
def test_every_order_arrives_once_with_its_person(preload, folder, sandbox):
    """With --preload, gevent patches each worker after it has the application."""
    with Web(folder, gunicorn(f"--workers 2 {preload}"), sandbox) as web:
        with crowd_of(web, 4, 40) as crowd:
            crowd.finish()
        web.stop()
    assert len(crowd.ordered) == 40
    each_once(sandbox, crowd)
    assert sorted(call.person for call in calls(sandbox, "Signed Up")) == sorted(set(crowd.ordered.values()))


#: Loads the example, logs a lot, and says so again before each fork.
TALKATIVE = """
import km_logging as km
from shop import app, logger

def say(moment):
    for number in range(8):
        logger.info("Started", extra=km.event("server", moment=moment, number=number))

say("load")
"""


@pytest.mark.parametrize(
    "patch",
    [
        pytest.param("", id="later"),
        pytest.param("from gevent import monkey; monkey.patch_all()", id="at once", marks=pytest.mark.slow),
    ],
)
def test_what_the_first_process_logs_around_its_forks_arrives_once_too(patch, folder, sandbox):
    """Patched at once, its greenlets have requests under way when it forks, and the worker has copies of them."""
    (folder / "talkative.py").write_text(TALKATIVE)
    (folder / "gunicorn.conf.py").write_text(f"""{patch}
{READY}
import itertools
forks = itertools.count()
def pre_fork(server, worker):
    import talkative
    talkative.say(f"fork {{next(forks)}}")
    server.log.info("Forking")
""")
    with Web(folder, gunicorn("--preload --workers 2 --max-requests 6", "talkative:app"), sandbox) as web:
        with crowd_of(web, 4, 1_000) as crowd:
            web.said("Forking", 4)
        web.stop()
        forks = len(web.said("Forking"))
    each_once(sandbox, crowd)
    started = Counter(call.properties["moment"] for call in calls(sandbox, "Started"))
    assert started == {"load": 8} | {f"fork {number}": 8 for number in range(forks)}


@pytest.mark.slow
@each_loading
def test_workers_that_are_reloaded_under_load_lose_nothing(preload, folder, sandbox):
    """SIGHUP again and again, while orders come without a pause; and SIGTERM under the same load."""
    with Web(folder, gunicorn(f"{preload} --workers 2"), sandbox) as web:
        reloaded_under_load(web, sandbox)


# The middleware.


def extended(folder: Path, views: str) -> str:
    """The example with more views, as gunicorn names it."""
    (folder / "more.py").write_text("import km_logging as km\nfrom shop import app, logger, session\n" + views)
    return "more:app"


def test_two_requests_at_once_do_not_see_each_others_person(folder, sandbox):
    application = extended(
        folder,
        """
from threading import Barrier

both_here = Barrier(2)

@app.get("/meeting")
def meet():
    for time in range(3):
        both_here.wait(20)
        logger.info("Met", extra=km.event(name=session["name"], time=time))
    return "Bye"
""",
    )
    with Web(folder, gunicorn("", application), sandbox) as web:
        visitors = crowd_of(web, 2, 0).visitors.values()
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(lambda visitor: visitor.get("/meeting"), visitors)) == ["Bye", "Bye"]
        web.stop()
    met = calls(sandbox, "Met")
    assert sorted(call.properties["time"] for call in met) == ["0", "0", "1", "1", "2", "2"]
    assert all(call.person == call.properties["name"] for call in met)
    assert len({call.person for call in met}) == 2


def test_what_is_logged_while_a_response_is_streamed_and_closed_is_still_of_that_person(folder, sandbox):
    application = extended(
        folder,
        """
from flask import Response, stream_with_context

@app.get("/stream")
def stream():
    def parts():
        for part in range(3):
            logger.info("Streamed", extra=km.event(part=part))
            yield "."
    response = Response(stream_with_context(parts()))
    response.call_on_close(lambda: logger.info("Closed", extra=km.event()))
    return response

app.wsgi_app.__init__(app.wsgi_app._app, person=lambda environ: environ["HTTP_WHO"])
""",
    )
    with Web(folder, gunicorn("", application), sandbox) as web:
        assert web.visitor(Who="bob").get("/stream") == "..."
        web.stop()
    streamed = [(call.person, call.properties["part"]) for call in calls(sandbox, "Streamed")]
    assert sorted(streamed) == [("bob", "0"), ("bob", "1"), ("bob", "2")]
    assert [call.person for call in calls(sandbox, "Closed")] == ["bob"]


def test_a_streamed_response_knows_the_session_by_the_way_that_flask_has_for_it(folder, sandbox):
    """Without it there is no session any more, and so nobody: the README and the middleware say so."""
    application = extended(
        folder,
        """
from flask import Response, stream_with_context

def parts(name):
    logger.info(name, extra=km.event())
    yield "."

@app.get("/with")
def with_context():
    return Response(stream_with_context(parts("With context")))

@app.get("/without")
def without_context():
    return Response(parts("Without context"))
""",
    )
    with Web(folder, gunicorn("", application), sandbox) as web:
        [visitor] = crowd_of(web, 1, 0).visitors.values()
        assert [visitor.get("/without"), visitor.get("/with")] == [".", "."]
        web.stop()
    assert [call.person for call in calls(sandbox, "With context")] == ["visitor-0"]
    assert calls(sandbox, "Without context") == []
