"""Who is acting: a context variable, bound by ``with identify(..)``."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest
import structlog

import km_logging as km
from km_logging.identity import answered, bound_by_structlog, identified, identify, must_ask
from support.tracking import people, tracker_for


def test_nobody_is_identified_at_first():
    assert identified() is None


@pytest.mark.parametrize("person", ["bob", 0, 5, ""])
def test_the_person_is_bound_inside_the_block_and_only_there(person):
    with identify(person):
        assert identified() == person
    assert identified() is None


def test_blocks_nest():
    with identify("bob"):
        with identify("eve"):
            assert identified() == "eve"
            with identify("bob"):
                assert identified() == "bob"
            assert identified() == "eve"
        assert identified() == "bob"


def test_nobody_hides_an_outer_person():
    with identify("bob"):
        with identify(None):
            assert identified() is None
        assert identified() == "bob"


def test_an_exception_ends_the_binding_and_passes():
    with pytest.raises(ValueError, match="oops"), identify("bob"):
        raise ValueError("oops")
    assert identified() is None


def test_one_instance_may_be_entered_again_also_inside_itself():
    bob = identify("bob")
    for _ in range(2):
        with bob, identify("eve"), bob:
            assert identified() == "bob"
        assert identified() is None


def test_a_thread_has_a_person_of_its_own():
    seen = []

    def work():
        seen.append(identified())
        with identify("eve"):
            seen.append(identified())

    with identify("bob"):
        thread = threading.Thread(target=work)
        if sys.version_info >= (3, 14):  # free-threaded builds hand the context on by default
            thread = threading.Thread(target=work, context=contextvars.Context())
        thread.start()
        thread.join(timeout=30)
        assert identified() == "bob"
    assert seen == [None, "eve"]


def test_tasks_do_not_see_each_others_persons():
    """Each task keeps its person across awaits, and inherits the one of whoever created it."""

    async def request(person, meeting):
        outer = identified()
        with identify(person):
            await meeting.wait()
            return outer, identified()

    async def serve():
        meeting = asyncio.Event()
        with identify("server"):
            requests = [asyncio.ensure_future(request(person, meeting)) for person in ("bob", "eve", None)]
        await asyncio.sleep(0)
        assert identified() is None
        meeting.set()
        return await asyncio.gather(*requests)

    assert asyncio.run(serve()) == [("server", "bob"), ("server", "eve"), ("server", None)]


def test_one_instance_may_be_shared_by_tasks_and_threads():
    """What one of them leaves, the others still have, and nobody is left bound to the person at the end."""
    bob = identify("bob")
    first_inside, both_inside, first_left = threading.Event(), threading.Event(), threading.Event()

    def first():
        with bob:
            first_inside.set()
            both_inside.wait(timeout=30)
        left = identified()
        first_left.set()
        return left

    def second():
        first_inside.wait(timeout=30)
        with bob:
            both_inside.set()
            first_left.wait(timeout=30)
            inside = identified()
        return inside, identified()

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(contextvars.Context().run, first)
        other = pool.submit(contextvars.Context().run, second)
        assert one.result(timeout=30) is None
        assert other.result(timeout=30) == ("bob", None)


def test_a_generator_closed_in_another_context_does_not_raise():
    """Web frameworks do so with the body of a response; the context that closes it keeps its own person."""

    def body():
        with identify("bob"):
            yield identified()

    generator = body()
    assert contextvars.copy_context().run(next, generator) == "bob"
    with identify("eve"):
        generator.close()
        assert identified() == "eve"
    assert identified() is None


def test_the_end_of_a_block_ends_what_was_bound_inside_and_never_let_go():
    """Such as by a web application that binds and forgets: the thread has other requests after this one."""
    with identify("bob"):
        with identify("eve"):
            identify("ann").__enter__()
            assert identified() == "ann"
        assert identified() == "bob"
    assert identified() is None


def test_generators_that_end_out_of_order_leave_nobody_bound():
    def steps(person):
        with identify(person):
            yield

    first, second = steps("bob"), steps("eve")
    next(first)
    next(second)
    first.close()
    second.close()
    assert identified() is None


def test_the_block_gives_nothing():
    with identify("bob") as given:
        assert given is None


# Whom a callable names.


@pytest.fixture
def tracker(server):
    """A tracker whose calls have arrived at the server once it is flushed."""
    with tracker_for(server.endpoint) as tracker:
        yield tracker


@pytest.fixture(params=["flat record", "record", "mutable record", "message", "event dict", "annotated", "tracker"])
def say(request, tracker, logger):
    """Says that somebody signed up, through each front end and each of its ways."""
    logger.addHandler(km.KissmetricsHandler(tracker=tracker))
    processor = km.KissmetricsProcessor(tracker=tracker, annotate=request.param == "annotated")
    said = {"km": "event", "event": "Signed Up"}
    return {
        "flat record": lambda **fields: logger.info("Signed Up", extra={"km": "event", **fields}),
        "record": lambda person=None: logger.info("Signed Up", extra=km.event(person)),
        "mutable record": lambda person=None: logger.info("Signed Up", extra=km.event(person, tags=["a"])),
        "message": lambda **fields: logger.info({**said, **fields}),
        "event dict": lambda **fields: processor(None, "info", {**said, **fields}),
        "annotated": lambda **fields: processor(None, "info", {**said, **fields}),
        "tracker": lambda person=None: tracker.event(person, "Signed Up"),
    }[request.param]


def test_a_callable_is_asked_by_each_call_that_names_nobody_in_its_own_thread(say, tracker, server):
    """Whoever signs in meanwhile is meant from then on; and a database connection stays in the thread that has it."""
    session, threads = {"person": "bob"}, set()

    def person():
        threads.add(threading.get_ident())
        return session["person"]

    with identify(person):
        say()
        session["person"] = 5
        say()
    assert threads == {threading.get_ident()}
    assert tracker.flush()
    assert sorted(people(server)) == ["5", "bob"]


def test_a_callable_is_not_asked_where_a_call_names_somebody_or_an_inner_block_does(say, tracker, server):
    with identify(lambda: pytest.fail("it was asked")):
        say(person="bob")
        with identify("eve"):
            say()
    assert tracker.flush()
    assert sorted(people(server)) == ["bob", "eve"]


def test_a_callable_that_raises_costs_its_call_and_no_exception_reaches_the_caller(say, tracker, server):
    with identify(lambda: 1 / 0):
        say()
        say(person="bob")
    assert tracker.flush()
    assert people(server) == ["bob"]
    assert tracker.stats().refused == {"bad_person": 1}


def test_a_callable_that_knows_nobody_is_nobody(say, tracker, server):
    with identify("eve"), identify(lambda: None):
        say()
    assert tracker.stats().refused == {"no_person": 1}


def test_a_callable_that_logs_a_tracked_call_is_not_asked_again_meanwhile(say, tracker, server):
    def person():
        say()
        return "bob"

    with identify(person):
        say()
    assert tracker.flush()
    assert people(server) == ["bob"]
    assert tracker.stats().refused == {"no_person": 1}


def test_what_a_callable_raised_is_said_with_a_remedy(tracker, caplog):
    with identify(lambda: 1 / 0):
        assert not tracker.event(None, "Signed Up")
    tracker.stats()
    assert "the person could not be asked for (ZeroDivisionError): mend what identify() was given" in caplog.text


def test_a_callable_that_ends_the_thread_does_so():
    """A time limit of gevent, an interrupt, an exit: they are the application's, not ours."""

    def person():
        raise SystemExit

    with identify(person), pytest.raises(SystemExit):
        answered(identified())


def test_only_what_identify_was_given_is_asked():
    """A callable that a record names as its person is a mistake, and no code of ours to run."""
    assert answered(print) is print
    assert not must_ask()
    with identify("bob"):
        assert not must_ask()
    with identify(lambda: "bob"):
        assert must_ask()
        assert answered(identified()) == "bob"


# What structlog binds.


def test_what_structlog_binds_in_this_context_is_known():
    with structlog.contextvars.bound_contextvars(request_id="r1", plan="pro"):
        assert dict(bound_by_structlog()) == {"request_id": "r1", "plan": "pro"}
    assert dict(bound_by_structlog()) == {}


def test_where_nobody_imported_structlog_nothing_is_bound_and_it_stays_unimported():
    script = (
        "import sys, km_logging; from km_logging.identity import bound_by_structlog; "
        "assert not bound_by_structlog(); assert 'structlog' not in sys.modules; print('ok')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("ok\n", "")


def test_while_another_thread_imports_structlog_nothing_is_bound(monkeypatch):
    """The module is there before its functions are."""
    monkeypatch.setitem(sys.modules, "structlog.contextvars", ModuleType("structlog.contextvars"))
    assert dict(bound_by_structlog()) == {}
