"""Which of a process's own calls in a stream are in others' hands: told by what it reads itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from km_logging.outbox.store import Row
from km_logging.outbox.unread import Unread


class Added(tuple):
    """How many were put, and the numbers of the first and the last one."""

    __slots__ = ()


def rows(*numbers: int) -> list[Row]:
    return [Row(number, "/e", 1.0) for number in numbers]


def unread(*stretches: tuple[int, int]) -> Unread:
    """With calls of these numbers, from the first to the last one."""
    made = Unread()
    for first, last in stretches:
        made.add(Added((last - first + 1, first, last)), float(first))
    return made


def test_own_calls_are_known_among_others():
    """Those of a stretch, with whatever stands before and after it."""
    there = unread((10, 12), (20, 20))
    assert there.read(rows(5, 10, 11), is_all=False) == ({10, 11}, 0)
    assert there.read(rows(12, 15, 20, 21), is_all=True) == ({12, 20}, 0)


def test_what_stood_before_a_call_that_was_read_is_in_others_hands():
    """Also a part of a stretch; and with the last call of all, everything."""
    assert unread((10, 14)).read(rows(12, 14), is_all=False) == ({12, 14}, 3)
    assert unread((10, 14), (20, 22)).read(rows(12, 21), is_all=False) == ({12, 21}, 4)
    assert unread((10, 14), (20, 22)).read(rows(), is_all=True) == (set(), 8)


def test_what_stands_after_it_is_still_anybodys():
    there = unread((10, 14), (20, 22))
    assert there.read(rows(10), is_all=False) == ({10}, 0)
    assert there.moments == [10.0, 20.0]
    there.clear()
    assert there.moments == []


@given(data=st.data())
def test_every_own_call_is_read_or_passed_once(data):
    """However the stream is shared out among readers, and whatever the others' calls are."""
    owners = data.draw(st.lists(st.booleans(), min_size=1, max_size=40))
    readers = data.draw(st.lists(st.booleans(), min_size=len(owners), max_size=len(owners)))
    there, first = Unread(), None
    for number, is_own in enumerate([*owners, False]):
        if is_own and first is None:
            first = number
        elif not is_own and first is not None:
            there.add(Added((number - first, first, number - 1)), 1.0)
            first = None
    mine = [number for number, is_mine in enumerate(readers) if is_mine]
    own, passed = set(), 0
    while mine:
        some = [mine.pop(0) for _ in range(data.draw(st.integers(1, len(mine))))]
        found, others = there.read(rows(*some), is_all=not mine)
        own |= found
        passed += others
    if not any(readers):
        _, passed = there.read([], is_all=True)
    assert own == {number for number, is_own in enumerate(owners) if is_own and readers[number]}
    assert len(own) + passed == sum(owners)
