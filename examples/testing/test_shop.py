"""The application's tests. The fixtures come with km_logging; nothing is imported for them.

Run them with one command:

    pytest examples/testing
"""

from concurrent.futures import ThreadPoolExecutor

import pytest
from structlog.testing import capture_logs

import km_logging as km
import shop


def test_signing_up_is_an_event_and_sets_the_plan(km_calls):
    shop.sign_up("bob@bob.com", plan="pro")
    event, properties = km_calls
    assert (event.kind, event.person, event.name) == ("event", "bob@bob.com", "Signed Up")
    assert event.properties == {"plan": "pro"}
    assert (properties.kind, properties.properties) == ("set", {"plan": "pro"})


def test_accounts_are_linked_by_one_call(km_calls):
    shop.link(12345, "bob@bob.com")
    assert km_calls == [km.Call("alias", "12345", identity="bob@bob.com")]


def test_an_order_belongs_to_whoever_is_identified(km_calls):
    with km.identify("bob@bob.com"):
        shop.order(["tea", "cup"], total=12.5)
    [call] = km_calls
    assert call.person == "bob@bob.com"
    assert call.properties == {"items": "tea, cup", "total": "12.5"}


def test_an_order_of_nobody_is_no_call_but_a_problem(km_calls):
    shop.order(["tea"], total=2.5)
    assert km_calls == []
    assert [problem.kind for problem in km_calls.problems] == ["no_person"]


def test_calls_of_other_threads_are_there_too(km_calls):
    with ThreadPoolExecutor() as pool:
        pool.map(shop.sign_up, ["ann@ann.com", "bob@bob.com"], ["free", "pro"])
    assert {call.person for call in km_calls} == {"ann@ann.com", "bob@bob.com"}


def test_the_log_line_stays_as_it_is(km_calls):
    """Beside structlog's own capture."""
    with capture_logs() as lines, km.identify("bob@bob.com"):
        shop.order(["tea"], total=2.5)
    assert lines == [{"event": "Ordered", "km": "event", "items": ["tea"], "total": 2.5, "log_level": "info"}]
    assert [call.name for call in km_calls] == ["Ordered"]


@pytest.fixture
def arrived(km_sandbox, monkeypatch):
    """The application, sending to a tracking server on this machine; returns what has arrived there."""
    with monkeypatch.context() as environment:
        environment.setenv("KM_MODE", "live")
        environment.setenv("KM_API_KEY", "any")
        environment.setenv("KM_ENDPOINT", km_sandbox.endpoint)
        shop.configure()
    yield km_sandbox.wait
    shop.configure()


def test_what_is_told_arrives_soundly(arrived):
    """Over HTTP, checked as Kissmetrics would read it."""
    shop.sign_up("bob@bob.com", plan="pro")
    calls = arrived(2, timeout=10)
    assert sorted(call.kind for call in calls) == ["event", "set"]
    assert [call.problems for call in calls] == [(), ()]
