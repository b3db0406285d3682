"""A replay takes every call that is wanted to where it goes, says what it cannot, and goes on where it stopped."""

from __future__ import annotations

import gzip
import json
import math
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from km_logging.calls import Call, Problem
from km_logging.errors import OutboxError
from km_logging.replay import Nowhere, Place, PlaceFile, Replay, Sending, Sink, Source, Stop, Storing, Wanted
from km_logging.replay.replay import BATCH, MOST_NAMES, OTHER_NAMES
from km_logging.replay.sinks import ROOM
from km_logging.replay.source import LONGEST_LINE
from km_logging.settings import Settings
from support.logfile import made, write
from support.servers import Reply, TrackingServer
from support.tracking import GUARD, KEY, Answers, people

NOON = 1_700_000_000


class Noted:
    """Remembers what a replay has to say.

    Args:
        on_tick: is called with each tick.
    """

    def __init__(self, on_tick: Callable[[Replay], None] = lambda _: None) -> None:
        self.problems: list[tuple[str, str]] = []
        self.notes: list[tuple[str, str]] = []
        self.refused: list[tuple[str, str]] = []
        self.tick = on_tick

    def problem(self, where: str, problem: Problem) -> None:
        self.problems.append((where, problem.kind))

    def rejected(self, where: str, what: str) -> None:
        self.refused.append((where, what))

    def note(self, where: str, text: str) -> None:
        self.notes.append((where, text))


def settings_of(**given: object) -> Settings:
    return Settings.resolve({"mode": "off", "drain_timeout": GUARD, **given}, {})


def replay_of(
    sink: Sink, watch: Noted | None = None, stop: Stop | None = None, rate: float = math.inf, **given: Any
) -> Replay:
    wanted = given.pop("wanted", None) or Wanted()
    return Replay(settings_of(**given), sink, watch or Noted(), wanted=wanted, rate=rate, stop=stop or Stop())


def sending(server: TrackingServer | str, **given: object) -> Sending:
    endpoint = server if isinstance(server, str) else server.endpoint
    return Sending(Settings.resolve({"api_key": KEY, "endpoint": endpoint, "retry_for": GUARD, **given}, {}), print)


def storing(outbox: str) -> Storing:
    return Storing(Settings.resolve({"outbox": outbox, "deliver": False}, {}))


def read(replay: Replay, path: Path, kept: PlaceFile | None = None, *, resumes: bool = False) -> None:
    with path.open("rb") as file:
        replay.read(Source(file, path.name), kept, resumes=resumes)


def kept_of(path: Path, job: str = "job") -> PlaceFile:
    return PlaceFile(path.with_name(f"{path.name}.km-replay"), job)


def place_in(path: Path) -> Place | None:
    found = kept_of(path).find(lambda most: path.read_bytes()[:most])
    return found if isinstance(found, Place) else None


def line(person: str, name: str = "Signed Up", timestamp: float = NOON, **fields: object) -> str:
    return json.dumps({"km": "event", "person": person, "event": name, "timestamp": timestamp, **fields}) + "\n"


def lines(*names: str) -> str:
    return "".join(map(line, names))


def log_of(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "app.log"
    path.write_text(text)
    return path


def numbered(count: int) -> list[str]:
    return [f"user-{number}" for number in range(count)]


def without_key(targets: list[str]) -> list[str]:
    return sorted(target.replace("_k=k3y-of%2Fthe+product&", "") for target in targets)


@pytest.mark.parametrize("transport", ["requests", "curl"])
def test_every_call_of_a_log_arrives_as_its_line_says(transport, server, tmp_path):
    """Of every form; what they must be is known by the API specification alone."""
    write(tmp_path / "app.log", 2_000, seed=7)
    replay = replay_of(sending(server, transport=transport))
    read(replay, tmp_path / "app.log")
    assert replay.finish()
    expected = sorted(one.request for one in made(2_000, seed=7) if one.request)
    assert without_key(server.targets) == expected
    counts, stats = replay.counts, replay.stats()
    assert (counts.lines, counts.calls, counts.passed_over, counts.untold) == (2_000, 400, 1_600, 0)
    assert (stats.accepted, stats.delivered, stats.pending) == (400, 400, 0)
    assert replay.bytes_read == (tmp_path / "app.log").stat().st_size


def test_what_is_not_wanted_is_counted_and_not_sent(server, tmp_path):
    text = line("ann") + line("bob") + line("bob", "Searched") + line("bob", timestamp=NOON + 60)
    text += json.dumps({"km": "alias", "person": "rob", "identity": "bob", "event": "Linked"}) + "\n"
    path = log_of(tmp_path, text)
    wishes = {
        Wanted(): 5,
        Wanted(people=frozenset({"bob"})): 4,
        Wanted(names=frozenset({"Signed Up"})): 3,
        Wanted(names=frozenset({"Signed Up"}), people=frozenset({"bob"})): 2,
        Wanted(since=NOON + 60): 2,
        Wanted(until=NOON + 60): 4,
        Wanted(since=NOON, until=NOON + 61): 5,
    }
    for wanted, calls in wishes.items():
        replay = replay_of(Nowhere(), wanted=wanted)
        read(replay, path)
        assert (replay.counts.calls, replay.counts.unwanted) == (calls, 5 - calls), wanted


def test_an_alias_has_the_time_of_its_line(tmp_path):
    stamped = {"km": "alias", "person": "rob", "identity": "bob", "event": "Linked", "timestamp": NOON}
    replay = replay_of(Nowhere(), wanted=Wanted(since=NOON + 1))
    read(replay, log_of(tmp_path, json.dumps(stamped) + "\n"))
    assert (replay.counts.calls, replay.counts.unwanted) == (0, 1)


def test_what_cannot_be_told_is_said_with_its_line(tmp_path):
    """A call whose property is left out is sent; one that is not wanted has nothing to say."""
    text = (
        lines("ann") + "text\n" + line("") + line("bob", km="evnt") + line("bob", plan=["x" * 600]) + line("bob", km=3)
    )
    watch = Noted()
    replay = replay_of(Nowhere(), watch)
    read(replay, log_of(tmp_path, text))
    assert watch.problems == [("app.log:3", "bad_person"), ("app.log:4", "unknown_call"), ("app.log:5", "long_value")]
    assert (replay.counts.untold, replay.counts.calls, replay.counts.passed_over) == (2, 2, 2)
    assert replay.counts.problems == Counter(bad_person=1, unknown_call=1, long_value=1)
    other = Noted()
    read(replay_of(Nowhere(), other, wanted=Wanted(people=frozenset({"ann"}))), tmp_path / "app.log")
    assert [kind for _, kind in other.problems] == ["bad_person", "unknown_call"]


TAGGED = line("bob").encode()


@pytest.mark.parametrize(
    "lost",
    [
        TAGGED.replace(b"Signed", b"Sign\xe9"),
        TAGGED.replace(b"}", b""),
        b"app-1 | " + TAGGED,
        TAGGED.replace(b"}", b', "more": "' + b"x" * LONGEST_LINE + b'"}'),
        TAGGED.replace(b"{", b'{"more": "' + b"x" * 3 * LONGEST_LINE + b'", '),
    ],
    ids=["Latin-1", "cut off", "after a prefix", "too long", "much too long"],
)
def test_a_tagged_line_that_cannot_be_read_is_said_and_the_others_go_on(lost, tmp_path):
    path = tmp_path / "app.log"
    path.write_bytes(TAGGED + lost + TAGGED)
    watch = Noted()
    replay = replay_of(Nowhere(), watch)
    read(replay, path)
    assert watch.problems == [("app.log:2", "bad_line")]
    assert (replay.counts.lost, replay.counts.calls, replay.counts.lines) == (1, 2, 3)


@pytest.mark.parametrize(
    "passed",
    [
        TAGGED.rstrip(b"}\n"),
        b'driven: 12 "km"\n',
        b'{"event": "' + b"x" * 2 * LONGEST_LINE + b'"}\n',
        b"x" * 2 * LONGEST_LINE,
    ],
    ids=["unfinished", "no call", "a long one of others", "no end"],
)
def test_what_may_be_passed_over_is_not_said(passed, tmp_path):
    path = tmp_path / "app.log"
    path.write_bytes(TAGGED + passed)
    watch = Noted()
    replay = replay_of(Nowhere(), watch)
    read(replay, path)
    assert (watch.problems, replay.counts.lost, replay.counts.calls) == ([], 0, 1)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_file_in_utf_16_is_said(encoding, tmp_path):
    path = tmp_path / "app.log"
    path.write_bytes(TAGGED.decode().encode(encoding))
    watch = Noted()
    replay = replay_of(Nowhere(), watch)
    read(replay, path, kept_of(path), resumes=True)
    assert watch.problems == [("app.log:1", "bad_line")]
    assert replay.counts.lost == 1


def test_names_are_counted_and_formatted_ones_are_said(tmp_path):
    """No more than so many: a log may hold a name for every order, and memory must not grow with it."""
    count = MOST_NAMES + 50
    watch = Noted()
    replay = replay_of(Nowhere(), watch)
    read(replay, log_of(tmp_path, "".join(line("bob", f"Order {number} placed") for number in range(count))))
    assert len(replay.counts.names) == MOST_NAMES + 1
    assert replay.counts.names["event", OTHER_NAMES] == 50
    assert {kind for _, kind in watch.problems} == {"formatted_name"}


def test_before_send_changes_and_withholds(server, tmp_path):
    def redact(call: Call) -> Call | None:
        call.properties["plan"] = "hidden"
        return None if call.person == "bob" else call

    replay = replay_of(sending(server), before_send=redact)
    read(replay, log_of(tmp_path, lines("ann", "bob")))
    assert replay.finish()
    assert people(server) == ["ann"]
    assert "plan=hidden" in server.targets[0]
    assert replay.stats().dropped == {"withheld": 1}


def test_a_rate_bounds_the_calls_a_second(tmp_path):
    """Never more of them; it may take longer."""
    put: list[tuple[float, int]] = []

    class Timed(Nowhere):
        def put(self, requests: Sequence[str]) -> None:
            put.append((time.monotonic(), len(requests)))

    replay = replay_of(Timed(), rate=50.0)
    read(replay, log_of(tmp_path, lines(*numbered(25))))
    assert [count for _, count in put] == [5] * 5
    assert all(later - earlier >= 0.1 for (earlier, _), (later, _) in pairwise(put))


def test_calls_that_the_server_refuses_are_given_up_and_the_others_go_on(tmp_path):
    """They would be refused again, so the place goes past them, once they were named."""
    watch = Noted()
    with TrackingServer(Answers(bob=[Reply(400)] * 3)) as server:
        path = log_of(tmp_path, lines("ann", "bob", "eve"))
        replay = replay_of(sending(server), watch)
        read(replay, path, kept_of(path))
        assert replay.finish()
    assert replay.stats().dropped == {"rejected": 1}
    assert watch.refused == [("app.log:2", "the event 'Signed Up'")]
    assert set(people(server)) == {"ann", "bob", "eve"}
    assert place_in(path) == Place(3, path.stat().st_size)


def test_where_nothing_can_be_delivered_a_replay_gives_up_and_keeps_the_place(tmp_path):
    """What expired is tried again by the next replay: nothing is lost that way."""
    path = log_of(tmp_path, lines(*numbered(50)))
    with TrackingServer(lambda *_: Reply(503)) as server:
        replay = replay_of(sending(server, retry_for=0.05))
        read(replay, path, kept_of(path))
        assert not replay.finish()
    assert replay.has_given_up
    assert replay.is_over
    assert place_in(path) in (None, Place(0, 0))
    with TrackingServer() as server:
        again = replay_of(sending(server))
        read(again, path, kept_of(path), resumes=True)
        assert again.finish()
        assert set(people(server)) == set(numbered(50))


# Places.


def test_it_goes_on_where_it_stopped(server, tmp_path):
    """Also in a file that has grown, and been compressed, meanwhile."""
    path = log_of(tmp_path, lines("ann", "bob"))
    for _ in range(2):
        replay = replay_of(sending(server))
        read(replay, path, kept_of(path), resumes=True)
        assert replay.finish()
    assert sorted(people(server)) == ["ann", "bob"]
    path.write_bytes(gzip.compress(path.read_bytes() + lines("eve").encode()))
    watch = Noted()
    replay = replay_of(sending(server), watch)
    read(replay, path, kept_of(path), resumes=True)
    assert replay.finish()
    assert people(server)[2:] == ["eve"]
    assert watch.notes == [("app.log", "goes on after line 2")]
    assert replay.counts.lines == 1


def test_a_line_whose_end_is_missing_is_read_and_read_again_once_it_is_whole(server, tmp_path):
    """The application may be about to write the rest of it."""
    whole = lines("ann") + lines("bob").rstrip() + "\n" + lines("eve")
    for cut in (len(lines("ann")), len(lines("ann", "bob")) - 1, len(lines("ann")) + 10):
        path = log_of(tmp_path, whole[:cut])
        first = replay_of(sending(server))
        read(first, path, kept_of(path))
        assert first.finish()
        assert place_in(path) == Place(1, len(lines("ann")))
        path.write_text(whole)
        second = replay_of(sending(server))
        read(second, path, kept_of(path), resumes=True)
        assert second.finish()
        assert place_in(path) == Place(3, len(whole))
        assert set(people(server)) == {"ann", "bob", "eve"}


@pytest.mark.parametrize("change", ["another file", "shorter", "another job", "no place"])
def test_without_a_place_that_fits_it_begins_at_the_beginning_and_says_so(change, server, tmp_path):
    path = log_of(tmp_path, lines("ann", *numbered(100)))
    first = replay_of(sending(server))
    read(first, path, kept_of(path))
    assert first.finish()
    server.targets.clear()
    job = "job"
    if change == "another file":
        path.write_text(lines("eve"))
    elif change == "shorter":
        path.write_text(lines("ann", *numbered(50)))
    elif change == "another job":
        job = "another job"
    else:
        kept_of(path).remove()
    expected = path.read_text().count("\n")
    watch = Noted()
    second = replay_of(sending(server), watch)
    read(second, path, kept_of(path, job), resumes=True)
    assert second.finish()
    assert len(server.targets) == expected
    [(_, said)] = watch.notes
    assert "beginning" in said


def test_a_place_is_never_past_a_call_that_is_not_delivered(tmp_path):
    """The first call gets no answer for long; whatever comes after it, the place stays before it until it does."""
    release = threading.Event()
    path = log_of(tmp_path, lines("slow", *numbered(500)))
    seen: list[Place | None] = []

    def look(replay: Replay) -> None:
        seen.append(place_in(path))
        if replay.stats().delivered >= 500:
            release.set()

    with TrackingServer(Answers(slow=[release])) as server:
        replay = replay_of(sending(server), Noted(look), rate=1_000)
        read(replay, path, kept_of(path))
        assert replay.finish()
    assert set(seen) <= {None, Place(0, 0)}
    assert place_in(path) == Place(501, path.stat().st_size)


def test_places_are_kept_while_a_file_is_read(tmp_path):
    """Not only at its end: a process that is killed has written the last one that it could."""
    path = log_of(tmp_path, lines(*numbered(2_000)))
    seen: set[int] = set()

    def look(_: Replay) -> None:
        place = place_in(path)
        seen.add(place.lines if place else 0)

    with TrackingServer() as server:
        replay = replay_of(sending(server), Noted(look), rate=2_000)
        read(replay, path, kept_of(path))
        assert replay.finish()
    assert seen - {0, 2_000}
    assert max(seen) <= 2_000


def test_a_place_that_cannot_be_kept_is_said_once(server, tmp_path):
    path = log_of(tmp_path, lines(*numbered(300)))
    watch = Noted()
    replay = replay_of(sending(server), watch, rate=500)
    kept = PlaceFile(tmp_path / "nowhere" / "place", "job")
    read(replay, path, kept)
    assert replay.finish()
    [(where, said)] = watch.notes
    assert where == str(kept.path)
    assert "--state" in said
    assert len(server.targets) == 300


def test_of_a_damaged_file_what_comes_before_is_sent(server, tmp_path):
    """It is no replay of everything: that is said, and the place stays."""
    path = tmp_path / "app.log.gz"
    content = gzip.compress(lines(*numbered(30_000)).encode())
    path.write_bytes(content[: len(content) // 2])
    watch = Noted()
    replay = replay_of(sending(server), watch, wanted=Wanted(people=frozenset({"user-1", "user-29999"})))
    read(replay, path, kept_of(path))
    assert not replay.finish()
    assert replay.counts.faults == 1
    assert people(server) == ["user-1"]
    [(where, said)] = watch.notes
    assert where == "app.log.gz"
    assert "cannot be read" in said


# Stopping.


def test_asked_to_stop_it_delivers_what_it_has_taken(tmp_path):
    count = 4 * ROOM
    path = log_of(tmp_path, lines(*numbered(count)))
    stop = Stop()

    def ask(replay: Replay) -> None:
        if replay.counts.calls > 1_000 and not stop.is_asked:
            stop.ask()

    with TrackingServer() as server:
        replay = replay_of(sending(server), Noted(ask), stop, rate=20_000)
        read(replay, path, kept_of(path))
        assert not replay.finish()
        done = set(people(server))
        place = place_in(path)
        assert place is not None
        assert 0 < place.lines < count
        assert done >= set(numbered(place.lines))
        again = replay_of(sending(server))
        read(again, path, kept_of(path), resumes=True)
        assert again.finish()
        assert set(people(server)) == set(numbered(count))
    assert sum(Counter(people(server)).values()) <= count + ROOM + 200


def test_asked_twice_it_stops_at_once(tmp_path):
    """Although the server holds back every answer."""
    never = threading.Event()
    stop = Stop()

    def ask(replay: Replay) -> None:
        if replay.counts.calls:
            stop.ask()

    path = log_of(tmp_path, lines(*numbered(5_000)))
    with TrackingServer(Answers(never)) as server:
        replay = replay_of(sending(server), Noted(ask), stop)
        read(replay, path, kept_of(path))
        assert not replay.finish()
        never.set()
    assert place_in(path) in (None, Place(0, 0))


def test_a_read_that_waits_is_broken_off():
    """Ctrl-C comes while stdin says nothing; the handler runs in the thread that reads."""
    stop, watch = Stop(), Noted()
    reading, writing = os.pipe()
    os.write(writing, lines("ann").encode())
    replay = replay_of(Nowhere(), watch, stop)

    class Waiting:
        """Of a real stream, the signal comes in the middle of the second read."""

        def __init__(self, stream: Any) -> None:
            self._stream = stream
            self._reads = 0

        def read1(self, size: int) -> bytes:
            self._reads += 1
            if self._reads > 1:
                stop.ask()
            return self._stream.read1(size)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._stream, name)

    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb"):
        replay.read(Source(Waiting(stream), "stdin", stop.during))
    assert replay.counts.calls == 1
    assert stop.is_asked
    assert not stop.is_urgent
    assert not replay.finish()


# Into an outbox.


def test_calls_are_put_into_an_outbox_that_others_deliver_from(tmp_path):
    """Committed with each batch, for whoever delivers; the file is for its owner only."""
    sink = storing(f"sqlite:///{tmp_path}/km.db")
    replay = replay_of(sink)
    path = log_of(tmp_path, lines(*numbered(1_000)))
    read(replay, path, kept_of(path))
    with closing(sqlite3.connect(tmp_path / "km.db")) as file:
        assert file.execute("SELECT count(*), min(origin), max(origin) FROM calls").fetchone() == (1_000, 0, 0)
    assert replay.finish()
    assert (tmp_path / "km.db").stat().st_mode & 0o777 == 0o600
    assert replay.stats().handed_over == 1_000
    assert place_in(path) == Place(1_000, path.stat().st_size)


def test_a_full_outbox_is_an_error_and_the_place_stays_before_it(tmp_path):
    path = log_of(tmp_path, "".join(line(f"user-{number}", plan="x" * 500) for number in range(5_000)))
    replay = replay_of(storing(f"sqlite:///{tmp_path}/km.db?max_mb=1"))
    with pytest.raises(OutboxError, match="full"):
        read(replay, path, kept_of(path))
    replay.finish()
    with closing(sqlite3.connect(tmp_path / "km.db")) as file:
        put = file.execute("SELECT count(*) FROM calls").fetchone()[0]
    place = place_in(path)
    assert 0 < put < 5_000
    assert place is None or place.lines <= put


def test_an_outbox_that_somebody_locks_is_waited_for(tmp_path):
    """Once something was put into it; what cannot be used from the beginning is a mistake, and said at once."""
    path = log_of(tmp_path, lines(*numbered(400)))
    with pytest.raises(OutboxError, match="make the directory"):
        read(replay_of(storing(f"sqlite:///{tmp_path}/nowhere/km.db")), path)
    locked: list[sqlite3.Connection] = []

    def lock(replay: Replay) -> None:
        if replay.stats().handed_over and not locked:
            locked.append(sqlite3.connect(tmp_path / "km.db", isolation_level=None, check_same_thread=False))
            locked[0].execute("BEGIN IMMEDIATE")
            threading.Timer(1.0, locked[0].execute, ["ROLLBACK"]).start()

    replay = replay_of(storing(f"sqlite:///{tmp_path}/km.db"), Noted(lock), rate=500)
    read(replay, path)
    assert replay.finish()
    assert locked
    locked[0].close()
    assert replay.stats().handed_over == 400


def test_memory_holds_no_more_than_a_few_calls(tmp_path):
    """However fast lines come and however slow the server is."""
    release = threading.Event()
    path = log_of(tmp_path, lines(*numbered(3 * ROOM)))
    taken: list[int] = []

    def look(replay: Replay) -> None:
        if not release.is_set():
            taken.append(replay.counts.calls)
            if len(taken) > 3 and taken[-3] == taken[-1]:
                release.set()

    with TrackingServer(Answers(release)) as server:
        replay = replay_of(sending(server), Noted(look))
        read(replay, path)
        assert replay.finish()
    assert ROOM <= taken[-1] <= ROOM + 2 * BATCH
    assert set(people(server)) == set(numbered(3 * ROOM))
