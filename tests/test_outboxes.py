"""What delivery relies on in every kind of outbox: one contract suite, and a model to compare with."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from km_logging.outbox import Entry, Outbox
from km_logging.outbox.memory import MemoryOutbox

#: Kind of outbox to how to open a new one.
KINDS: dict[str, Callable[[], Outbox]] = {"memory": MemoryOutbox}


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def outbox(request: pytest.FixtureRequest) -> Outbox:
    """A new outbox of one kind."""
    return request.param()


def _entries(*numbers: int) -> list[Entry]:
    return [Entry(f"/e?_p=p{number}", 1_000.0 + number, number) for number in numbers]


def test_a_new_outbox_is_empty(outbox):
    assert outbox.waiting == 0
    assert outbox.oldest is None
    assert list(outbox.claim(10)) == []
    assert outbox.evict() is None


def test_what_was_put_is_claimed_as_it_was_oldest_first(outbox):
    outbox.put(_entries(1, 2))
    outbox.put(_entries(3))
    assert list(outbox.claim(10)) == _entries(1, 2, 3)


def test_no_more_is_claimed_than_asked_for(outbox):
    outbox.put(_entries(1, 2, 3))
    assert list(outbox.claim(2)) == _entries(1, 2)
    assert outbox.waiting == 1


def test_nothing_is_claimed_twice(outbox):
    """Neither before nor after it is settled."""
    outbox.put(_entries(1, 2))
    (claimed,) = outbox.claim(1)
    assert list(outbox.claim(10)) == _entries(2)
    outbox.settle(claimed)
    assert list(outbox.claim(10)) == []


def test_what_is_claimed_does_not_wait(outbox):
    outbox.put(_entries(1, 2))
    outbox.claim(1)
    assert outbox.waiting == 1
    assert outbox.oldest == 1_002.0


def test_what_was_tried_settles_too(outbox):
    """Delivery counts the tries in the entry that it settles."""
    outbox.put(_entries(1))
    (claimed,) = outbox.claim(1)
    outbox.settle(claimed._replace(tries=3))
    assert outbox.waiting == 0
    assert outbox.evict() is None


def test_the_oldest_that_waits_is_evicted(outbox):
    outbox.put(_entries(1, 2, 3))
    outbox.claim(1)
    assert outbox.evict() == _entries(2)[0]
    assert outbox.waiting == 1
    assert list(outbox.claim(10)) == _entries(3)


def test_what_is_claimed_is_not_evicted(outbox):
    outbox.put(_entries(1))
    outbox.claim(1)
    assert outbox.evict() is None


def test_an_empty_put_changes_nothing(outbox):
    outbox.put([])
    assert outbox.waiting == 0


def test_texts_come_back_as_they_were(outbox):
    """A request is ASCII, and up to 8,000 bytes long."""
    requests = ["/e?_p=%F0%9F%98%80&_n=%00%0D%0A", "/s?_p=x&a=" + "y" * 7_900, "/a?_p=a&_n=b"]
    entries = [Entry(request, 0.1 + number, number) for number, request in enumerate(requests)]
    outbox.put(entries)
    assert list(outbox.claim(10)) == entries


class Model(RuleBasedStateMachine):
    """Any outbox does what a plain list would do: nothing is lost, nothing comes twice."""

    open: Callable[[], Outbox]

    def __init__(self) -> None:
        super().__init__()
        self._outbox = type(self).open()
        self._waiting: deque[Entry] = deque()
        self._claimed: list[Entry] = []
        self._number = 0

    @rule(count=st.integers(0, 5))
    def put(self, count: int) -> None:
        """Put new entries."""
        entries = _entries(*range(self._number + 1, self._number + count + 1))
        self._number += count
        self._outbox.put(entries)
        self._waiting.extend(entries)

    @rule(limit=st.integers(1, 4))
    def claim(self, limit: int) -> None:
        """Claim some of them."""
        claimed: Sequence[Entry] = self._outbox.claim(limit)
        assert list(claimed) == [self._waiting.popleft() for _ in range(min(limit, len(self._waiting)))]
        self._claimed.extend(claimed)

    @precondition(lambda self: self._claimed)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        """Settle one that was claimed, in any order."""
        index = data.draw(st.integers(0, len(self._claimed) - 1))
        self._outbox.settle(self._claimed.pop(index))

    @rule()
    def evict(self) -> None:
        """Give up the oldest that waits."""
        assert self._outbox.evict() == (self._waiting.popleft() if self._waiting else None)

    @invariant()
    def knows_what_waits(self) -> None:
        """How many wait, and since when."""
        assert self._outbox.waiting == len(self._waiting)
        assert self._outbox.oldest == (self._waiting[0].accepted_at if self._waiting else None)


@pytest.mark.parametrize("kind", KINDS)
def test_it_behaves_as_a_list_would(kind):
    case = type("Case", (Model,), {"open": staticmethod(KINDS[kind])}).TestCase
    case.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
    case().runTest()
