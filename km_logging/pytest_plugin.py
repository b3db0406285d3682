"""The pytest plugin, which pytest finds by itself: two fixtures, and what they hold shown with a failure.

* ``km_calls``: the list of the calls that are accepted during the test; nothing is sent.
* ``km_sandbox``: a real tracking server on this machine, for a test that wants to see calls arrive.

Loaded into every run of pytest where km_logging is installed, so it imports nothing heavy before a test asks for it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeGuard

import pytest

from km_logging.calls import Call, Problem
from km_logging.errors import MissingExtraError
from km_logging.testing import Calls, capture_calls, finish, seen_through_log_capture, written

if TYPE_CHECKING:
    from km_logging.sandbox import Sandbox
    from km_logging.sandbox.checks import Received

__all__ = ["km_calls", "km_sandbox"]

#: So many calls, and so many problems, are shown with a failure at most.
MOST = 50


@pytest.fixture
def km_calls(request: pytest.FixtureRequest) -> Iterator[Calls]:
    """The calls accepted during this test, as a list of `km_logging.Call`; see `km_logging.testing.capture_calls`."""
    with capture_calls() as calls:
        request.node.stash[_captured] = calls
        yield calls


@pytest.fixture
def km_sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A tracking server for this test: give its ``endpoint`` to what logs, then look at ``calls``, or `Sandbox.wait`.

    What the test's process still has for it is delivered before it stops.
    """
    from km_logging.sandbox import Sandbox

    sandbox = Sandbox()
    is_missing = False
    try:
        sandbox.start()
    except MissingExtraError:
        is_missing = True
    if is_missing:  # not inside the except: its cause would stand above the remedy
        pytest.fail(str(MissingExtraError("the fixture km_sandbox", "sandbox")), pytrace=False)
    request.node.stash[_sandbox] = sandbox
    yield sandbox
    finish(sandbox.endpoint)
    sandbox.stop()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Know structlog's processors also where another fixture begins `capture_logs` before ``km_calls`` is set up."""
    with seen_through_log_capture() if "km_calls" in getattr(item, "fixturenames", ()) else nullcontext():
        yield


# What is shown.

_captured = pytest.StashKey[Calls]()
_sandbox = pytest.StashKey["Sandbox"]()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show with a failure what was captured, and what has arrived."""
    outcome: Any = yield
    report: pytest.TestReport = outcome.get_result()
    if not report.failed:
        return
    if (calls := item.stash.get(_captured, None)) is not None:
        report.sections.append(("km_logging calls", _summary(calls, calls.problems)))
    if (sandbox := item.stash.get(_sandbox, None)) is not None:
        received = sandbox.calls
        problems = [problem for call in received for problem in call.problems]
        report.sections.append(("km_logging sandbox", _summary(received, problems)))


def _summary(calls: Sequence[Call | Received], problems: Sequence[Problem]) -> str:
    lines = [written(call) for call in calls[-MOST:]] or ["no calls"]
    if len(calls) > MOST:
        lines.insert(0, f"the last {MOST} of {len(calls):,} calls:")
    lines += [f"{problem.kind}: {problem}" for problem in problems[-MOST:]]
    return "\n".join(lines)


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Compare calls as one would write them; pytest would go by the `repr` of a call, which shows no value."""
    if op == "==" and isinstance(left, Call) and isinstance(right, Call):
        return ["call == call", f"-{written(right)}", f"+{written(left)}"]
    if op != "==" or Calls not in {type(left), type(right)} or not (_are_calls(left) and _are_calls(right)):
        return None
    texts = [*map(written, right)], [*map(written, left)]
    return ["calls == calls", *difflib.unified_diff(*texts, "right", "left", lineterm="")]


def _are_calls(thing: object) -> TypeGuard[list[Call]]:
    return isinstance(thing, list) and all(isinstance(item, Call) for item in thing)
