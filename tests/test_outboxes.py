"""What delivery relies on in every kind of outbox: one contract suite, and a model of all that may happen to them."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from km_logging.addresses import StreamAddress
from km_logging.ledger import Ledger
from km_logging.outbox import Entry, Outbox, access, consumer, line, make_outbox, redis, sqlite
from km_logging.outbox.election import Election
from km_logging.settings import Settings
from support.outboxes import NOW, Bench, kept, requests_of, writing
from support.redis_server import RedisServer, grow_old

KINDS = ["memory", "sqlite", "redis"]

pytestmark = pytest.mark.usefixtures("_no_pauses")


@pytest.fixture
def _no_pauses(monkeypatch):
    for module, name in [
        (sqlite, "POLL"),
        (sqlite, "PATIENCE"),
        (access, "FIRST_PAUSE"),
        (access, "LONGEST_PAUSE"),
        (redis, "POLL"),
        (consumer, "SWEEP"),
        (consumer, "GRACE"),
    ]:
        monkeypatch.setattr(module, name, 0.0)
    monkeypatch.setattr(line, "backoff", lambda *_: 0.0)
    for module in (sqlite, redis):
        monkeypatch.setattr(module, "SETTLE_AFTER", math.inf)
    # No thread may do anything between two steps of the model.
    monkeypatch.setattr(consumer.Consumer, "_keep", lambda _: None)
    monkeypatch.setattr(Election, "wait", lambda *_: None)


def _server_of(request, kind):
    """The server that an outbox of this kind needs."""
    return request.getfixturevalue("redis_server") if kind == "redis" else None


@pytest.fixture(params=KINDS)
def where(request, tmp_path):
    """Where an outbox of one kind is."""
    server = _server_of(request, request.param)
    return server.where if server else tmp_path / "km.db" if request.param == "sqlite" else None


@pytest.fixture
def bench(where):
    """A new outbox."""
    bench = Bench(where)
    yield bench
    bench.check()
    bench.close()
    bench.check()


def test_a_new_outbox_is_empty(bench):
    """There is nothing to claim, to evict, or to wait for."""
    outbox = bench.outbox
    assert (outbox.waiting, outbox.pending, outbox.lasting, outbox.oldest) == (0, 0, 0, None)
    assert bench.claim() == []
    assert bench.evict() is None


def test_what_was_put_is_claimed_as_it_was_oldest_first(bench):
    """With the moment it was accepted, as a call of this process that was not tried yet."""
    bench.put("/e?_p=1", "/e?_p=2")
    bench.put("/e?_p=3")
    entries = bench.claim()
    assert requests_of(entries) == ["/e?_p=1", "/e?_p=2", "/e?_p=3"]
    assert {(entry.accepted_at, entry.tries, entry.is_own) for entry in entries} == {(NOW, 0, True)}
    assert [entry.number for entry in entries] == sorted({entry.number for entry in entries})


def test_no_more_is_claimed_than_asked_for_and_nothing_twice(bench):
    """Neither before nor after it is settled."""
    bench.put("a", "b", "c")
    (first,) = bench.claim(1)
    assert bench.claimed(1) == ["b"]
    assert bench.outbox.waiting == 1
    bench.settle(first)
    assert bench.claimed() == ["c"]
    assert bench.claimed() == []


def test_what_was_tried_settles_too(bench):
    """Delivery counts the tries in the entry that it settles."""
    bench.put("a")
    (claimed,) = bench.claim()
    assert bench.outbox.pending == 1
    bench.settle(claimed._replace(tries=3))
    assert (bench.outbox.pending, bench.outbox.waiting) == (0, 0)


def test_what_is_buried_is_pending_no_longer(bench):
    """It is not claimed again."""
    bench.put("a", "b")
    bench.bury(bench.claim(1)[0])
    assert bench.outbox.pending == 1
    bench.outbox.sync()
    bench.outbox.look()
    assert bench.claimed() == ["b"]


def test_only_what_takes_up_room_in_memory_is_evicted(bench):
    """That is the oldest in memory that is not claimed, and nothing of what is in a file."""
    bench.put("a", "b")
    (claimed,) = bench.claim(1)
    evicted = bench.evict()
    assert bench.outbox.holds(claimed) is (evicted is not None) is (bench.outbox.lasting == 0)
    assert bench.claimed() == ([] if evicted else ["b"])
    assert bench.evict() is None


def test_an_empty_put_changes_nothing(bench):
    """The listener does so before every mark."""
    bench.put()
    assert bench.outbox.pending == 0


def test_the_span_holds_the_numbers_of_all_entries(bench):
    """And of none that comes later."""
    bench.put("a", "b")
    span = bench.outbox.span
    assert all(entry.number in span for entry in bench.claim())
    bench.put("c")
    assert bench.claim()[0].number not in span


def test_texts_come_back_as_they_were(bench):
    """A request is ASCII, and up to 8,000 bytes long."""
    requests = ["/e?_p=%F0%9F%98%80&_n=%00%0D%0A", "/s?_p=x&a=" + "y" * 7_900, "/a?_p=a&_n=b"]
    bench.put(*requests)
    assert bench.claimed() == requests


def test_many_calls_at_once_all_come(bench):
    """More than one statement takes."""
    requests = [f"/e?_p={number}" for number in range(1_000)]
    bench.put(*requests)
    assert bench.claimed(2_000) == requests


def test_what_is_left_at_the_close_is_dropped_or_left_to_others(bench, where):
    """What lasts is handed over, and still there; what does not is counted as closed."""
    bench.put("a", "b", "c")
    bench.settle(*bench.claim(1))
    bench.close()
    bench.check()
    assert bench.outbox.pending == 0
    if bench.handed_over:
        assert kept(where) == ["b", "c"]
    assert (bench.handed_over, bench.dropped.get("closed", 0)) in {(2, 0), (0, 2)}


def test_the_moment_of_the_oldest_that_waits(bench):
    """Whether it was read from the file already or not; what is claimed is delivery's business."""
    bench.put("a", now=NOW - 5)
    bench.put("b")
    assert bench.outbox.oldest == NOW - 5
    bench.claim(1)
    assert bench.outbox.oldest == NOW
    bench.claim()
    assert bench.outbox.oldest is None


@pytest.mark.parametrize(
    ("mode", "address", "kind"),
    [
        ("live", "memory:", "MemoryOutbox"),
        ("live", "sqlite:///km.db", "SqliteOutbox"),
        ("live", "redis://127.0.0.1:9", "RedisOutbox"),
        ("print", "sqlite:///km.db", "MemoryOutbox"),
        ("print", "redis://127.0.0.1:9", "MemoryOutbox"),
    ],
)
def test_the_settings_say_which_kind_it_is(tmp_path, monkeypatch, mode, address, kind):
    """What is only printed needs no file; and none is opened before the first call."""
    monkeypatch.chdir(tmp_path)
    settled = Settings.resolve({"api_key": "k", "mode": mode, "outbox": address}, {})
    made = make_outbox(settled, ledger=Ledger(), left=len, report=print)
    assert type(made).__name__ == kind
    assert list(tmp_path.iterdir()) == []


class Model(RuleBasedStateMachine):
    """Processes share an outbox, end, crash and are kept from writing: nothing is lost, and nothing comes twice.

    A crash may lose what was only in memory, and may bring back what was settled in the last moment.
    """

    kind = "memory"
    server: RedisServer | None = None

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._where: Path | StreamAddress | None = Path(self._folder.name) / "km.db"
        if self.server is not None:
            with self.server.client() as client:
                client.flushall()
            self._where = self.server.where
        self._is_locked = False
        self._lock = None
        self._ended: list[str] = []  # consumers of the group
        self._number = 0
        self._put: set[str] = set()
        self._gone: set[str] = set()  # never to come again
        self._loose: set[str] = set()  # may be lost, or come again
        self._buried: set[str] = set()
        self._benches: list[Bench] = []
        self._hands: dict[Bench, list[Entry]] = {}
        self._seen: dict[Bench, dict[str, int]] = {}
        self.open()

    def _any(self, data: st.DataObject) -> Bench:
        return data.draw(st.sampled_from(self._benches))

    @property
    def _shares(self) -> bool:
        return self.kind != "memory"

    @precondition(lambda self: self._shares and len(self._benches) < 3)
    @rule()
    def open(self) -> None:
        """Another process begins."""
        bench = Bench(self._where if self._shares else None)
        self._benches.append(bench)
        self._hands[bench], self._seen[bench] = [], {}

    @rule(data=st.data(), count=st.integers(0, 5))
    def put(self, data: st.DataObject, count: int) -> None:
        """Put new calls."""
        requests = [f"/e?_p={self._number + offset}" for offset in range(count)]
        self._number += count
        self._any(data).put(*requests)
        self._put.update(requests)

    @rule(data=st.data(), limit=st.integers(1, 4))
    def claim(self, data: st.DataObject, limit: int) -> None:
        """Claim some of them; what fails is simply not settled."""
        self._claim(self._any(data), limit)

    def _claim(self, bench: Bench, limit: int) -> None:
        entries = bench.claim(limit)
        assert len(entries) <= limit
        for entry in entries:
            assert entry.request not in self._seen[bench] | dict.fromkeys(self._gone)
            self._seen[bench][entry.request] = entry.number
        self._hands[bench] += entries

    @rule(data=st.data(), is_sound=st.booleans())
    def end(self, data: st.DataObject, *, is_sound: bool) -> None:
        """Settle or bury one that was claimed, in any order."""
        bench = self._any(data)
        if not self._hands[bench]:
            return
        entry = self._hands[bench].pop(data.draw(st.integers(0, len(self._hands[bench]) - 1)))
        self._gone.add(entry.request)
        if is_sound:
            bench.settle(entry)
        else:
            if self._shares and entry.number > 0:
                self._buried.add(entry.request)
            bench.bury(entry)

    @rule(data=st.data())
    def evict(self, data: st.DataObject) -> None:
        """Give up the oldest in memory."""
        evicted = self._any(data).evict()
        if evicted is not None:
            self._gone.add(evicted.request)

    @rule(data=st.data())
    def sync(self, data: st.DataObject) -> None:
        """A worker has nothing to do."""
        bench = self._any(data)
        bench.outbox.sync()
        bench.outbox.look()

    @precondition(lambda self: self._shares and len(self._benches) > 1)
    @rule(data=st.data(), is_crash=st.booleans())
    def leave(self, data: st.DataObject, *, is_crash: bool) -> None:
        """A process ends in order, or is killed."""
        bench = self._any(data)
        self._benches.remove(bench)
        outbox = bench.outbox
        self._loose.update(entry.request for entry in [*outbox._held, *self._hands[bench]] if entry.number < 0)
        if is_crash:
            self._crash(outbox)
        else:
            bench.close()
            bench.check()
        if self.kind == "redis":
            self._ended.append(outbox._consumer.name)
        left = {*outbox._settled, *outbox._buried}
        unsynced = {request for request, number in self._seen[bench].items() if number in left}
        self._loose |= unsynced
        self._gone -= unsynced
        self._buried -= unsynced

    def _crash(self, outbox: Outbox) -> None:
        if self.kind == "redis":
            outbox._consumer._ended.set()
            outbox._line.shut()
            return
        outbox._access.withdraw()
        if outbox._access.file is not None:
            outbox._access.file.close()

    def _let_time_pass(self) -> None:
        while self._ended:
            grow_old(self.server, self._ended.pop())

    @precondition(lambda self: self._ended and not self._is_locked)
    @rule()
    def wait(self) -> None:
        """Until those that have ended are known to be dead."""
        self._let_time_pass()

    @precondition(lambda self: self._shares and not self._is_locked)
    @rule()
    def lock(self) -> None:
        """Another program begins to write to the file, and does not end; the server becomes a replica."""
        if self.kind == "redis":
            self.server.keep_from_writing()
        elif not self._where.exists():
            return
        else:
            self._lock = writing(self._where)
        self._is_locked = True

    @precondition(lambda self: self._is_locked)
    @rule()
    def unlock(self) -> None:
        """That is over."""
        if self.kind == "redis":
            self.server.let_write()
            self._let_time_pass()
        else:
            self._lock.close()
        self._is_locked = False

    @invariant()
    def keeps_the_books(self) -> None:
        """Every call is in one column, and one process at most delivers from a file."""
        for bench in self._benches:
            bench.check()
        if self.kind == "sqlite":
            assert sum(bench.outbox.leads for bench in self._benches) <= 1

    def teardown(self) -> None:
        """In the end, all calls are gone, in somebody's hands, or can be claimed."""
        if self._is_locked:
            self.unlock()
        self._let_time_pass()
        for bench in [*self._benches, *self._benches]:  # first all put what they hold
            bench.outbox.look()
            self._claim(bench, 1_000)
        there = {entry.request for bench in self._benches for entry in self._hands[bench]}
        assert self._put - self._loose <= there | self._gone
        for bench in self._benches:
            bench.close()
            bench.check()
        if self._buried:
            assert set(kept(self._where, dead=True)) == self._buried
        self._folder.cleanup()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost_and_nothing_comes_twice(request, kind):
    """Whatever happens, in whatever order."""
    case = type("Case", (Model,), {"kind": kind, "server": _server_of(request, kind)}).TestCase
    case.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
    case().runTest()
