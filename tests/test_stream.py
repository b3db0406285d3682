"""The stream of a Redis outbox, on a real server: what is kept there, and what goes wrong, said with its remedy."""

from __future__ import annotations

import re
import socket
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from km_logging.addresses import parse_outbox
from km_logging.errors import MissingExtraError, OutboxError
from km_logging.outbox import line
from km_logging.outbox.line import stream_at
from km_logging.outbox.opening import opened
from support.redis_server import RedisServer, at
from support.servers import refused
from support.tls import authority
from support.tracking import GUARD

NOW = 1_700_000_000.0
ME = "me"


@pytest.fixture
def open_stream(redis_server):
    """Opens one more connection, with a part of the address changed."""
    opened = []

    def open_one(**changes):
        opened.append(stream_at(replace(redis_server.where, **changes), patience=GUARD))
        return opened[-1]

    yield open_one
    for stream in opened:
        stream.close()


@pytest.fixture
def stream(open_stream):
    stream = open_stream()
    stream.join()
    return stream


def add(stream, *requests, at=NOW):
    return stream.add([(request, at) for request in requests])


def requests_of(rows):
    return [row.request for row in rows]


# What is kept.


def test_what_is_added_is_read_once_by_one_consumer_of_all(stream, open_stream):
    """Oldest first, with the moment it was accepted; what is added tells its numbers."""
    added = add(stream, "/e?_p=a", "/e?_p=b", "/e?_p=c")
    first = stream.read(ME, 2)
    second = open_stream().read("another", 10)
    assert (requests_of(first), requests_of(second)) == (["/e?_p=a", "/e?_p=b"], ["/e?_p=c"])
    assert (added.done, added.first, added.last) == (3, first[0].number, second[0].number)
    assert {(row.accepted_at, row.is_dead) for row in [*first, *second]} == {(NOW, 0)}
    assert stream.read(ME, 10) == []


def test_what_was_there_before_the_group_is_read_too(open_stream):
    """Applications may start before the first relay; and joining again changes nothing."""
    stream = open_stream()
    add(stream, "a")
    stream.join()
    stream.join()
    assert requests_of(stream.read(ME, 10)) == ["a"]


def test_a_full_stream_refuses_and_nothing_is_trimmed(stream, open_stream):
    """The dead ones count, too; there is room again once something is delivered."""
    small = open_stream(most=3)
    assert add(small, "a", "b", "c", "d").done == 3
    assert add(small, "d").done == 0
    rows = stream.read(ME, 1)
    stream.bury([rows[0].number])
    assert add(small, "d").done == 0
    stream.delete([row.number for row in stream.read(ME, 10)])
    assert add(small, "d", "e", "f").done == 2
    assert requests_of(stream.each()) == ["a", "d", "e"]


def test_what_is_deleted_leaves_nothing_behind(stream, redis_server):
    """Neither in the stream nor in the group; twice is as good as once."""
    for part in (0, 500, 1_000):
        add(stream, *map(str, range(part, min(part + 500, 1_100))))
    numbers = [row.number for row in stream.read(ME, 2_000)]
    stream.delete(numbers)
    stream.delete(numbers)
    assert (len(numbers), stream.count()) == (1_100, 0)
    with redis_server.client() as client:
        assert client.xpending("km", "km_logging")["pending"] == 0


def test_dead_calls_are_kept_apart_and_can_be_tried_again(stream):
    """As they were, but as if they were accepted now; to bury one twice leaves one."""
    add(stream, "a", "b")
    number = stream.read(ME, 1)[0].number
    stream.bury([number])
    stream.bury([number])
    assert (stream.count(), stream.count(dead=True)) == (1, 1)
    assert [(row.request, row.is_dead, row.number < 0) for row in stream.each()] == [("a", 1, True), ("b", 0, False)]
    assert requests_of(stream.each(dead=False)) == ["b"]
    assert requests_of(stream.each(dead=True)) == ["a"]
    assert (stream.revive(NOW + 60), stream.revive(NOW + 60)) == (1, 0)
    assert [(row.request, row.accepted_at) for row in stream.read(ME, 10)] == [("b", NOW), ("a", NOW + 60)]


def test_many_dead_calls_come_back_all(stream):
    """A few at a time, so that the server is not held up."""
    add(stream, *map(str, range(500)))
    add(stream, *map(str, range(500, 1_200)))
    add(stream, *map(str, range(1_000, 1_200)))
    stream.bury([row.number for row in stream.read(ME, 2_000)])
    assert stream.revive(NOW) == 1_200
    assert sorted(requests_of(stream.each()), key=int) == [str(number) for number in range(1_200)]


def test_purge_forgets_living_and_dead_ones(stream, redis_server):
    """Also what is in somebody's hands, who will not find it again."""
    add(stream, "dead", "held", "waiting", "stays")
    rows = stream.read(ME, 2)
    stream.bury([rows[0].number])
    stream.purge([row.number for row in stream.each() if row.request != "stays"])
    assert requests_of(stream.each()) == ["stays"]
    with redis_server.client() as client:
        assert client.xpending("km", "km_logging")["pending"] == 0


def test_a_damaged_entry_is_read_as_no_request(stream, redis_server):
    """Whatever another program has put there."""
    with redis_server.client() as client:
        client.xadd("km", {"other": "fields"})
        client.xadd("km", {"request": "/e", "accepted_at": "soon"})
        client.xadd("km", {"request": b"\xff/e", "accepted_at": "1"})
    assert [row.request.isascii() for row in stream.read(ME, 10)] == [False, False, False]


def test_the_size_and_the_last_number(stream):
    """Of an empty stream, too."""
    assert (stream.last(), stream.count()) == (0, 0)
    added = add(stream, "a", "b")
    assert (stream.last(), stream.count()) == (added.last, 2)
    assert stream.size > 100


# Consumers.


def test_what_is_in_ones_hands_can_be_kept_lost_and_given_back(stream):
    """What is kept seems new; what was lost to another is said; what is given back is anybody's at once."""
    add(stream, "a", "b")
    a, b = (row.number for row in stream.read(ME, 10))
    assert stream.keep(ME, [a, b]) == []
    assert stream.take_over("another", 60, "0-0", 10) == ("0-0", [])
    stream.give_back(ME, [a])
    assert requests_of(stream.take_over("another", 60, "0-0", 10)[1]) == ["a"]
    assert stream.keep(ME, [a, b]) == [a]
    stream.give_back(ME, [a])  # which it has not
    assert stream.take_over("third", 60, "0-0", 10)[1] == []


def test_a_consumer_leaves_only_with_empty_hands(stream, redis_server):
    """With it, what it holds would be lost."""

    def consumers():
        with redis_server.client() as client:
            return {it["name"]: it["pending"] for it in client.xinfo_consumers("km", "km_logging")}

    add(stream, "a")
    (row,) = stream.read(ME, 10)
    stream.leave(ME)
    assert consumers() == {ME: 1}
    stream.delete([row.number])
    stream.leave(ME)
    assert consumers() == {}


def test_others_are_those_who_were_seen_lately(stream, open_stream):
    """Neither this one, nor what was given back."""
    assert (stream.is_delivered, open_stream(stream="elsewhere").is_delivered) == (False, False)
    add(stream, "a")
    stream.give_back(ME, [row.number for row in stream.read(ME, 1)])
    assert (stream.is_delivered, stream.has_others(ME), stream.has_others("another")) == (True, False, True)


def test_another_key_than_before_is_known(stream, open_stream, redis_server):
    """Whoever opens the stream; and the key cannot be found in it."""
    assert [stream.is_key_known(key) for key in ["first", "first", "second"]] == [True, True, False]
    assert open_stream().is_key_known("second")
    with redis_server.client() as client:
        assert set(client.hgetall("km:facts")) == {"salt", "key"}
        assert len(client.hget("km:facts", "key")) == 8


def test_two_streams_of_one_server_know_nothing_of_each_other(stream, open_stream):
    """One for each product; the numbers of databases part them, too."""
    for other in (open_stream(stream="web"), open_stream(database=3)):
        add(stream, "a")
        assert list(other.each()) == []


@pytest.mark.parametrize(
    ("settings", "may_be"),
    [
        ({}, False),
        ({"maxmemory": "100mb", "maxmemory-policy": "noeviction"}, False),
        ({"maxmemory": "100mb", "maxmemory-policy": "volatile-lru"}, False),
        ({"maxmemory": "0", "maxmemory-policy": "allkeys-lru"}, False),
        ({"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}, True),
    ],
)
def test_a_server_that_evicts_is_known(stream, redis_server, settings, may_be):
    """It would throw the whole stream away."""
    with redis_server.client() as client:
        for name, value in settings.items():
            client.config_set(name, value)
        try:
            assert stream.may_be_evicted is may_be
        finally:
            client.config_set("maxmemory", "0")
            client.config_set("maxmemory-policy", "noeviction")


# What goes wrong.


def fault(address):
    """What opening an address, joining and adding raises."""
    with pytest.raises(OutboxError) as caught, opened(parse_outbox("outbox", address)) as stream:
        stream.join()
        stream.add([("/e?_p=s3cret", NOW)])
    assert caught.value.__suppress_context__
    assert "s3cret" not in f"{caught.value!r} {caught.value.__cause__}"
    where, _, said = str(caught.value).partition(": ")
    assert where == str(parse_outbox("outbox", address))  # of many servers there may be
    return said


def test_a_server_that_is_not_there():
    with refused() as endpoint:
        assert fault(endpoint.replace("http", "redis")) == (
            "it cannot be reached: check that it runs, its host and its port"
        )


def test_a_server_that_does_not_answer(redis_server, monkeypatch):
    """A connection that stays open is not enough."""
    monkeypatch.setattr("km_logging.outbox.opening.PATIENCE", 0.05)
    redis_server.pause()
    try:
        assert fault(redis_server.address).startswith("it does not answer in time")
    finally:
        redis_server.resume()


def test_a_server_that_is_none_of_redis(server, monkeypatch):
    """It may answer, or wait for more."""
    monkeypatch.setattr("km_logging.outbox.opening.PATIENCE", 0.2)
    assert "check" in fault(server.endpoint.replace("http", "redis"))


def test_a_key_that_holds_something_else(redis_server):
    with redis_server.client() as client:
        client.set("km", "s3cret")
    assert "stream=" in fault(redis_server.address)


def test_a_database_that_is_not_there(redis_server):
    assert fault(f"redis://127.0.0.1:{redis_server.port}/99").startswith("it has no database of this number")


def test_a_password_that_is_wrong_or_missing(redis_server):
    """And a user who may not do it; with the right ones it works."""
    users = {"ann": ["+@all", "~*"], "bob": ["-@all", "+xlen", "+select", "+client", "~*"]}
    with redis_server.client() as client:
        for user, rights in users.items():
            client.execute_command("ACL", "SETUSER", user, "on", ">s3cret", *rights)
        try:
            place = f"@127.0.0.1:{redis_server.port}/0"
            assert fault(f"redis://ann:s3cret-not{place}").startswith("it refuses this user and password")
            assert fault(f"redis://bob:s3cret{place}").startswith("this user may not use a command or key")
            with opened(parse_outbox("outbox", f"redis://ann:s3cret{place}")) as stream:
                assert stream.count() == 0
            client.execute_command("ACL", "SETUSER", "default", "resetpass", ">s3cret")
            assert fault(redis_server.address).startswith("it wants a password")
        finally:
            client.execute_command("ACL", "SETUSER", "default", "nopass")
            client.execute_command("ACL", "DELUSER", *users)


def test_a_server_whose_memory_is_full_or_that_is_a_replica(redis_server, stream):
    """What is asked of it leaves nothing half done."""
    with redis_server.client() as client:
        client.config_set("maxmemory", "1mb")
        try:
            assert fault(redis_server.address).startswith("its memory is full")
        finally:
            client.config_set("maxmemory", "0")
    redis_server.keep_from_writing()
    try:
        assert fault(redis_server.address).startswith("it is a replica")
    finally:
        redis_server.let_write()
    assert stream.count() == 0


def test_a_server_that_lacks_replicas_or_connections(redis_server):
    """As it is set up."""
    with redis_server.client() as client:
        try:
            client.config_set("min-replicas-to-write", 1)
            assert fault(redis_server.address).startswith("too few of its replicas")
        finally:
            client.config_set("min-replicas-to-write", 0)
        most = client.config_get("maxclients")["maxclients"]
        try:
            client.config_set("maxclients", 1)
            assert fault(redis_server.address) == "it has as many connections as it allows: raise its maxclients"
        finally:
            client.config_set("maxclients", most)


def test_a_server_that_serves_only_its_own_machine():
    """As it does without a password, by its own default; there is no other machine here, so its answer is."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse():
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"-DENIED Redis is running in protected mode because s3cret.\r\n")
                connection.recv(1)

        thread = threading.Thread(target=refuse)
        thread.start()
        assert fault(f"redis://127.0.0.1:{listener.getsockname()[1]}").startswith("it serves other machines only")
        thread.join(GUARD)


def test_a_server_that_is_too_old(tmp_path):
    """Which knows no XAUTOCLAIM."""
    with RedisServer(tmp_path, "--rename-command", "XAUTOCLAIM", "") as server:
        stream = stream_at(server.where, patience=GUARD)
        stream.join()
        with pytest.raises(OutboxError, match=r"too old.*6\.2"):
            stream.take_over(ME, 1, "0-0", 1)
        stream.close()


def test_every_error_of_redis_has_a_remedy():
    """Of those that nobody thought of, too, without their text."""
    from km_logging.outbox.stream import _fault_of

    for error in [
        redis.RedisError("s3cret"),
        redis.ResponseError("ERR s3cret"),
        ValueError("s3cret"),
        OSError("s3cret"),
        redis.ConnectionError("Error 13 connecting to unix socket: /s3cret. Permission denied."),
    ]:
        message, remedy = _fault_of(error)
        assert "s3cret" not in message + remedy
        assert remedy


def test_without_the_package_the_extra_is_named(monkeypatch, redis_server):
    monkeypatch.setattr(line, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'km_logging\[redis\]'"), opened(redis_server.where):
        pass


# Other ways to a server.


def test_by_a_socket_of_this_machine():
    with (
        tempfile.TemporaryDirectory(prefix="km-") as folder,  # a path of pytest's may be too long for a socket
        RedisServer(Path(folder), "--unixsocket", f"{folder}/r.sock", "--unixsocketperm", "600"),
        opened(parse_outbox("outbox", f"unix://{folder}/r.sock?db=2&stream=web")) as stream,
    ):
        assert add(stream, "a").done == 1
        assert requests_of(stream.each()) == ["a"]


@pytest.fixture
def secure(tmp_path):
    """A server that speaks TLS only, and the file of who has signed its certificate for 127.0.0.1."""
    signer, file = authority(tmp_path)
    certificate = signer.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    with RedisServer(
        tmp_path,
        *("--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem", "--tls-ca-cert-file", file),
        *("--tls-auth-clients", "no"),
        speaks_tls=True,
    ) as server:
        yield server, file


def test_by_tls_only_with_a_certificate_that_is_verified(secure):
    """Signed by who is named, for the host that is named."""
    server, file = secure
    place = f"127.0.0.1:{server.port}/0"
    with opened(parse_outbox("outbox", f"rediss://{place}?ssl_ca_certs={file}")) as stream:
        assert add(stream, "a").done == 1
    assert "ssl_ca_certs=" in fault(f"rediss://{place}")
    other = f"localhost:{server.port}/0"
    assert fault(f"rediss://{other}?ssl_ca_certs={file}").startswith("its certificate is for another host")


def test_files_of_an_address_that_are_no_help(secure, tmp_path):
    """The server may well be there."""
    server, _ = secure
    place = f"rediss://127.0.0.1:{server.port}/0?ssl_ca_certs={tmp_path}"
    (tmp_path / "empty.pem").touch()
    assert fault(f"{place}/empty.pem").startswith("a file of certificates holds none")
    assert fault(f"{place}/none.pem").startswith("a file that it needs is not there")
    assert fault(f"unix://{tmp_path}/none.sock").startswith("a file that it needs is not there")


def test_tls_where_there_is_none_is_an_error(redis_server, monkeypatch):
    """The server waits for the rest of what it takes for a command."""
    monkeypatch.setattr("km_logging.outbox.opening.PATIENCE", 0.2)
    assert "check" in fault(redis_server.address.replace("redis:", "rediss:"))


# What docs/scaling.md says.


def test_the_rights_of_the_manual_are_enough(redis_server):
    """Those of an application to add, and no more than that; those of a relay for everything that it does."""
    manual = (Path(__file__).parent.parent / "docs" / "scaling.md").read_text()
    lines = re.findall(r"^ACL SETUSER (\w+) on >password (.*)$", manual, re.MULTILINE)
    assert [user for user, _ in lines] == ["application", "relay"]
    place = f"@127.0.0.1:{redis_server.port}/0"
    with redis_server.client() as client:
        for user, rights in lines:
            client.execute_command("ACL", "SETUSER", user, "on", ">password", *rights.split())
        try:
            with opened(at(f"redis://application:password{place}")) as stream:
                assert not stream.may_be_evicted
                assert add(stream, "dead", "lost", "a").done == 3
                with pytest.raises(OutboxError, match="may not"):
                    list(stream.each())
            with opened(at(f"redis://relay:password{place}")) as stream:
                stream.join()
                assert stream.is_key_known("key")
                assert not stream.may_be_evicted
                dead, lost, _ = (row.number for row in stream.read(ME, 10))
                stream.bury([dead])
                stream.give_back(ME, [lost])
                assert len(stream.take_over(ME, 60, "0-0", 10)[1]) == 1
                assert stream.revive(NOW) == 1
                assert (stream.is_delivered, stream.count(), stream.size > 0) == (True, 3, True)
                stream.purge([row.number for row in stream.each()])
                stream.leave(ME)
        finally:
            client.execute_command("ACL", "DELUSER", *(user for user, _ in lines))
