"""What earlier calls say about a call."""

from __future__ import annotations

import pytest

from km_logging.sandbox import history
from km_logging.sandbox.checks import Received, receive
from km_logging.sandbox.history import MANY_NAMES, History

EVENT = "_k=key&_p=bob&_n=Signed+Up&plan=pro&_t=1262304000&_d=1"
UNTIMED = "_k=key&_p=bob&_n=Signed+Up"
SET = "_k=key&_p=bob&plan=pro&_t=1262304000&_d=1"
ALIAS = "_k=key&_p=bob&_n=ann"


def call(kind: str, query: str, now: float = 1_700_000_000.1) -> Received:
    return receive(kind, query.encode(), now)


def is_duplicate(first: Received, second: Received) -> bool:
    """Whether the second call counts as one with the first."""
    past = History()
    assert not past.judge(first).duplicate
    return past.judge(second).duplicate


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (call("event", EVENT), call("event", EVENT, 1_800_000_000)),
        (call("event", EVENT), call("event", EVENT.replace("Signed+Up", "signed+up"))),
        (call("event", EVENT), call("event", EVENT.replace("plan", "PLAN"))),
        (call("event", f"{EVENT}&a=1"), call("event", f"a=1&{EVENT}")),
        (
            call("event", EVENT.replace("Signed+Up", "Paid:card")),
            call("event", EVENT.replace("Signed+Up", "Paid,card")),
        ),
        (call("event", UNTIMED, 1_700_000_000.1), call("event", UNTIMED, 1_700_000_000.9)),
        (call("set", SET), call("set", SET)),
        (call("alias", ALIAS), call("alias", ALIAS)),
        (call("alias", ALIAS), call("alias", "_k=key&_p=ann&_n=bob")),
    ],
)
def test_calls_that_kissmetrics_counts_as_one(first: Received, second: Received) -> None:
    assert is_duplicate(first, second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (call("event", EVENT), call("event", EVENT.replace("bob", "Bob"))),
        (call("event", EVENT), call("event", EVENT.replace("Up", "Out"))),
        (call("event", EVENT), call("event", EVENT.replace("1262304000", "1262304001"))),
        (call("event", EVENT), call("event", EVENT.replace("pro", "Pro"))),
        (call("event", EVENT), call("event", f"{EVENT}&seats=5")),
        (call("event", UNTIMED, 1_700_000_000.9), call("event", UNTIMED, 1_700_000_001.1)),
        (call("set", SET), call("set", SET.replace("pro", "free"))),
        (call("set", SET), call("set", SET.replace("1262304000", "1262304001"))),
        (call("event", EVENT), call("set", SET)),
        (call("alias", ALIAS), call("alias", "_k=key&_p=bob&_n=eve")),
        (call("event", EVENT.removeprefix("_k=key&")), call("event", EVENT)),
        (call("event", EVENT), call("event", EVENT.removeprefix("_k=key&"))),
        (call("event", "_k=key"), call("event", "_k=key")),
    ],
)
def test_calls_that_kissmetrics_counts_twice_or_not_at_all(first: Received, second: Received) -> None:
    assert not is_duplicate(first, second)


def test_a_call_is_compared_with_what_is_held_only() -> None:
    past = History()
    first, second = past.judge(call("set", SET)), past.judge(call("set", SET))
    past.forget(first)
    assert past.judge(call("set", SET)).duplicate
    past.forget(second)
    past.forget(second)
    assert not past.judge(call("set", SET)).duplicate


def kinds(past: History, query: str, kind: str = "event") -> list[str]:
    return [problem.kind for problem in past.judge(call(kind, f"_k=key&_p=bob&{query}")).problems]


def test_a_name_spelt_in_other_capitals_than_before_is_a_problem_each_time() -> None:
    past = History()
    assert kinds(past, "_n=Signed+Up") == []
    assert kinds(past, "_n=signed+up") == ["case_variant"]
    assert kinds(past, "_n=signed+up") == ["case_variant"]
    assert kinds(past, "_n=Signed+Up") == []


def test_property_names_are_compared_among_themselves() -> None:
    past = History()
    assert kinds(past, "_n=Plan&plan=pro") == []
    assert kinds(past, "Plan=pro", kind="set") == ["case_variant"]


def test_an_alias_spells_no_name() -> None:
    past = History()
    assert kinds(past, "_n=ANN", kind="alias") == []
    assert kinds(past, "_n=ann", kind="alias") == []
    assert kinds(past, "_n=ann") == []


def test_many_names_that_differ_only_in_digits_are_a_problem() -> None:
    past = History()
    names = [f"_n=Order+{number}+placed" for number in range(7, 7 + MANY_NAMES)]
    assert [kinds(past, name) for name in names + names] == [[]] * 2 * MANY_NAMES
    assert kinds(past, "_n=Order+8123+placed") == ["formatted_name"]
    assert kinds(past, "_n=Order+8123+paid") == []


def test_names_that_are_too_long_are_not_learnt() -> None:
    past = History()
    assert kinds(past, f"_n={'x' * 256}") == ["bad_name"]
    assert kinds(past, f"_n={'X' * 256}") == ["bad_name"]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """When as many names are known as may be, what is known stays and nothing is added."""
    monkeypatch.setattr(history, "MOST_NAMES", 2)
    past = History()
    for name in ("_n=A1", "_n=B1", "_n=C1"):
        kinds(past, name)
    assert (len(past._spellings), len(past._shapes)) == (2, 2)
    assert kinds(past, "_n=a1") == ["case_variant"]
    assert kinds(past, "_n=c1") == []


def test_looking_remembers_nothing() -> None:
    """A call that is only checked meets what was held before, and nobody meets it."""
    past = History()
    past.judge(call("event", EVENT))
    for _ in range(2):
        looked = past.look(call("event", EVENT.replace("Signed+Up", "signed+up")))
        assert [it.kind for it in looked.problems] == ["case_variant"]
        assert looked.duplicate
    paid = call("event", EVENT.replace("Signed+Up", "Paid"))
    assert not past.look(paid).duplicate
    assert not past.judge(paid).duplicate
