"""The errors: whose fault each is, and that each survives a process boundary."""

from __future__ import annotations

import pickle

import pytest

import km_logging as km
from km_logging.errors import OutboxError

PROBLEM = km.Problem("bad_person", "the person is empty", "pass the person's id")


@pytest.mark.parametrize(
    ("error", "also"),
    [
        (km.SettingsError("senders must be a number"), ValueError),
        (km.ProblemError(PROBLEM), ValueError),
        (km.MissingExtraError("km-logging sandbox", "sandbox"), ImportError),
        (OutboxError("the file is a database of another program", "choose another path"), Exception),
    ],
    ids=lambda it: type(it).__name__,
)
def test_each_error_is_ours_and_one_of_pythons_and_can_be_pickled(error: Exception, also: type[Exception]) -> None:
    assert isinstance(error, km.KmLoggingError)
    assert isinstance(error, also)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)


def test_a_problem_error_holds_its_problem_and_shows_the_remedy() -> None:
    error = km.ProblemError(PROBLEM)
    assert error.problem is PROBLEM
    assert str(error) == "the person is empty: pass the person's id"


def test_a_missing_extra_holds_the_line_that_installs_it() -> None:
    assert "pip install 'km_logging[sandbox]'" in str(km.MissingExtraError("km-logging sandbox", "sandbox"))
