"""The intake: one call gives one request, or a reason why there is none; the books know which."""

from __future__ import annotations

import contextvars
from dataclasses import replace

import pytest

from km_logging.calls import Call, Problem
from km_logging.guard import ours
from km_logging.intake import DEPTH, Intake
from km_logging.ledger import Ledger
from km_logging.settings import Settings
from km_logging.tagging import Rules, from_event_dict
from km_logging.telling import Told, tell

NEW_YEAR = 1_262_304_000
RULES = Rules(Settings.resolve({"api_key": "key"}, {}))
CALL = Call("event", "bob", "Signed Up", None, NEW_YEAR, {"plan": "pro"})
REQUEST = "/e?_p=bob&_n=Signed+Up&plan=pro"


def snapshot(**fields):
    return from_event_dict(
        {"event": "Signed Up", "person": "bob", "km": "event", **fields}, RULES, None, dict, NEW_YEAR
    )


class Desk:
    """An intake, its books, and what it said."""

    def __init__(self, before_send=None, telling=lambda it: tell(it, RULES)):
        self.ledger, self.said = Ledger(), []
        self.intake = Intake(tell=telling, before_send=before_send, ledger=self.ledger, rules=RULES)

    def request(self, item):
        return self.intake.request(item, self.said.append)

    @property
    def books(self):
        """Turned away, withheld, refused by kind."""
        refused = {kind: tally.value for kind, tally in self.ledger.refused.items() if tally.value}
        return self.ledger.turned_away.value, self.ledger.dropped["withheld"].value, refused


def raising(error):
    def raise_it(*_):
        raise error

    return raise_it


@pytest.mark.parametrize("item", [CALL, snapshot(plan="pro")], ids=["call", "snapshot"])
def test_a_call_gives_a_request_whether_it_was_told_already_or_not(item):
    """The request holds everything but the key."""
    desk = Desk()
    request = desk.request(item)
    assert request.startswith(REQUEST)
    assert "_k" not in request
    assert (desk.books, desk.said) == ((0, 0, {}), [])


@pytest.mark.parametrize(
    ("before_send", "telling", "item", "books"),
    [
        (None, None, snapshot(person=""), (1, 0, {"bad_person": 1})),
        (None, raising(ZeroDivisionError), snapshot(), (1, 0, {"delivery": 1})),
        (lambda call: None, None, CALL, (0, 1, {})),
        (lambda call: "no call", None, CALL, (0, 1, {"callback": 1})),
        (lambda call: replace(call, person=""), None, CALL, (0, 1, {"callback": 1})),
        (raising(ValueError), None, CALL, (0, 1, {"callback": 1})),
    ],
    ids=["refused", "our own error", "withheld", "no call", "unsound", "raises"],
)
def test_what_gives_no_request_is_in_the_books_once(before_send, telling, item, books):
    """And is said, if it is a problem."""
    desk = Desk(before_send, **({"telling": telling} if telling else {}))
    assert desk.request(item) is None
    assert desk.books == books
    assert [problem.kind for problem in desk.said] == list(books[2])


def test_a_property_that_is_left_out_costs_no_call():
    """Neither when it is told, nor when `before_send` put it there."""
    desk = Desk(lambda call: replace(call, properties={**call.properties, "gone": object()}))
    assert desk.request(snapshot(plan="pro", broken=object())).startswith(REQUEST)
    assert desk.books == (0, 0, {"bad_value": 2})


def test_what_before_send_does_to_its_call_shows_in_no_problem():
    """It gets a copy."""

    def before_send(call):
        call.properties["secret"] = "s3cret"
        raise ValueError

    desk = Desk(before_send)
    desk.request(CALL)
    (problem,) = desk.said
    assert isinstance(problem, Problem)
    assert problem.call.properties == {"plan": "pro"}


@pytest.mark.parametrize("is_ours", [False, True])
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_ends_a_thread_ends_the_applications_own_but_none_of_ours(is_ours, error):
    """In either case the call is withheld."""
    desk = Desk(raising(error))
    context = contextvars.copy_context()
    context.run(ours.set, is_ours)
    if is_ours:
        assert context.run(desk.request, CALL) is None
    else:
        with pytest.raises(error):
            context.run(desk.request, CALL)
    assert desk.books == (0, 1, {"callback": 1})


def test_a_before_send_that_calls_itself_is_deep_at_some_point():
    """Then its calls go through the queue, so that there is an end to it."""
    depths = []

    def before_send(call):
        depths.append(desk.intake.is_deep)
        if not desk.intake.is_deep:
            desk.request(call)
        return call

    desk = Desk(before_send)
    desk.request(CALL)
    assert depths == [False] * (DEPTH - 1) + [True]
    assert not desk.intake.is_deep


def test_what_is_told_may_have_neither_call_nor_problem():
    """Then it is turned away without a word."""
    desk = Desk(telling=lambda _: Told(None))
    assert desk.request(snapshot()) is None
    assert desk.books == (1, 0, {})
