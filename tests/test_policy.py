"""What happens after an attempt: verdicts, delays, the breaker's life, and the share of the processor."""

from __future__ import annotations

import math
import time
from datetime import datetime, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from km_logging import policy
from km_logging.policy import Answer, Breaker, Throttle, Verdict, backoff, remedy, retry_after, verdict

NOW = 1_262_304_000.0  # 2010-01-01
DELIVERED, RETRY, REJECT = Verdict.DELIVERED, Verdict.RETRY, Verdict.REJECT

patiently = settings(deadline=None)


# From answer to verdict.


def expected_verdict(status):
    """The contract's table, told independently."""
    if status in {400, 413, 414, 431}:
        return REJECT  # they speak of the call
    return DELIVERED if status in range(200, 300) else RETRY


def test_each_status_has_the_verdict_of_the_contract():
    assert {status: verdict(Answer(status)) for status in range(100, 600)} == {
        status: expected_verdict(status) for status in range(100, 600)
    }


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, *range(401, 408), 408, 425, 429, 500, 502, 503, 504, 599])
def test_what_speaks_of_the_path_is_tried_again(status):
    assert verdict(Answer(status)) is RETRY
    assert verdict(Answer(status, is_html=True)) is RETRY


@pytest.mark.parametrize("status", [400, 413, 414, 431])
def test_what_speaks_of_the_call_is_rejected_after_three_tries(status):
    assert verdict(Answer(status)) is REJECT
    assert verdict(Answer(status, is_html=True)) is REJECT
    assert policy.REJECT_AFTER == 3


def test_no_answer_is_tried_again():
    assert verdict(Answer(None)) is RETRY
    assert verdict(Answer(None, error="connection refused")) is RETRY


def test_a_page_with_200_is_a_captive_portal():
    assert verdict(Answer(200, is_html=True)) is RETRY
    assert verdict(Answer(200)) is DELIVERED


@pytest.mark.parametrize("status", [201, 202, 204, 206, 299])
def test_any_other_2xx_is_delivered(status):
    assert verdict(Answer(status, is_html=True)) is DELIVERED


@pytest.mark.parametrize("is_html", [False, True])
def test_exactly_the_first_row_that_fits_decides(is_html):
    for status in (*range(100, 600), None, 0, -1, 999, 10**20):
        answer = Answer(status, is_html)
        rows = [verdict for _, fits, verdict in policy.VERDICTS if fits(answer, status or 0)]
        assert verdict(answer) is rows[0], answer


def test_every_row_of_the_table_is_needed_and_says_what_it_is_about():
    first = {
        next(row for row, (_, fits, __) in enumerate(policy.VERDICTS) if fits(answer, answer.status or 0))
        for answer in [Answer(None), *(Answer(status, page) for status in range(100, 600) for page in (False, True))]
    }
    assert first == set(range(len(policy.VERDICTS)))
    assert all(meaning for meaning, _, __ in policy.VERDICTS)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (Answer(503), "HTTP 503"),
        (Answer(200, is_html=True), "HTTP 200 with a page"),
        (Answer(None, error="connection refused"), "connection refused"),
        (Answer(None), "no answer"),
    ],
    ids=str,
)
def test_an_answer_as_text_says_what_came(answer, text):
    assert str(answer) == text


# How long to wait.


@patiently
@given(failures=st.integers(1, 10**6), jitter=st.floats(0, 1))
def test_a_delay_is_a_random_part_of_an_exponential_one_with_a_bound(failures, jitter):
    """Full jitter: from nothing to 0.5 s doubled with each failure, 30 s at most."""
    whole = backoff(failures, 1.0)
    assert whole == min(30.0, 0.5 * 2.0 ** min(failures - 1, 60))
    assert backoff(failures, jitter) == pytest.approx(whole * jitter)
    assert 0.0 <= backoff(failures, jitter) <= whole
    assert backoff(failures + 1, jitter) >= backoff(failures, jitter)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("120", 120.0),
        (" 120 ", 120.0),
        ("86400", 86_400.0),
        ("86401", 86_400.0),
        ("9" * 5_000, 86_400.0),  # not believed
        ("Fri, 01 Jan 2010 00:02:00 GMT", 120.0),
        ("Fri, 01 Jan 2010 00:02:00 +0000", 120.0),
        ("Fri, 01 Jan 2010 02:02:00 +0200", 120.0),
        ("Thu, 31 Dec 2009 23:00:00 GMT", 0.0),
        ("Wed, 01 Jan 2020 00:00:00 GMT", 86_400.0),
        ("", None),
        (" ", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("1e3", None),
        ("0x10", None),
        ("²", None),
        ("nan", None),
        ("inf", None),
        ("Fri, 32 Jan 2010 00:00:00 GMT", None),
        ("Fri, 01 Jan 99999 00:00:00 GMT", None),
        ("Fri, 01 Jan 2010 25:00:00 GMT", None),
        (",", None),
        ("\0\ud800", None),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_retry_after_is_seconds_or_a_date_or_makes_no_sense(header, seconds):
    assert retry_after(header, NOW) == seconds


@pytest.fixture
def _five_hours_west(monkeypatch):
    """A local time that is not UTC."""
    monkeypatch.setenv("TZ", "EST5")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_five_hours_west")
@pytest.mark.parametrize(
    "header",
    [
        "Fri, 01 Jan 2010 00:02:00 GMT",
        "Friday, 01-Jan-10 00:02:00 GMT",
        "Fri Jan  1 00:02:00 2010",
        "Fri, 01 Jan 2010 00:02:00 -0000",
    ],
)
def test_every_form_of_an_http_date_is_universal_time(header):
    """RFC 9110, 5.6.7: all three forms of an HTTP date are in UTC, whatever zone this machine is in; one names none."""
    assert retry_after(header, NOW) == 120.0


@patiently
@given(seconds=st.integers(-(10**6), 10**6))
def test_a_date_asks_for_the_time_until_then(seconds):
    date = datetime.fromtimestamp(NOW + seconds, timezone.utc)
    assert retry_after(format_datetime(date, usegmt=True), NOW) == min(max(seconds, 0), 86_400)


@patiently
@given(header=st.text() | st.text(alphabet="0123456789:, -+GMTFriJan"), now=st.floats(0, 1e11))
def test_whatever_a_server_asks_for_is_bounded_or_ignored(header, now):
    asked = retry_after(header, now)
    assert asked is None or 0.0 <= asked <= 86_400.0


# The breaker: each row is one step of its life.

CLOSED = Breaker()


def after_failures(count, now=100.0, jitter=1.0):
    breaker = CLOSED
    for _ in range(count):
        breaker = breaker.failed(now, jitter, None)
    return breaker


OPEN = after_failures(3)
PROBING = OPEN.began()
ASKED = CLOSED.failed(100.0, 1.0, 60.0)

TRANSITIONS = {
    "closed, success": (CLOSED.succeeded(NOW), CLOSED),
    "closed, an attempt begins": (CLOSED.began(), CLOSED),
    "closed, first failure": (CLOSED.failed(100.0, 1.0, None), Breaker(failures=1)),
    "closed, second failure": (after_failures(2), Breaker(failures=2)),
    "two failures, success": (after_failures(2).succeeded(NOW), CLOSED),
    "third failure opens it": (OPEN, Breaker(failures=3, until=100.5)),
    "jitter shortens the pause": (after_failures(3, jitter=0.5), Breaker(failures=3, until=100.25)),
    "open, failures that were under way do not count": (OPEN.failed(100.2, 1.0, None), OPEN),
    "open, a success that was under way closes it": (OPEN.succeeded(NOW), CLOSED),
    "half open, one attempt begins": (PROBING, Breaker(failures=3, until=100.5, probing=True)),
    "half open, the probe succeeds": (PROBING.succeeded(NOW), CLOSED),
    "half open, the probe fails: open for longer": (
        PROBING.failed(101.0, 1.0, None),
        Breaker(failures=4, until=102.0),
    ),
    "the server asks for patience": (ASKED, Breaker(failures=3, until=160.0, asked=True)),
    "it asks for more": (ASKED.failed(110.0, 1.0, 60.0), Breaker(failures=3, until=170.0, asked=True)),
    "it asks for less than before": (ASKED.failed(110.0, 1.0, 5.0), ASKED),
    "asked, failures that were under way do not count": (ASKED.failed(110.0, 1.0, None), ASKED),
    "asked, the probe fails": (
        ASKED.began().failed(160.0, 1.0, None),
        Breaker(failures=4, until=161.0),
    ),
    "asked, the probe is asked again": (
        ASKED.began().failed(160.0, 1.0, 30.0),
        Breaker(failures=3, until=190.0, asked=True),
    ),
    "asked, the probe succeeds": (ASKED.began().succeeded(160.0), CLOSED),
    "asked, a success that was under way does not end it": (ASKED.succeeded(110.0), ASKED),
    "hurried, our own pause ends": (OPEN.hurried(), Breaker(failures=3)),
    "hurried, the server's stays": (ASKED.hurried(), ASKED),
    "hurried, closed": (CLOSED.hurried(), CLOSED),
    "hurried, a probe under way": (PROBING.hurried(), Breaker(failures=3, probing=True)),
}


@pytest.mark.parametrize("step", TRANSITIONS)
def test_the_life_of_a_breaker(step):
    state, expected = TRANSITIONS[step]
    assert state == expected


ALLOWS = {
    "closed": (CLOSED, 0.0, True),
    "two failures": (after_failures(2), 100.0, True),
    "open": (OPEN, 100.4, False),
    "half open": (OPEN, 100.5, True),
    "probing": (PROBING, 1_000.0, False),
    "asked": (ASKED, 159.9, False),
    "asked, later": (ASKED, 160.0, True),
    "asked, probing": (ASKED.began(), 1_000.0, False),
    "hurried": (OPEN.hurried(), 100.0, True),
    "probe failed": (PROBING.failed(101.0, 1.0, None), 101.9, False),
    "probe failed, later": (PROBING.failed(101.0, 1.0, None), 102.0, True),
    "probe succeeded": (PROBING.succeeded(NOW), 101.0, True),
}


@pytest.mark.parametrize("state", ALLOWS)
def test_what_a_breaker_allows(state):
    breaker, now, allows = ALLOWS[state]
    assert breaker.allows(now) is allows


STEPS = st.lists(
    st.tuples(st.sampled_from(["begin", "succeed", "fail", "ask", "hurry", "wait"]), st.floats(0, 60), st.floats(0, 1))
)


@patiently
@given(steps=STEPS)
def test_whatever_happens_a_breaker_never_stays_shut(steps):
    """Once what is under way has ended, an attempt is allowed within 30 s, or after what the server asked for."""
    breaker, now, under_way, asked_until = CLOSED, 0.0, 0, -math.inf
    for step, seconds, jitter in steps:
        now += seconds
        if step == "begin" and breaker.allows(now):
            breaker, under_way = breaker.began(), under_way + 1
        elif step == "succeed" and under_way:
            breaker, under_way = breaker.succeeded(now), under_way - 1
        elif step == "fail" and under_way:
            breaker, under_way = breaker.failed(now, jitter, None), under_way - 1
        elif step == "ask" and under_way:
            breaker, under_way = breaker.failed(now, jitter, seconds), under_way - 1
            asked_until = max(asked_until, now + seconds)
        elif step == "hurry":
            breaker = breaker.hurried()
    while under_way:
        breaker, under_way = breaker.failed(now, 1.0, None), under_way - 1
    assert breaker.allows(max(now + 30.0, asked_until))
    assert breaker.until <= max(now + 30.0, asked_until)


@patiently
@given(steps=STEPS)
def test_an_open_breaker_lets_one_attempt_pass_at_a_time(steps):
    breaker, now = OPEN, 100.5
    assert breaker.allows(now)
    breaker = breaker.began()
    for step, seconds, _ in steps:
        now += seconds
        if step == "hurry":
            breaker = breaker.hurried()
        assert not breaker.allows(now)


# The throttle.


def test_a_throttle_asks_for_a_pause_in_proportion_to_the_work():
    assert Throttle().worked(1.0, 0.5, now=100.0).until == pytest.approx(101.9)  # less what may be saved up
    assert Throttle(until=105.0).worked(1.0, 0.5, now=100.0).until == pytest.approx(107.0)
    assert Throttle().worked(1.0, 1.0, now=100.0).until == pytest.approx(100.9)


def test_no_work_asks_for_no_pause():
    assert Throttle().worked(0.0, 0.5, now=100.0).until <= 100.0


def test_attempts_are_paid_for_when_they_begin_and_settled_when_they_end():
    begun = Throttle(until=100.0, price=0.5).began(0.5, now=100.0)
    assert begun.until == pytest.approx(101.0)
    assert begun.ended(0.5, 1, 0.5) == begun  # as expected
    dearer = begun.ended(2.1, 1, 0.5)
    assert (dearer.until, dearer.price) == (pytest.approx(104.2), pytest.approx(0.6))
    assert begun.ended(0.25, 0, 0.5).until == pytest.approx(101.5)  # nothing has ended yet, but it took its time


def test_as_many_attempts_may_begin_at_once_as_the_throttle_would_let_begin_one_by_one():
    throttle = Throttle(price=0.02)
    room, begun = throttle.room(0.5, now=100.0), 0
    while throttle.until <= 100.0 + 1e-9:
        throttle, begun = throttle.began(0.5, now=100.0), begun + 1
    assert room == begun == 3
    assert throttle.lets(4, 0.5) - throttle.lets(1, 0.5) == pytest.approx(3 * 0.02 / 0.5)
    assert throttle.room(0.5, now=100.0) == 0
    assert Throttle().room(0.5, now=100.0) == 1  # nobody knows yet what the first one will take


@pytest.mark.parametrize(("busy", "part"), [(0.0, 0.5), (1.0, 1 / 3), (0.5, 0.4)])
def test_beside_a_busy_application_the_pace_is_to_its_time_as_the_share_is_to_one(busy, part):
    assert policy.pace(0.5, busy) == pytest.approx(part)
    assert policy.pace(0.5, 1.0) / (1 - policy.pace(0.5, 1.0)) == pytest.approx(0.5)


@patiently
@given(
    share=st.floats(0.01, 2),
    attempts=st.lists(st.tuples(st.floats(0, 0.05), st.floats(0, 10)), min_size=1, max_size=100),
)
def test_delivery_never_takes_more_than_its_share_and_what_it_saved_up(share, attempts):
    """Each attempt begins when it may, or later; all CPU time before the last one is within the share."""
    throttle, now, spent = Throttle(), 0.0, 0.0
    for cpu, idle in attempts:
        now = max(now, throttle.until)
        assert spent <= share * (now + policy.BURST) + 1e-6
        now += idle
        throttle, spent = throttle.began(share, now).ended(cpu, 1, share), spent + cpu


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(None, error="ReadTimeout"), "network and proxy"),
        (Answer(200, is_html=True), "log in"),
        (Answer(502, is_html=True), "try again later"),
        (Answer(301), "set endpoint"),
        (Answer(407), "asks for no login"),
        (Answer(413), "km-logging url"),
        (Answer(408), "try again later"),
        (Answer(429), "try again later"),
        (Answer(500), "try again later"),
    ],
)
def test_each_answer_that_is_not_delivered_has_a_remedy(answer, words):
    assert words in remedy(answer)
