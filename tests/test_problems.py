"""Saying problems: to the callback each one, to the log once a minute per kind; and names that were formatted."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from km_logging import problems as module
from km_logging.calls import PROBLEMS, Call, Problem
from km_logging.problems import FormattedNames, Reporter


class Clock:
    """A monotonic clock that stands still unless it is told to go on."""

    def __init__(self):
        self.now = 1_000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


@pytest.fixture
def said(caplog):
    """What the logger said so far, as text."""
    caplog.set_level(logging.DEBUG, "km_logging")
    return lambda: [record.getMessage() for record in caplog.records]


def a_problem(kind="bad_value", message="the property 'x' is odd"):
    return Problem(kind, message, "mend it")


# Once a minute per kind.


def test_a_problem_is_said_at_warning_on_the_logger_of_the_library_with_the_remedy(caplog):
    Reporter(None).report(a_problem())
    ((name, level, text),) = caplog.record_tuples
    assert (name, level) == ("km_logging", logging.WARNING)
    assert text == "the property 'x' is odd: mend it"


def test_a_problem_with_percent_signs_is_said_as_it_is(said):
    Reporter(None).report(a_problem(message="100 %s of %(x)d %"))
    assert said() == ["100 %s of %(x)d %: mend it"]


def test_a_kind_is_said_once_a_minute(clock, said):
    reporter = Reporter(None)
    for _ in range(10):
        reporter.report(a_problem())
    assert len(said()) == 1
    clock.now += 59.9
    reporter.report(a_problem())
    assert len(said()) == 1
    clock.now += 0.1
    reporter.report(a_problem())
    assert len(said()) == 2
    clock.now += 60
    reporter.report(a_problem())
    assert len(said()) == 3


def test_how_many_were_not_said_is_said_with_the_next(clock, said):
    reporter = Reporter(None)
    for _ in range(8):
        reporter.report(a_problem())
    clock.now += 60
    reporter.report(a_problem(message="the property 'y' is odd"))
    clock.now += 60
    reporter.report(a_problem())
    first, second, third = said()
    assert "more" not in first
    assert second.startswith("the property 'y' is odd: mend it")
    assert "7 more" in second
    assert "more" not in third


def test_each_kind_has_a_minute_of_its_own(clock, said):
    reporter = Reporter(None)
    for kind in PROBLEMS:
        reporter.report(a_problem(kind))
        reporter.report(a_problem(kind))
    assert len(said()) == len(PROBLEMS)


def test_the_first_problem_is_said_however_new_the_machine_is(clock, said):
    """The monotonic clock may begin at 0."""
    clock.now = 0.0
    Reporter(None).report(a_problem())
    assert len(said()) == 1


def test_an_endpoint_that_is_not_encrypted_is_said_once(clock, said):
    """It does not change while the tracker lives, so once is enough."""
    reporter = Reporter(None)
    for _ in range(5):
        reporter.report(a_problem("insecure_endpoint"))
        clock.now += 3_600
    assert len(said()) == 1


def test_a_logger_that_dict_config_has_disabled_says_problems_all_the_same(said, monkeypatch):
    """`disable_existing_loggers` is on by default, and meant for nobody in particular."""
    monkeypatch.setattr(logging.getLogger("km_logging"), "disabled", True)
    Reporter(None).report(a_problem())
    assert len(said()) == 1


def test_each_reporter_speaks_for_itself(clock, said):
    for _ in range(2):
        Reporter(None).report(a_problem())
    assert len(said()) == 2


def test_what_is_said_shows_nobody_and_no_value(said):
    call = Call("event", "secret-person", "Signed Up", timestamp=1_262_304_000, properties={"plan": "secret-value"})
    Reporter(None).report(Problem("bad_value", "the property 'x' is odd", "mend it", call))
    assert "secret" not in "".join(said())


# The callback.


def test_the_callback_gets_every_problem_also_those_that_are_not_said(clock, said):
    given = []
    reporter = Reporter(given.append)
    all_of_them = [a_problem(message=str(number)) for number in range(5)]
    for problem in all_of_them:
        reporter.report(problem)
    assert given == all_of_them
    assert len(said()) == 1


@pytest.mark.parametrize(
    "error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, RecursionError, BaseException]
)
def test_a_callback_that_raises_is_said_and_costs_nothing_else(error, clock, said):
    """Not even SystemExit may end the thread that reports; and the callback is called again the next time."""
    calls = []

    def raising(problem):
        calls.append(problem)
        raise error("secret")

    reporter = Reporter(raising)
    reporter.report(a_problem())
    reporter.report(a_problem())
    assert len(calls) == 2
    first, second = said()
    assert first == "the property 'x' is odd: mend it"
    assert "on_problem" in second
    assert error.__name__ in second
    assert "secret" not in second


def test_a_callback_that_raises_an_error_of_a_hostile_type_is_said_as_well(said):
    class HostileMeta(type):
        @property
        def __name__(cls):
            raise RuntimeError

    class HostileError(Exception, metaclass=HostileMeta):
        def __str__(self):
            raise RuntimeError

    def raising(problem):
        raise HostileError

    Reporter(raising).report(a_problem())
    assert len(said()) == 2


class RaisingHandler(logging.Handler):
    """A handler of the application's that fails as badly as one can."""

    def emit(self, record):
        raise ValueError("oops")


def test_a_handler_of_the_application_that_raises_does_not_keep_the_callback_from_its_problem():
    given = []
    handler = RaisingHandler()
    logging.getLogger("km_logging").addHandler(handler)
    try:
        Reporter(given.append).report(a_problem())
    finally:
        logging.getLogger("km_logging").removeHandler(handler)
    assert given == [a_problem()]


# Names that were formatted.


def test_the_twenty_first_name_that_differs_only_in_digits_is_one_of_many():
    names = FormattedNames()
    outcomes = [names.is_one(f"Order {number} placed") for number in range(8_100, 8_125)]
    assert outcomes == [False] * 20 + [True] * 5


def test_names_without_digits_are_never_formatted():
    names = FormattedNames()
    assert not any(names.is_one(f"Clicked {letter * count}") for letter in "abcdef" for count in range(1, 50))


def test_a_name_that_occurs_again_is_not_another():
    names = FormattedNames()
    assert not any(names.is_one(f"Step {step}") for _ in range(100) for step in range(20))
    assert names.is_one("Step 20")
    assert not names.is_one("Step 5")


def test_names_that_differ_in_more_than_digits_are_counted_apart():
    names = FormattedNames()
    assert not any(names.is_one(f"{what} {step}") for what in ("Step", "Page", "Level") for step in range(20))
    assert names.is_one("Level 20")


def test_digits_anywhere_in_a_name_count():
    names = FormattedNames()
    assert [names.is_one(f"{n} of {n * 7} at {n % 10}:00") for n in range(100, 122)][-1]


def test_digits_of_any_length_are_taken_for_one_number():
    names = FormattedNames()
    assert [names.is_one(f"Order {10**digits}") for digits in range(22)][-2:] == [True, True]


def test_how_many_names_are_watched_is_bounded():
    """However many names there are, memory is not; those that are watched already still are."""
    names = FormattedNames()
    for number in range(19):
        names.is_one(f"watched {number}")
    for shape in range(5_000):
        name = "".join("abcdefghij"[int(digit)] for digit in str(shape))
        assert not names.is_one(f"{name} 1")
    assert len(names._names) <= 1_000
    assert max(map(len, names._names.values())) <= 20
    assert [names.is_one(f"watched {number}") for number in (19, 20)] == [False, True]
