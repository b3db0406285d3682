"""The Redis outbox: whatever happens to its server, or to others that deliver, calls go on and the books balance."""

from __future__ import annotations

import gc
import math
import os
import signal
import sys
import threading
import time

import pytest
from redis.exceptions import ConnectionError as NoConnection

import km_logging as km
from km_logging.errors import OutboxError
from km_logging.outbox import consumer, line, redis
from km_logging.outbox.redis import CHUNK
from support.outboxes import NOW, Bench, kept, requests_of
from support.redis_server import Cable, at, grow_old
from support.servers import refused
from support.tracking import GUARD, KEY, eventually, people, tracker_for


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    for module, name in [(redis, "POLL"), (consumer, "SWEEP"), (consumer, "GRACE")]:
        monkeypatch.setattr(module, name, 0.0)


@pytest.fixture
def _no_backoff(monkeypatch):
    monkeypatch.setattr(line, "backoff", lambda *_: 0.0)


@pytest.fixture
def _no_keeper(monkeypatch):
    """Nobody speaks for what is in a consumer's hands, until it is looked at: as if all its threads stood still."""
    monkeypatch.setattr(consumer.Consumer, "_keep", lambda _: None)
    monkeypatch.setattr(consumer, "KEEP", 0.0)


@pytest.fixture
def start(redis_server):
    """Starts one more outbox on the server; what is left of them is closed at the end, with balanced books."""
    benches = []

    def start_one(where=None, **options):
        benches.append(Bench(where or redis_server.where, **options))
        return benches[-1]

    yield start_one
    for bench in benches:
        bench.check()
        bench.close()
        bench.check()


@pytest.fixture
def cable(redis_server):
    """A line to the server that can be cut."""
    with Cable(redis_server.port) as cable:
        yield cable


def group(server):
    """Consumers of the group, and how many calls each has in its hands."""
    with server.client() as client:
        return {it["name"]: it["pending"] for it in client.xinfo_consumers("km", "km_logging")}


def said(bench):
    return " ".join(map(str, bench.problems))


# What comes in.


def test_what_is_only_put_is_handed_over(start, redis_server):
    """In batches, however many there are; nobody joins a group for that."""
    bench = start(delivers=False)
    requests = [f"/e?_p={number}" for number in range(2 * CHUNK + 1)]
    bench.put(*requests)
    assert (bench.handed_over, bench.outbox.pending, bench.outbox.waiting) == (len(requests), 0, 0)
    assert bench.claim() == []
    assert kept(redis_server.where) == requests
    with redis_server.client() as client:
        assert client.xinfo_groups("km") == []


def test_neither_key_nor_endpoint_is_kept(redis_server, server):
    """In no key of the server's."""
    tracker = tracker_for(server.endpoint, outbox=redis_server.address, deliver=True)
    tracker.event("bob", "Signed Up")
    assert tracker.flush()
    tracker.close()
    with redis_server.client() as client:
        assert set(client.keys()) == {"km", "km:facts"}
        there = f"{client.hgetall('km:facts')} {client.xrange('km')} {client.xinfo_stream('km', full=True)}"
    assert KEY not in there
    assert str(server.port) not in there
    assert people(server) == ["bob"]


def test_a_full_stream_refuses(start, redis_server, monkeypatch):
    """What does not fit is counted as overflow; what is in it stays, and what is delivered makes room."""
    monkeypatch.setattr(redis, "CHUNK", 4)
    bench = start(at(redis_server.address, max=10))
    bench.put(*map(str, range(15)))
    assert (bench.dropped, bench.outbox.pending) == ({"overflow": 5}, 10)
    bench.settle(*bench.claim(3))
    bench.outbox.sync()
    bench.put("a", "b", "c", "d")
    assert bench.dropped == {"overflow": 6}
    assert kept(redis_server.where) == [*map(str, range(3, 10)), "a", "b", "c"]


@pytest.mark.usefixtures("_no_backoff")
def test_what_was_held_waits_until_a_full_stream_has_room(start, redis_server):
    """It was taken when nobody could know that there is none."""
    bench = start(at(redis_server.address, max=2), delivers=False)
    redis_server.keep_from_writing()
    bench.put("a", "b", "c")
    redis_server.let_write()
    bench.mend()
    assert (kept(redis_server.where), bench.outbox.pending, bench.dropped) == (["a", "b"], 1, {})
    other = start()
    other.settle(*other.claim(2))
    other.outbox.sync()
    bench.mend()
    assert (kept(redis_server.where), bench.outbox.pending) == (["c"], 0)


def test_a_relay_that_is_asked_to_put_answers_for_nothing(start):
    """Which it never is; the calls are read like all others."""
    bench = start(is_relay=True)
    bench.put("a")
    assert bench.handed_over == 1


# Without a server.


@pytest.mark.usefixtures("_no_backoff")
def test_calls_wait_in_memory_while_there_is_no_server(start, redis_server, cable):
    """Oldest first, and with the moment when they were accepted; they take up room there."""
    cable.cut()
    bench = start(at(cable.address), delivers=False)
    bench.put("a", "b")
    bench.put("c", now=NOW + 1)
    assert (bench.outbox.pending, bench.outbox.lasting, bench.outbox.oldest) == (3, 0, NOW)
    assert bench.outbox.poll < math.inf
    bench.check()
    cable.mend()
    bench.mend()
    assert (bench.outbox.pending, bench.handed_over, bench.outbox.poll) == (0, 3, math.inf)
    assert kept(redis_server.where) == ["a", "b", "c"]
    assert {problem.kind for problem in bench.problems} == {"outbox"}
    assert "cannot be reached), so calls wait in memory" in said(bench)


def test_a_relay_says_that_it_delivers_nothing_then(start, cable):
    """There is nothing in its memory."""
    relay = start(at(cable.address), is_relay=True)
    cable.cut()
    relay.outbox.look()
    assert "cannot be reached), so nothing is delivered from it" in said(relay)


@pytest.mark.usefixtures("_no_backoff")
def test_whoever_delivers_does_so_from_memory_then(start, cable):
    """The tracking server may be there although the Redis server is not; what is evicted or settled is gone."""
    cable.cut()
    bench = start(at(cable.address))
    bench.put("a", "b", "c", "d")
    (first,) = bench.claim(1)
    assert bench.outbox.holds(first)
    assert bench.evict().request == "b"
    bench.settle(first)
    (third,) = bench.claim(1)
    bench.bury(third)
    assert (first.request, third.request, bench.outbox.pending, bench.outbox.waiting) == ("a", "c", 1, 1)


def test_the_pauses_are_those_of_the_tracking_server(start, monkeypatch):
    """Exponential, with full jitter; and meanwhile nobody asks."""
    asked = []
    monkeypatch.setattr(line, "backoff", lambda *given: asked.append(given) or (0.0 if len(asked) < 4 else math.inf))
    with refused() as endpoint:
        bench = start(at(endpoint.replace("http", "redis")), delivers=False)
        bench.put("a")
        for _ in range(10):
            bench.outbox.look()
    assert [failures for failures, _ in asked] == [1, 2, 3, 4]
    assert all(0 <= jitter < 1 for _, jitter in asked)
    assert len({jitter for _, jitter in asked}) == 4


@pytest.mark.usefixtures("_no_backoff")
def test_the_pauses_begin_anew_once_it_has_worked(start, redis_server, monkeypatch):
    """After an outage that is long ago, nobody waits for half a minute."""
    bench = start()
    for number in range(3):
        redis_server.keep_from_writing()
        bench.put(str(number))
        assert bench.outbox._line._faults > 0
        redis_server.let_write()
        bench.mend()
        assert bench.outbox._line._faults == 0


def test_at_the_end_a_server_that_is_back_gets_what_was_held(start, redis_server, cable, monkeypatch):
    """Whatever pause there is."""
    monkeypatch.setattr(line, "backoff", lambda *_: math.inf)
    cable.cut()
    bench = start(at(cable.address), delivers=False)
    bench.put("a")
    cable.mend()
    bench.outbox.look()
    assert bench.outbox.pending == 1
    bench.close()
    assert (kept(redis_server.where), bench.handed_over) == (["a"], 1)


def test_the_last_try_is_a_short_one(start, cable, monkeypatch):
    """Of many trackers each has one when the time is over; whoever goes on all the same waits as before."""
    bench = start(at(cable.address), delivers=False)
    cable.die()
    bench.put("a")
    waited = []
    real = line.stream_at
    monkeypatch.setattr(
        line, "stream_at", lambda *where, patience: waited.append(patience) or real(*where, patience=0.01)
    )
    bench.outbox.keep_rest()
    bench.mend()
    assert waited == [line.LAST_PATIENCE, line.PATIENCE]
    assert line.LAST_PATIENCE < line.PATIENCE


def test_at_the_end_without_a_server_what_is_held_is_counted(start, cable):
    """As closed: there is nowhere to leave it."""
    cable.cut()
    bench = start(at(cable.address), delivers=False)
    bench.put("a")
    bench.close()
    assert (bench.dropped, bench.handed_over) == ({"closed": 1}, 0)


@pytest.mark.usefixtures("_no_backoff")
@pytest.mark.parametrize("loss", ["the group", "the stream", "everything"])
def test_a_stream_or_group_that_is_taken_away_is_made_again(start, redis_server, loss):
    """What was in it is gone with it, or comes again; what comes after that is delivered."""
    bench = start()
    bench.put("a", "b")
    bench.claim(1)
    with redis_server.client() as client:
        if loss == "the group":
            client.xgroup_destroy("km", "km_logging")
        elif loss == "the stream":
            client.delete("km")
        else:
            client.flushall()
            client.script_flush()
    bench.claimed()
    bench.put("c")
    eventually(lambda: bench.outbox.look() or "c" in bench.claimed())


@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket")  # broken off while redis-py connects
@pytest.mark.parametrize("key", ["k", "another", ""])
def test_who_begins_while_the_servers_memory_is_full_delivers(start, redis_server, key):
    """Nothing else makes room there; what is to be noted of its key is not worth the wait."""
    first = start()
    first.put("a", "b")
    first.close()
    with redis_server.full():
        late = start(api_key=key)
        late.settle(*late.claim())
        late.outbox.sync()
        assert kept(redis_server.where) == []
        assert "memory is full" not in said(late)


def test_a_dead_call_holds_up_nobody_while_the_servers_memory_is_full(start, redis_server):
    """What is delivered makes the room that it needs; until then it stays where it is."""
    bench = start()
    bench.put("a", "b", "c")
    first, *others = bench.claim()
    with redis_server.full():
        bench.bury(first)
        bench.settle(*others)
        bench.outbox.sync()
        assert (kept(redis_server.where), kept(redis_server.where, dead=True)) == (["a"], [])
    bench.mend()
    bench.outbox.sync()
    assert (kept(redis_server.where), kept(redis_server.where, dead=True)) == ([], ["a"])


# Broken off in the middle of a connect, redis-py leaves the socket to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_a_signal_handler_breaks_off_leaves_no_answer_behind(start):
    """The next question gets its own one, whenever that happens."""
    bench = start()
    bench.put("a")
    before = signal.signal(signal.SIGUSR1, _interrupt)
    try:
        for round_ in range(40):
            interruption = threading.Timer(0.002 + round_ * 0.0001, os.kill, (os.getpid(), signal.SIGUSR1))
            with pytest.raises(KeyboardInterrupt):
                interruption.start()
                while True:
                    assert bench.outbox._line.ask(lambda stream: stream.count()) in {1, None}
                    assert bench.outbox._line.ask(lambda stream: stream.count(dead=True)) in {0, None}
            interruption.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert bench.claimed() == ["a"]
    assert bench.problems == []
    gc.collect()


def _interrupt(*_):
    raise KeyboardInterrupt


def test_a_signal_handler_in_the_middle_of_a_question_asks_nothing(start):
    """It would get the answer to the other one; its call is held."""
    bench = start(delivers=False)

    def log(stream):
        bench.put("handler")
        return stream.count()

    assert bench.outbox._line.ask(log) == 0
    assert (bench.outbox.pending, bench.problems) == (1, [])
    bench.mend()
    assert bench.handed_over == 1


def test_a_fork_finds_no_connection_and_the_parent_goes_on(start, redis_server):
    """What was in its hands, still is."""
    bench = start()
    bench.put("a", "b")
    (first,) = bench.claim(1)

    def connections():
        with redis_server.client() as client:
            return sum(it["name"] == "km_logging" for it in client.client_list())

    assert connections() == 1
    bench.outbox.before_fork()
    eventually(lambda: connections() == 0)
    bench.outbox.after_fork()
    bench.settle(first)
    bench.outbox.sync()
    assert bench.claimed() == ["b"]
    assert kept(redis_server.where) == ["b"]


# Several that deliver.


def test_each_call_is_in_the_hands_of_one(start, monkeypatch):
    """Those of everybody, in the books of whoever put them."""
    monkeypatch.setattr(consumer, "FETCH", 2)
    one, two = start(), start()
    one.put("a", "b", "c")
    two.put("d", "e", "f")
    first, second = one.claim(2), two.claim(4)
    third = one.claim(10)
    assert requests_of([*first, *second, *third]) == ["a", "b", "c", "d", "e", "f"]
    assert [entry.is_own for entry in second] == [False, True, True, True]
    assert [entry.is_own for entry in [*first, *third]] == [True, True]


@pytest.mark.parametrize("taken", [1, 2, 3, 4, 5])
def test_own_calls_that_another_one_takes_are_handed_over(start, monkeypatch, taken):
    """Once that is seen; until then they are pending, and so are those that nobody has taken."""
    one, two = start(), start()
    one.put("a", "b")
    one.put("c", "d")
    monkeypatch.setattr(consumer, "FETCH", taken)
    two.claim(taken)
    assert (one.outbox.pending, one.handed_over) == (4, 0)
    monkeypatch.setattr(consumer, "FETCH", 100)
    assert all(entry.is_own for entry in one.claim())
    assert (one.outbox.pending, one.handed_over) == (max(0, 4 - taken), min(4, taken))


def test_what_one_gives_back_at_its_end_others_take_at_once(start, redis_server):
    """And it is a member of the group no more; what is under way then may still end."""
    one, two = start(), start()
    one.put("a", "b", "c", "d")
    ends, fails = one.claim(2)
    one.outbox.close({ends, fails})
    assert two.claimed() == ["c", "d"]
    assert (one.outbox.pending, one.handed_over) == (2, 2)
    assert one.outbox.finish(ends, is_delivered=True)
    assert two.claimed() == []
    assert not one.outbox.finish(fails, is_delivered=False)
    assert two.claimed() == ["b"]
    one._ended += 1
    assert kept(redis_server.where) == ["b", "c", "d"]
    assert {*group(redis_server)} == {two.outbox._consumer.name, "nobody"}


def test_what_was_in_the_hands_of_a_dead_one_is_taken_over(start, redis_server, monkeypatch):
    """A few at a time, until nothing is left of it."""
    monkeypatch.setattr(consumer, "FETCH", 3)
    one = start()
    one.put(*map(str, range(10)))
    one.claim(10)
    one.outbox._line.shut()
    two = start()
    assert two.claimed() == []
    grow_old(redis_server, one.outbox._consumer.name)
    assert two.claimed() == [*map(str, range(10))]
    assert {entry.is_own for entry in two.claim()} <= {False}


def test_who_is_busy_takes_over_in_time(start, redis_server):
    """Not only when everything is done that was at hand, which takes long where the tracking server is slow."""
    dead, busy = start(), start()
    dead.put("a")
    dead.claim()
    busy.put("b", "c")
    assert busy.claimed(1) == ["b"]
    dead.outbox._line.shut()
    grow_old(redis_server, dead.outbox._consumer.name)
    assert busy.outbox.waiting == 2
    assert group(redis_server)[busy.outbox._consumer.name] == 3
    assert busy.claimed() == ["c", "a"]


def test_who_lives_is_not_robbed(start, monkeypatch):
    """Although all its threads wait for the tracking server: it has one that speaks for what is in its hands."""
    monkeypatch.setattr(consumer, "IDLE", 0.3)
    monkeypatch.setattr(consumer, "KEEP", 0.02)
    one, two = start(), start()
    one.put("a", "b")
    one.claim(1)
    kept_at = one.outbox._consumer._kept_at

    def has_waited():
        assert two.claimed() == []
        return one.outbox._consumer._kept_at > kept_at + 3 * consumer.IDLE

    eventually(has_waited)
    one.outbox._consumer._ended.set()
    eventually(lambda: two.claimed() == ["a", "b"])


@pytest.mark.usefixtures("_no_keeper")
def test_what_was_lost_to_another_is_sent_no_more(start, redis_server):
    """But for what is just being sent: it may be there twice, and is counted once."""
    one = start()
    one.put("sent", "waits")
    (sent,) = one.claim(1)
    grow_old(redis_server, one.outbox._consumer.name)
    two = start()
    assert two.claimed() == ["sent", "waits"]
    one.outbox.look()
    assert one.claimed() == []
    assert (one.outbox.pending, one.handed_over) == (1, 1)
    one.settle(sent)
    one.outbox.sync()
    assert kept(redis_server.where) == ["waits"]


@pytest.mark.usefixtures("_no_keeper")
@pytest.mark.parametrize("is_lost", [True, False])
def test_who_stood_still_asks_before_it_begins_with_anything(start, monkeypatch, is_lost):
    """For so long that others may have taken it for dead: what they have taken over it leaves to them."""
    monkeypatch.setattr(consumer, "IDLE", 0.2)
    one, two = start(), start()
    one.put("sent", "waits")
    one.claim(1)
    eventually(lambda: time.monotonic() > one.outbox._consumer._kept_at + consumer.IDLE)
    if is_lost:
        eventually(lambda: two.claimed() == ["sent", "waits"])
    assert one.claimed() == ([] if is_lost else ["waits"])


@pytest.mark.usefixtures("_no_keeper")
def test_who_stood_still_and_cannot_ask_begins_with_nothing(start, redis_server, monkeypatch):
    """Until it can."""
    monkeypatch.setattr(line, "backoff", lambda *_: 0.0)
    monkeypatch.setattr(consumer, "IDLE", 0.2)
    one = start()
    one.put("sent", "waits")
    one.claim(1)
    redis_server.keep_from_writing()
    eventually(lambda: time.monotonic() > one.outbox._consumer._kept_at + consumer.IDLE)
    assert (one.claimed(), one.outbox.waiting, one.outbox.pending) == ([], 0, 2)
    redis_server.let_write()
    assert one.claimed() == ["waits"]


@pytest.mark.usefixtures("_no_keeper")
def test_what_seemed_to_be_a_dead_ones_is_not_begun_twice(start, redis_server, monkeypatch):
    """It is found in the own hands: under way, delivered but not deleted, or waiting for its turn."""
    monkeypatch.setattr(redis, "SETTLE_AFTER", math.inf)
    one = start()
    one.put("under way", "delivered", "refused", "waits")
    under_way, delivered, buried = one.claim(3)
    one.settle(delivered)
    one.bury(buried)
    grow_old(redis_server, one.outbox._consumer.name)
    assert one.claimed() == ["waits"]
    one.outbox._consumer.forget([*one.outbox._consumer._mine])  # as if they had been lost, and came back
    grow_old(redis_server, one.outbox._consumer.name)
    assert one.claimed() == []
    one.settle(under_way)


@pytest.mark.usefixtures("_no_backoff")
def test_after_an_outage_those_that_live_have_the_time_to_say_so(start, redis_server, monkeypatch):
    """But a new one takes over at once: it may be a crontab line."""
    monkeypatch.setattr(consumer, "GRACE", math.inf)
    one, two = start(), start()
    one.put("a")
    one.claim(1)
    two.outbox.look()
    redis_server.keep_from_writing()
    two.claim(1)
    redis_server.let_write()
    grow_old(redis_server, one.outbox._consumer.name)
    two.mend()
    assert two.claimed() == []
    assert start().claimed() == ["a"]


def test_what_one_cannot_send_for_long_others_may_try(start, monkeypatch):
    """Its way to the tracking server may be broken, and not theirs."""
    monkeypatch.setattr(consumer, "LONGEST", 0.0)
    one, two = start(), start()
    one.put("waits long", "waits")
    assert one.outbox.waiting == 2
    assert two.claimed() == []
    one.outbox.look()
    assert two.claimed() == ["waits long", "waits"]
    assert (one.outbox.pending, one.handed_over) == (0, 2)


@pytest.mark.usefixtures("_no_keeper")
def test_what_one_has_begun_with_long_ago_it_speaks_for_no_more(start, redis_server, monkeypatch):
    """Others take it over, as they do from a dead one."""
    one, two = start(), start()
    one.put("a")
    one.claim()
    grow_old(redis_server, one.outbox._consumer.name)
    one.outbox.look()
    assert two.claimed() == []
    monkeypatch.setattr(consumer, "LONGEST", 0.0)
    grow_old(redis_server, one.outbox._consumer.name)
    one.outbox.look()
    assert two.claimed() == ["a"]


@pytest.mark.usefixtures("_no_backoff")
def test_what_cannot_be_deleted_is_not_followed_by_more(start, monkeypatch):
    """It would all come again."""
    monkeypatch.setattr(redis, "MOST_SETTLED", 5)
    monkeypatch.setattr(consumer, "FETCH", 5)
    monkeypatch.setattr(consumer, "GRACE", math.inf)
    bench = start()
    bench.put(*map(str, range(20)))
    monkeypatch.setattr("km_logging.outbox.stream.Stream.delete", _fails)
    bench.settle(*bench.claim(5))
    assert bench.claim() == []
    monkeypatch.undo()
    bench.mend()
    bench.outbox.sync()
    assert len(bench.claim(20)) == 15


def _fails(*_):
    raise OutboxError("no", "yes")


def test_who_was_about_to_end_and_goes_on_delivers_what_others_put_again(start, monkeypatch):
    """After a while; until then only what was put before, by itself."""
    one, two = start(), start(delivers=False)
    one.put("own")
    one.outbox.stop_at_last()
    assert one.claimed() == ["own"]
    two.put("another's")
    one.outbox.look()
    assert one.claimed() == []
    monkeypatch.setattr(redis, "RESUME", 0.0)
    one.outbox.stop_at_last()
    one.outbox.look()
    assert one.claimed() == ["another's"]


# What is said.


def test_another_key_than_before_is_said(start):
    """By those who deliver; whoever only fills the stream has none."""
    start(api_key="first").outbox.look()
    start(api_key="first").outbox.look()
    other, fills = start(api_key="second"), start(delivers=False, api_key="third")
    other.outbox.look()
    fills.put("a")
    assert "another api_key" in said(other)
    assert "one stream for each product" in said(other)
    assert fills.problems == []


def test_a_server_that_evicts_is_said(start, redis_server):
    """Once, by each process."""
    with redis_server.client() as client:
        client.config_set("maxmemory", "1gb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            bench = start(delivers=False)
            bench.put("a")
            bench.put("b")
        finally:
            client.config_set("maxmemory", "0")
            client.config_set("maxmemory-policy", "noeviction")
    assert len(bench.problems) == 1
    assert "noeviction" in said(bench)


def test_a_damaged_call_is_dead_and_holds_up_nobody(start, redis_server):
    """What is said of it shows nothing of what is in it."""
    bench = start(is_relay=True)
    with redis_server.client() as client:
        client.xadd("km", {"request": b"/e?_p=s3cret\xff", "accepted_at": NOW})
        client.xadd("km", {"request": "/e?_p=bob", "accepted_at": NOW})
    bench.outbox.look()
    entries = bench.claim()
    assert requests_of(entries) == ["/e?_p=bob"]
    bench.outbox.sync()
    assert "is damaged" in said(bench)
    assert "s3cret" not in said(bench)
    assert (len(kept(redis_server.where, dead=True)), bench.dropped) == (1, {"rejected": 1})
    bench._given = bench.ledger.taken.value


def test_a_password_is_in_no_text(start, redis_server):
    """Of the outbox, nor of what it says."""
    bench = start(at(redis_server.address.replace("//", "//ann:s3cret@")))
    bench.put("a")
    assert "refuses this user and password" in said(bench)
    assert "s3cret" not in f"{bench.outbox!r} {said(bench)}"
    assert "***@127.0.0.1" in said(bench)


# A tracker.


def test_while_the_server_hangs_the_log_call_does_not(redis_server, cable, logger):
    """Also where old calls make room for new ones, which are in the hands of a thread that waits for an answer."""
    handler = km.KissmetricsHandler(outbox=cable.address, capacity=100, overflow="drop_oldest", drain_timeout=GUARD)
    logger.addHandler(handler)
    logger.info("Signed Up", extra=km.event("first"))
    assert handler.flush()
    cable.die()
    for number in range(1_000):  # while the listener waits for an answer
        logger.info("Signed Up", extra=km.event(f"p-{number}"))
    cable.mend()
    assert handler.flush()
    stats = handler.stats()
    assert (stats.accepted, stats.pending) == (1_001, 0)
    assert stats.handed_over + stats.dropped["overflow"] == 1_001
    assert stats.handed_over >= 101
    assert len(kept(redis_server.where)) >= stats.handed_over  # whose answer was lost was put twice


def test_what_is_wrong_is_said_once_a_minute(cable, caplog):
    """However often it is tried; and nothing is lost but at the end."""
    cable.cut()
    tracker = km.Tracker(outbox=cable.address, drain_timeout=0.5)
    tracker.event("bob", "Signed Up")
    eventually(lambda: tracker.stats().refused["outbox"] >= 3)
    tracker.close()
    assert tracker.stats().dropped == {"closed": 1}
    assert caplog.text.count("cannot be used") == 1


def test_an_application_that_delivers_too(redis_server, server):
    """It is one of those that do: its calls are delivered by it, and in its books."""
    tracker = tracker_for(server.endpoint, outbox=redis_server.address, deliver=True)
    with km.Tracker(outbox=redis_server.address) as other:
        other.event("other", "Signed Up")
    for number in range(300):
        tracker.event(f"p-{number}", "Signed Up")
    assert tracker.flush()
    server.wait(301)
    stats = tracker.stats()
    assert (stats.accepted, stats.delivered, stats.handed_over) == (300, 300, 0)
    eventually(lambda: kept(redis_server.where) == [])
    tracker.close()
    assert sorted(people(server)) == sorted(["other", *(f"p-{number}" for number in range(300))])


def test_two_applications_that_deliver_share_the_work_and_the_books_balance(redis_server, server):
    """What one has taken of the other's calls, the other has handed over."""
    trackers = [tracker_for(server.endpoint, outbox=redis_server.address, deliver=True, senders=2) for _ in range(2)]
    for number in range(300):
        for tracker in trackers:
            tracker.event(f"p-{id(tracker)}-{number}", "Signed Up")
    server.wait(600)
    for tracker in trackers:
        assert tracker.flush()
        tracker.close()
    for tracker in trackers:
        stats = tracker.stats()
        assert (stats.accepted, stats.pending, stats.dropped) == (300, 0, {})
        assert stats.delivered + stats.handed_over == 300
    assert len(people(server)) == len(set(people(server))) == 600
    assert kept(redis_server.where) == []


def test_constructing_opens_nothing(monkeypatch):
    """Neither a connection nor the module."""
    monkeypatch.setattr("redis.Redis.__init__", _refuses)
    km.Tracker(outbox="redis://127.0.0.1:9").close()


def _refuses(*_, **__):
    raise NoConnection


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(line, "find_spec", lambda _: None)
    with pytest.raises(km.MissingExtraError, match=r"pip install 'km_logging\[redis\]'"):
        km.Tracker(outbox="redis://127.0.0.1:9")
    km.Tracker(outbox="redis://127.0.0.1:9", mode="print").close()


def test_a_package_that_cannot_be_imported_is_a_problem(start, monkeypatch):
    """Not the end of the thread that takes the calls: they wait in memory."""
    monkeypatch.setitem(sys.modules, "km_logging.outbox.stream", None)
    bench = start(delivers=False)
    bench.put("a")
    assert "redis-py cannot be imported" in said(bench)
    assert "pip install" in said(bench)
    monkeypatch.undo()
    bench.mend()
    assert bench.handed_over == 1
