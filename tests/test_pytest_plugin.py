"""The fixtures as other people's suites use them: real runs of pytest, and what they print."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.pytests import PLUGIN

#: An application that configures both kinds of logging when it is imported; it needs no key to print.
APPLICATION = """
import logging, logging.config, structlog
import km_logging as km

logging.config.dictConfig({
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"kissmetrics": {"class": "km_logging.KissmetricsHandler", "mode": "print"}},
    "root": {"level": "INFO", "handlers": ["kissmetrics"]},
})
structlog.configure(processors=[
    structlog.contextvars.merge_contextvars, km.KissmetricsProcessor(mode="print"), structlog.processors.JSONRenderer(),
])

def sign_up(person, **properties):
    logging.getLogger("shop").info("Signed Up", extra=km.event(person, timestamp=1262304000, **properties))

def order(person, **properties):
    structlog.get_logger().info("Ordered", km="event", person=person, km_timestamp=1262304000, **properties)
"""


IMPORTS = """
import logging, structlog, threading, urllib.request
import pytest, shop
import km_logging as km
"""


@pytest.fixture
def run(pytester: pytest.Pytester):
    """Runs a suite beside the application, in a process of its own, with warnings as errors; takes its text."""
    pytester.makepyfile(shop=APPLICATION)

    def run(suite: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(test_shop=IMPORTS + suite)
        return pytester.runpytest_subprocess(*PLUGIN, "-W", "error", "-p", "no:cacheprovider", *arguments, timeout=60)

    return run


def test_km_calls_holds_what_both_front_ends_accept_and_nothing_is_printed_or_started(run):
    """Also with an application that configured logging at its import, in each test anew."""
    result = run("""
@pytest.mark.parametrize("person", ["bob", "ann"])
def test_one(person, km_calls, capfd):
    shop.sign_up(person, plan="pro")
    shop.order(person, total=12.5)
    sign_up, order = km_calls
    assert sign_up == km.Call("event", person, "Signed Up", timestamp=1262304000, properties={"plan": "pro"})
    assert (order.name, order.properties) == ("Ordered", {"total": "12.5"})
    assert "km_logging" not in capfd.readouterr().err
    assert threading.active_count() == 1

def test_none(km_calls):
    assert km_calls == []

def test_a_key_is_not_needed(km_calls):
    with km.Tracker() as tracker:
        tracker.event("bob", "Signed Up")
    assert len(km_calls) == 1
""")
    result.assert_outcomes(passed=4)


def test_km_sandbox_receives_over_http_what_is_sent_to_its_endpoint(run):
    result = run("""
def test_it(km_sandbox):
    with km.Tracker(api_key="any", endpoint=km_sandbox.endpoint) as tracker:
        tracker.event("bob", "Signed Up", plan="pro")
        [call] = km_sandbox.wait(1, timeout=30)
    assert (call.person, call.name, call.properties, call.problems) == ("bob", "Signed Up", {"plan": "pro"}, ())
    assert km_sandbox.calls == [call]

def test_both(km_calls, km_sandbox):
    with km.Tracker(api_key="any", endpoint=km_sandbox.endpoint) as tracker:
        tracker.event("bob", "Signed Up")
    assert (len(km_calls), km_sandbox.calls) == (1, [])
""")
    result.assert_outcomes(passed=2)


def test_under_xdist_each_test_has_its_own_calls_and_failures_show_them(run):
    """Two workers; what a failed test of a worker captured is shown by the controller."""
    result = run(
        """
@pytest.mark.parametrize("number", range(8))
def test_own(number, km_calls, km_sandbox, worker_id):
    assert worker_id in {"gw0", "gw1"}
    shop.sign_up(f"bob-{number}")
    assert [call.person for call in km_calls] == [f"bob-{number}"]
    assert km_sandbox.calls == []

def test_fails(km_calls):
    shop.sign_up("carl")
    assert km_calls == []
""",
        "-n",
        "2",
    )
    result.assert_outcomes(passed=8, failed=1)
    result.stdout.fnmatch_lines(["*- km_logging calls -*", "km.event('carl', 'Signed Up', timestamp=1262304000)"])


def test_a_failure_shows_what_was_captured_and_received_with_every_problem_and_its_remedy(run):
    result = run("""
def test_it(km_calls):
    shop.sign_up("bob", plan="pro", seats=5)
    shop.sign_up("bob", long="x" * 600)
    logging.getLogger("shop").info("Linked", extra=km.alias("bob", "bob@bob.com"))
    shop.order(None)
    [call] = km_calls

def test_there(km_sandbox):
    with km.Tracker(api_key="s3cr3t", endpoint=km_sandbox.endpoint) as tracker:
        tracker.set("bob", timestamp=1262304000, address='{"city": "Rome"}')
    urllib.request.urlopen(f"{km_sandbox.endpoint}/e?_p=carl").close()
    assert len(km_sandbox.calls) == 3

def test_nothing(km_calls):
    assert km_calls
""")
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        [
            "*- km_logging calls -*",
            "km.event('bob', 'Signed Up', timestamp=1262304000, plan='pro', seats='5')",
            "km.event('bob', 'Signed Up', timestamp=1262304000)",
            "km.alias('bob', 'bob@bob.com')",
            "long_value: *'long'*, and is left out: *value_limit*",
            "no_person: nobody is named for the event 'Ordered': pass person, or use *",
            "*- km_logging sandbox -*",
            "km.set('bob', timestamp=1262304000, address='{\"city\": \"Rome\"}')",
            "km.event('carl', None)",
            "json_value: the property 'address' *: *",
            "bad_key: *",
            "*- km_logging calls -*",
            "no calls",
        ]
    )
    result.stdout.no_fnmatch_line("*_k=*")


def test_a_failed_comparison_shows_the_values_that_differ(run):
    """Though the `repr` of a call shows none; other comparisons are left to pytest."""
    result = run("""
def call(plan):
    return km.Call("event", "bob", "Signed Up", timestamp=1262304000, properties={"plan": plan})

def test_captured_first(km_calls):
    shop.sign_up("bob", plan="free")
    assert km_calls == [call("pro")]

def test_captured_last(km_calls):
    shop.sign_up("bob", plan="free")
    assert [call("pro"), call("50%")] == km_calls

def test_one(km_calls):
    shop.sign_up("bob", plan="free")
    [one] = km_calls
    assert one == call("basic")

def test_another_thing(km_calls):
    assert km_calls == [1]

def test_no_calls():
    assert [1] == [2]
""")
    result.assert_outcomes(failed=5)
    result.stdout.fnmatch_lines(
        [
            "E *calls == calls",
            "E *-km.event('bob', 'Signed Up', timestamp=1262304000, plan='pro')",
            "E *+km.event('bob', 'Signed Up', timestamp=1262304000, plan='free')",
            "E *calls == calls",
            "E *-km.event('bob', 'Signed Up', timestamp=1262304000, plan='free')",
            "E *+km.event('bob', 'Signed Up', timestamp=1262304000, plan='pro')",
            "E *+km.event('bob', 'Signed Up', timestamp=1262304000, plan='50%')",
            "E *call == call",
            "E *-km.event('bob', 'Signed Up', timestamp=1262304000, plan='basic')",
            "E *+km.event('bob', 'Signed Up', timestamp=1262304000, plan='free')",
            "E *Right contains one more item: 1",
            "E *At index 0 diff: 1 != 2",
        ]
    )


def test_nothing_is_shown_of_a_test_that_passes_and_errors_around_a_test_show_it_too(run):
    result = run(
        """
@pytest.fixture
def broken(km_calls):
    shop.sign_up("setup")
    raise ValueError

@pytest.fixture
def breaks(km_calls):
    yield
    raise ValueError

def test_setup(broken): pass

def test_teardown(breaks):
    shop.sign_up("teardown")

def test_passes(km_calls):
    shop.sign_up("passes")
""",
        "-rP",
    )
    result.assert_outcomes(errors=2, passed=2)
    for person in ("setup", "teardown"):
        result.stdout.fnmatch_lines(["*- km_logging calls -*", f"km.event('{person}', *"])
    result.stdout.no_fnmatch_line("km.event('passes', *")


def test_another_fixture_may_begin_capture_logs_before_km_calls_or_after_it(run):
    result = run("""
@pytest.fixture
def logs():
    with structlog.testing.capture_logs() as logs:
        structlog.get_logger().info("Before or after", km="event", person="ann")
        logs.clear()
        yield logs

def check(km_calls, logs):
    structlog.contextvars.bind_contextvars(person="bob")
    structlog.get_logger().info("Signed Up", km="event", plan="pro")
    assert [(call.person, call.properties) for call in km_calls if call.person != "ann"] == [("bob", {"plan": "pro"})]
    assert logs == [{"event": "Signed Up", "km": "event", "plan": "pro", "log_level": "info"}]

def test_before(logs, km_calls):
    check(km_calls, logs)
    assert len(km_calls) == 1
    assert threading.active_count() == 1  # what was logged before km_calls began is not sent either

def test_after(km_calls, logs):
    check(km_calls, logs)
    assert len(km_calls) == 2

def test_as_structlog_has_it():
    assert structlog.testing.LogCapture.__call__.__module__ == "structlog.testing"
""")
    result.assert_outcomes(passed=3)


def test_what_a_test_did_not_wait_for_arrives_before_the_sandbox_stops(run):
    """By handlers that outlive the test; then nothing is left to wait for."""
    result = run("""
kept = []

@pytest.mark.parametrize("number", range(3))
def test_it(number, km_sandbox):
    kept.append(km_sandbox)
    logger = logging.getLogger("kept")
    logger.addHandler(km.KissmetricsHandler(api_key="any", endpoint=km_sandbox.endpoint, drain_timeout=30))
    for person in range(200):
        logger.info("Signed Up", extra=km.event(f"{number}-{person}"))
    logger.handlers.clear()

def test_afterwards():
    assert [len({call.person for call in sandbox.calls}) for sandbox in kept] == [200, 200, 200]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("km_logging-sandbox")]
""")
    result.assert_outcomes(passed=4)
    assert "not delivered" not in result.stderr.str()


def test_the_sandbox_may_be_called_by_another_name_of_this_machine(run):
    result = run("""
kept = []

def test_it(km_sandbox):
    kept.append(km_sandbox)
    endpoint = km_sandbox.endpoint.replace("127.0.0.1", "localhost")
    km.KissmetricsHandler(api_key="any", endpoint=endpoint, drain_timeout=30).handle(
        logging.makeLogRecord({"msg": "Signed Up", "km": "event", "person": "bob"})
    )

def test_afterwards():
    assert [call.person for call in kept[0].calls] == ["bob"]
""")
    result.assert_outcomes(passed=2)


def test_of_very_many_calls_a_failure_shows_the_last(run):
    result = run("""
def test_it(km_calls):
    for number in range(1_000):
        shop.sign_up(f"p{number}")
    assert km_calls.problems
""")
    result.stdout.fnmatch_lines(["the last 50 of 1,000 calls:", "km.event('p950', *", "km.event('p999', *"])
    result.stdout.no_fnmatch_line("km.event('p949', *")


def test_a_sandbox_that_a_test_has_stopped_holds_up_nothing_beyond_drain_timeout(run):
    """Its calls are lost, and counted."""
    result = run("""
trackers = []

def test_it(km_sandbox):
    tracker = km.Tracker(api_key="any", endpoint=km_sandbox.endpoint, drain_timeout=0.1)
    trackers.append(tracker)
    km_sandbox.stop()
    assert tracker.event("bob", "Signed Up")

def test_afterwards():
    assert trackers[0].stats().dropped == {"closed": 1}
""")
    result.assert_outcomes(passed=2)
    result.stderr.no_fnmatch_line("*Traceback*")


def test_without_the_extra_the_sandbox_says_how_to_install_it_and_km_calls_works(run, pytester):
    pytester.makeconftest("import sys\nsys.modules['starlette'] = None")
    result = run("""
def test_it(km_sandbox): pass

def test_calls(km_calls):
    shop.sign_up("bob")
    assert len(km_calls) == 1
""")
    result.assert_outcomes(errors=1, passed=1)
    remedy = "the fixture km_sandbox needs the extra 'sandbox': pip install 'km_logging[[]sandbox[]]'"
    result.stdout.fnmatch_lines([remedy])
    result.stdout.no_fnmatch_line("*Error*")


def test_the_fixtures_are_listed_with_what_they_are(pytester):
    result = pytester.runpytest_subprocess(*PLUGIN, "--fixtures", timeout=60)
    result.stdout.fnmatch_lines(["*km_calls -- *", "    The calls accepted during this test, *"])
    result.stdout.fnmatch_lines(["*km_sandbox -- *", "    A tracking server for this test: *"])


def test_the_plugin_loads_nothing_heavy():
    """It is imported in every run of pytest, also of suites that have nothing to do with tracking."""
    code = "import sys, pytest, km_logging.pytest_plugin; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
    heavy = {"structlog", "requests", "urllib3", "starlette", "uvicorn", "km_logging.sandbox"}
    assert heavy.isdisjoint(loaded.split())
