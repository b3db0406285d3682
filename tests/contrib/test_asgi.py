"""The ASGI middleware, as a server sees it: whom it identifies, and how the application lives and ends."""

from __future__ import annotations

import asyncio

import pytest

import km_logging as km
from km_logging.contrib.asgi import KissmetricsMiddleware
from km_logging.identity import answered, identified
from support.servers import Reply, TrackingServer
from support.tracking import Answers, people, tracker_for


class Server:
    """Says what a server says, and notes what it is told."""

    def __init__(self, *messages):
        self._messages = iter(messages)
        self.told = []

    async def receive(self):
        return {"type": next(self._messages)}

    async def send(self, message):
        self.told.append(message["type"])

    def run(self, application, kind="lifespan", **scope):
        asyncio.run(application({"type": kind, **scope}, self.receive, self.send))


LIFE = ["lifespan.startup", "lifespan.shutdown"]
LIVED = ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def answering(scope, _receive, _send):
    scope["seen"].append(answered(identified()))


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_the_person_is_bound_while_a_request_is_answered(kind):
    seen = []
    Server().run(KissmetricsMiddleware(answering, person=lambda scope: scope["who"]), kind, who="bob", seen=seen)
    assert (seen, identified()) == (["bob"], None)


def test_what_is_put_into_the_scope_further_in_is_known():
    async def further_in(scope, receive, send):
        scope["who"] = "bob"
        await answering(scope, receive, send)

    seen = []
    Server().run(KissmetricsMiddleware(further_in, person=lambda scope: scope["who"]), "http", seen=seen)
    assert seen == ["bob"]


def test_without_a_person_nobody_is_identified_and_nobody_hidden():
    """Where something further in or further out does that."""
    seen = []
    with km.identify("bob"):
        Server().run(KissmetricsMiddleware(answering), "http", seen=seen)
    assert seen == ["bob"]


@pytest.mark.parametrize("wrong", [5, "no.such.function"])
def test_a_person_that_is_no_callable_says_so_at_once(wrong):
    with pytest.raises(km.SettingsError, match="person"):
        KissmetricsMiddleware(answering, person=wrong)


# Life.


class Living:
    """An application with a life; what it logs at its end is the last that it says."""

    def __init__(self, tracker, *, ending="complete"):
        self._tracker = tracker
        self._ending = ending

    async def __call__(self, _scope, receive, send):
        assert (await receive())["type"] == "lifespan.startup"
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        self._tracker.event("server", "Stopped")
        await send({"type": f"lifespan.shutdown.{self._ending}"})


async def lifeless(scope, _receive, _send):
    raise ValueError(f"Django can only handle ASGI/HTTP connections, not {scope['type']}.")


@pytest.mark.parametrize("ending", ["complete", "failed"])
def test_before_the_application_says_that_it_has_ended_everything_is_delivered(ending):
    """The server may end the process in the next moment."""
    with TrackingServer(Answers(Reply(delay=0.1))) as server, tracker_for(server.endpoint) as tracker:
        arrived = []

        class Watching(Server):
            async def send(self, message):
                await super().send(message)
                arrived.append(people(server))

        watching = Watching(*LIFE)
        watching.run(KissmetricsMiddleware(Living(tracker, ending=ending)))
        assert watching.told == ["lifespan.startup.complete", f"lifespan.shutdown.{ending}"]
        assert arrived == [[], ["server"]]


async def silent(_scope, _receive, _send):
    """Looks at the type of the scope, and returns."""


@pytest.mark.parametrize("application", [lifeless, silent])
def test_an_application_without_a_life_gets_one_that_delivers(server, application):
    with tracker_for(server.endpoint) as tracker:
        speaking = Server(*LIFE)
        tracker.event("bob", "Signed Up")
        speaking.run(KissmetricsMiddleware(application))
        assert speaking.told == LIVED
        assert people(server) == ["bob"]


def test_an_application_whose_life_fails_to_begin_fails():
    async def failing(_scope, receive, _send):
        await receive()
        raise RuntimeError("no database")

    with pytest.raises(RuntimeError, match="no database"):
        Server(*LIFE).run(KissmetricsMiddleware(failing))
