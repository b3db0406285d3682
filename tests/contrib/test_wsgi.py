"""The WSGI middleware, as a server sees it; wsgiref's validator stands between the two and says what is no WSGI."""

from __future__ import annotations

import io
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest

import km_logging as km
from km_logging.contrib.wsgi import KissmetricsMiddleware
from km_logging.identity import answered, identified


def who():
    """The person of this moment."""
    return answered(identified())


def environ(**more):
    made = {"QUERY_STRING": "", **more}
    setup_testing_defaults(made)
    return made


def start_response(_status, _headers, _exc_info=None):
    return lambda _part: None


class Application:
    """Notes who acts wherever its code runs: in the call, in the first step, in each step, in the close."""

    def __init__(self):
        self.seen = []

    def __call__(self, _environ, start):
        self.seen.append(("call", who()))
        start("200 OK", [("Content-Type", "text/plain")])
        return self

    def __iter__(self):
        self.seen.append(("iter", who()))
        self.left = 2
        return self

    def __next__(self):
        self.seen.append(("next", who()))
        if not self.left:
            raise StopIteration
        self.left -= 1
        return b"."

    def close(self):
        self.seen.append(("close", who()))


def test_the_person_is_bound_wherever_the_application_runs_and_nowhere_else():
    application = Application()
    middleware = validator(KissmetricsMiddleware(validator(application), person=lambda environ: environ["who"]))
    body = middleware(environ(who="bob"), start_response)
    between = [who()]
    parts = []
    for part in body:
        parts.append(part)
        between.append(who())
    body.close()
    assert parts == [b".", b"."]
    assert application.seen == [(moment, "bob") for moment in ("call", "iter", "next", "next", "next", "close")]
    assert between == [None] * 3


def test_the_bodies_of_two_requests_may_be_sent_by_turns():
    """As by a server that has many in one thread."""
    applications = [Application(), Application()]
    bodies = [
        iter(
            KissmetricsMiddleware(application, person=lambda environ: environ["who"])(environ(who=who), start_response)
        )
        for application, who in zip(applications, ["bob", "eve"], strict=True)
    ]
    for _ in range(2):
        assert [next(body) for body in bodies] == [b".", b"."]
    for body in bodies:
        body.close()
    assert {person for _, person in applications[0].seen} == {"bob"}
    assert {person for _, person in applications[1].seen} == {"eve"}


def test_the_person_is_asked_for_only_when_somebody_wants_to_know():
    middleware = KissmetricsMiddleware(lambda *_: [b"."], person=lambda _: pytest.fail("it was asked"))
    assert middleware(environ(), start_response) == [b"."]


@pytest.mark.parametrize("body", [[b"."], (b".",), FileWrapper(io.BytesIO(b"."))], ids=["list", "tuple", "file"])
def test_what_servers_send_in_their_own_ways_is_passed_on_as_it_is(body):
    """The length of a list, and the file behind a wrapper, are what they go by."""
    middleware = KissmetricsMiddleware(lambda *_: body, person=lambda _: "bob")
    assert middleware(environ(**{"wsgi.file_wrapper": FileWrapper}), start_response) is body


def test_a_file_wrapper_that_is_no_class_is_none_of_our_business():
    """That of uWSGI is a function."""
    application = Application()
    middleware = KissmetricsMiddleware(application, person=lambda _: "bob")
    assert list(middleware(environ(**{"wsgi.file_wrapper": open}), start_response)) == [b".", b"."]


def test_a_body_that_was_never_begun_is_closed():
    """A server need not begin with the body of an answer to HEAD."""
    application = Application()
    KissmetricsMiddleware(application, person=lambda _: "bob")(environ(), start_response).close()
    assert application.seen == [("call", "bob"), ("close", "bob")]


def test_a_body_that_cannot_be_closed_need_not_be():
    body = KissmetricsMiddleware(lambda *_: iter([b"."]), person=lambda _: "bob")(environ(), start_response)
    assert list(body) == [b"."]
    body.close()


def test_an_exception_of_the_application_passes_and_leaves_nobody_behind():
    def application(*_):
        raise RuntimeError("oops")

    with pytest.raises(RuntimeError, match="oops"):
        KissmetricsMiddleware(application, person=lambda _: "bob")(environ(), start_response)
    assert identified() is None


def test_a_request_without_a_person_hides_the_one_that_was_left_behind():
    """By code that bound somebody in this thread and never let go."""
    application = Application()
    with km.identify("eve"):
        KissmetricsMiddleware(application, person=lambda _: None)(environ(), start_response)
    assert application.seen == [("call", None)]


@pytest.mark.parametrize("wrong", [None, 5, "no.such.function"])
def test_a_person_that_is_no_callable_says_so_at_once(wrong):
    with pytest.raises(km.SettingsError, match="person"):
        KissmetricsMiddleware(Application(), person=wrong)
