"""The end of a piece of work: what `flushing` waits for, and what it does not accept."""

from __future__ import annotations

import asyncio
import inspect
import threading

import pytest

import km_logging as km
from km_logging.contrib.aws_lambda import flushed
from support.servers import Reply, TrackingServer
from support.tracking import Answers, eventually, people, tracker_for


@pytest.fixture
def slow():
    """A server so slow that what was logged just now waits in the background."""
    with TrackingServer(Answers(Reply(delay=0.05))) as server:
        yield server


@pytest.fixture
def held():
    """What every answer waits for; at the end of the test it is let go."""
    held = threading.Event()
    yield held
    held.set()


class Job:
    """A piece of work that logs, in every form."""

    def __init__(self, server: TrackingServer) -> None:
        self.trackers = [tracker_for(server.endpoint), tracker_for(server.endpoint, senders=1)]

    def log(self, *people: str) -> str:
        for person in people:
            for tracker in self.trackers:
                tracker.event(person, "Signed Up")
        return "done"

    @km.flushing()
    def method(self, *people: str) -> str:
        return self.log(*people)

    @km.flushing()
    async def coroutine(self, *people: str) -> str:
        await asyncio.sleep(0)
        return self.log(*people)

    @km.flushing()
    def fails(self, *people: str) -> None:
        self.log(*people)
        raise LookupError

    def with_block(self, *people: str) -> str:
        with km.flushing():
            return self.log(*people)

    async def async_block(self, *people: str) -> str:
        async with km.flushing():
            return self.log(*people)

    def close(self) -> None:
        for tracker in self.trackers:
            tracker.close()


@pytest.fixture
def job(slow):
    job = Job(slow)
    yield job
    job.close()


@pytest.mark.parametrize("name", ["method", "coroutine", "with_block", "async_block"])
def test_when_it_ends_everything_is_delivered(job, slow, name):
    """Whatever its form, of all trackers of the process; and it gives back what it returns."""
    result = getattr(job, name)("ann", "bob", "eve")
    assert (asyncio.run(result) if inspect.isawaitable(result) else result) == "done"
    assert sorted(people(slow)) == ["ann", "ann", "bob", "bob", "eve", "eve"]
    assert [tracker.stats().pending for tracker in job.trackers] == [0, 0]


def test_a_failure_is_passed_on_once_everything_is_delivered(job, slow):
    with pytest.raises(LookupError):
        job.fails("ann")
    assert people(slow) == ["ann", "ann"]


def test_a_cancelled_coroutine_still_delivers(job, slow):
    """The wait comes before the cancellation reaches whoever awaits it."""

    @km.flushing()
    async def hangs() -> None:
        job.log("ann")
        await asyncio.sleep(600)

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(hangs(), 0.01)

    asyncio.run(main())
    assert people(slow) == ["ann", "ann"]


def test_other_tasks_go_on_meanwhile(held):
    """The event loop is free while a coroutine's calls wait for their answers."""
    with TrackingServer(Answers(held)) as server, tracker_for(server.endpoint) as tracker:

        @km.flushing()
        async def work() -> None:
            tracker.event("ann", "Signed Up")

        async def main() -> None:
            working = asyncio.create_task(work())
            await asyncio.to_thread(server.wait, 1)
            assert not working.done()
            held.set()
            await working

        asyncio.run(main())
        assert tracker.stats().delivered == 1


def test_what_is_not_delivered_in_time_stays_pending(held):
    """The block ends although the server does not answer; nothing is given up."""
    with TrackingServer(Answers(held)) as server, tracker_for(server.endpoint) as tracker:
        with km.flushing(timeout=0.01):
            tracker.event("ann", "Signed Up")
        assert tracker.stats().pending == 1
        held.set()
        assert tracker.flush()
        assert people(server) == ["ann"]


def test_a_block_in_which_nothing_was_logged_waits_for_nothing():
    with km.flushing(timeout=600):
        pass


def test_a_callback_of_ours_may_call_what_waits(server):
    """There, waiting would be for itself."""
    done = threading.Event()

    @km.flushing(timeout=600)
    def on_problem(_problem: km.Problem) -> None:
        done.set()

    with tracker_for(server.endpoint, on_problem=on_problem) as tracker:
        tracker.event("", "Signed Up")
        tracker.event("ann", "Signed Up")
        assert done.wait(20)
        eventually(lambda: tracker.stats().delivered)


def test_a_decorated_function_is_still_itself():
    assert (Job.coroutine.__name__, Job.method.__qualname__) == ("coroutine", "Job.method")
    assert inspect.iscoroutinefunction(Job.coroutine)
    assert not inspect.iscoroutinefunction(Job.method)


def generator():
    yield


async def async_generator():
    yield


@pytest.mark.parametrize("decorate", [km.flushing(), flushed], ids=["flushing", "flushed"])
@pytest.mark.parametrize(
    ("function", "remedy"),
    [
        (generator, r"put `with flushing\(\):` inside of it"),
        (async_generator, r"put `with flushing\(\):` inside of it"),
        (Job, "decorate a function or a method"),
        ("text", "decorate a function or a method"),
    ],
    ids=["a generator", "an async generator", "a class", "a text"],
)
def test_what_it_cannot_wait_for_is_refused(decorate, function, remedy):
    with pytest.raises(km.SettingsError, match=remedy):
        decorate(function)


@pytest.mark.parametrize("timeout", [-1, float("nan"), "5", True])
def test_a_timeout_is_a_number_of_seconds(timeout):
    with pytest.raises(km.SettingsError, match="number of seconds"):
        km.flushing(timeout)


def test_the_parentheses_are_missed():
    with pytest.raises(km.SettingsError, match=r"write @flushing\(\)"):
        km.flushing(generator)


# The end of an invocation of AWS Lambda.


class Context:
    """As Lambda's, with so much time left."""

    def __init__(self, millis: int) -> None:
        self._millis = millis

    def get_remaining_time_in_millis(self) -> int:
        return self._millis


@pytest.mark.parametrize("call", [lambda it: it({}, Context(60_000)), lambda it: it({}, None), lambda it: it({})])
def test_an_invocation_ends_when_everything_is_delivered(job, slow, call):
    """Within Lambda, and called by a test that has no context."""

    @flushed
    def handler(event, context=None):
        return job.log("ann", "bob")

    assert call(handler) == "done"
    assert sorted(people(slow)) == ["ann", "ann", "bob", "bob"]


def test_an_async_handler_too(job, slow):
    @flushed
    async def handler(event, context):
        return job.log("ann")

    assert asyncio.run(handler({}, context=Context(60_000))) == "done"
    assert people(slow) == ["ann", "ann"]


def test_an_invocation_never_fails_because_the_server_does_not_answer(held):
    """It ends with its answer although `drain_timeout` is longer than the time that is left; the call stays."""
    with TrackingServer(Answers(held)) as server, tracker_for(server.endpoint, drain_timeout=600) as tracker:

        @flushed
        def handler(event, context):
            tracker.event("ann", "Signed Up")
            return "done"

        assert handler({}, Context(300)) == "done"
        assert handler({}, Context(0)) == "done"
        assert tracker.stats().pending == 2
        held.set()
