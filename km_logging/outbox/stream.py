"""The stream of a Redis outbox: one connection, and the few commands that use it.

1. Only this module imports redis. Every error that leaves it is an OutboxError, and shows no text of Redis's, which
   may quote a call or a password.
2. Every change is one command or one script, so that it happens whole or not at all, and may be asked for
   again where its answer was lost: only calls that are added again are there twice, which Kissmetrics counts once.
3. Nothing is trimmed: what was not delivered leaves the stream for the dead one, or by `Stream.purge`.

The keys are ``km``, the stream of calls; ``km:dead``, the one of dead calls; ``km:facts``, what relays note.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Any, NamedTuple, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from km_logging.addresses import StreamAddress
from km_logging.errors import OutboxError
from km_logging.outbox.scripts import ADD, BURY, DELETE, HAND, JOIN, LEAVE, REVIVE
from km_logging.outbox.store import Row

__all__ = ["CHUNK", "GROUP", "Added", "Stream"]

#: The consumer group of all that deliver.
GROUP = "km_logging"

#: A consumer of nobody's: what is in its hands may be taken over at once.
NOBODY = "nobody"

#: Idle for so long means to be anybody's, in milliseconds.
LONG = 3_600_000

#: Who has not been seen for so long delivers no more, in milliseconds.
ALIVE = 15_000

#: Most calls of one command, so that it holds up nobody for more than a moment.
CHUNK = 500

Answer = TypeVar("Answer")


class Added(NamedTuple):
    """What has become of calls that were to be added.

    Attributes:
        done: how many were, the first ones; there is no room for the others.
        first: number of the first one; nobody else's are between it and the last one.
        last: number of the last one.
    """

    done: int
    first: int = 0
    last: int = 0


class Stream:
    """One connection to the server.

    Args:
        address: of the stream.
        patience: how long to wait for the server, in seconds.

    Raises:
        OutboxError: it cannot be used; says what to do about it. So do all methods.
    """

    def __init__(self, address: StreamAddress, *, patience: float) -> None:
        self._key, self._dead, self._facts = address.stream, f"{address.stream}:dead", f"{address.stream}:facts"
        self._most = address.most
        where: dict[str, Any] = {"host": address.host, "port": address.port}
        if address.scheme == "unix":
            where = {"unix_socket_path": address.path}
        if address.scheme == "rediss":
            where |= {"ssl": True, "ssl_check_hostname": True, **dict(address.certificates)}
        self._redis = redis.Redis(
            **where,
            db=address.database,
            username=address.username or None,
            password=address.password or None,
            socket_timeout=patience,
            socket_connect_timeout=patience,
            retry=Retry(NoBackoff(), 0),  # whoever uses this tries again, and says so
            protocol=2,  # whose answers have the same form in all versions of redis-py
            decode_responses=True,
            encoding_errors="replace",
            client_name=GROUP,
        )
        try:
            self._ask(self._redis.xlen, self._key)  # that it answers, and that the key is no other program's
        except BaseException:
            self.close()
            raise

    def _ask(self, command: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Every command goes through here. Typed as redis-py's own answers are: not at all."""
        try:
            return command(*arguments, **options)
        except (redis.RedisError, OSError, ValueError) as error:
            raise OutboxError(*_fault_of(error)) from None

    def _run(self, script: str, *arguments: str | float) -> Any:
        return self._ask(self._redis.register_script(script), [self._key, self._dead], arguments)

    def close(self) -> None:
        """Close the connection. In a forked child, this leaves the parent's alone."""
        with suppress(redis.RedisError, OSError):
            self._redis.close()

    # What applications do.

    def add(self, calls: Sequence[tuple[str, float]]) -> Added:
        """Add the first of some calls (request, accepted_at), as many as there is room for, and `CHUNK` at most."""
        flat = [part for request, accepted_at in calls[:CHUNK] for part in (accepted_at, request)]
        count, first, last = self._run(ADD, self._most, *flat)
        return Added(count, _number(first), _number(last)) if count else Added(0)

    # What those do who deliver. A consumer has a name of its own, and answers for what is in its hands.

    def join(self) -> None:
        """Have the consumer group, with everything before it that is in the stream."""
        self._run(JOIN, GROUP)

    def read(self, consumer: str, limit: int) -> list[Row]:
        """Take up to ``limit`` calls that were in nobody's hands yet, oldest first."""
        answer = self._ask(self._redis.xreadgroup, GROUP, consumer, {self._key: ">"}, count=limit)
        return _rows(answer[0][1]) if answer else []

    def take_over(self, consumer: str, idle: float, after: str, limit: int) -> tuple[str, list[Row]]:
        """Take calls that were in others' hands for longer than ``idle`` seconds.

        Args:
            consumer: who takes them.
            idle: in seconds.
            after: where to go on; "0-0" to begin.
            limit: how many.

        Returns:
            Where to go on, "0-0" if that was all; and the calls.
        """
        milliseconds = int(idle * 1_000)
        answer = self._ask(self._redis.xautoclaim, self._key, GROUP, consumer, milliseconds, after, count=limit)
        return str(answer[0]), _rows(answer[1])

    def keep(self, consumer: str, numbers: Sequence[int]) -> list[int]:
        """Say that these calls are still in the consumer's hands; returns those that are in others' by now."""
        return self._hand(consumer, consumer, 0, numbers)

    def give_back(self, consumer: str, numbers: Sequence[int]) -> None:
        """Have anybody take these calls at once."""
        self._hand(consumer, NOBODY, LONG, numbers)

    def _hand(self, giver: str, taker: str, idle: int, numbers: Sequence[int]) -> list[int]:
        lost: list[int] = []
        for chunk in _chunks(numbers):
            lost += map(_number, self._run(HAND, GROUP, giver, taker, idle, *map(_id, chunk)))
        return lost

    def delete(self, numbers: Sequence[int]) -> None:
        """Forget calls: they were delivered, or are given up."""
        for chunk in _chunks(numbers):
            self._run(DELETE, GROUP, *map(_id, chunk))

    def bury(self, numbers: Sequence[int]) -> None:
        """Move calls to the dead ones."""
        for chunk in _chunks(numbers):
            self._run(BURY, GROUP, *map(_id, chunk))

    def leave(self, consumer: str) -> None:
        """Forget the consumer, and others that are long gone; but none that has anything in its hands."""
        self._run(LEAVE, GROUP, consumer, LONG)

    def is_key_known(self, api_key: str) -> bool:
        """Whether calls went to this key before, or to none yet; from now on this one is the known one.

        It keeps 32 bits of a salted hash, which many keys have: nobody can find the key by it.
        """
        salt, known = self._noted()
        if salt is None:
            self._note(self._redis.hsetnx, "salt", os.urandom(8).hex())
            salt, known = self._noted()
        if salt is None:
            return True
        mark = blake2b(api_key.encode(), digest_size=4, salt=bytes.fromhex(salt)).hexdigest()
        if known != mark:
            self._note(self._redis.hset, "key", mark)
        return known in {None, mark}

    def _noted(self) -> list[str | None]:
        return list(self._ask(self._redis.hmget, self._facts, ["salt", "key"]))

    def _note(self, command: Callable[..., Any], fact: str, value: str) -> None:
        with suppress(OutboxError):  # its memory is full, say: all the more must somebody deliver
            self._ask(command, self._facts, fact, value)

    @property
    def may_be_evicted(self) -> bool:
        """Whether the server is set up to throw the stream away once its memory is full; false if it does not say."""
        try:
            memory = self._ask(self._redis.info, "memory")
        except OutboxError:  # not every user may ask
            return False
        return bool(memory.get("maxmemory")) and str(memory.get("maxmemory_policy")).startswith("allkeys")

    # What people do. Dead calls have numbers below zero.

    def count(self, *, dead: bool = False) -> int:
        """How many calls there are: living or dead ones; those included that are under way."""
        return int(self._ask(self._redis.xlen, self._dead if dead else self._key))

    def last(self) -> int:
        """The highest number that there is; 0 if there is none."""
        newest = _rows(self._ask(self._redis.xrevrange, self._key, count=1))
        return newest[0].number if newest else 0

    @property
    def size(self) -> int:
        """What both streams take of the server's memory, in bytes, as it estimates."""
        return sum(self._ask(self._redis.memory_usage, key) or 0 for key in (self._key, self._dead))

    @property
    def is_delivered(self) -> bool:
        """Whether any process delivers just now."""
        return self.has_others("")

    def has_others(self, consumer: str) -> bool:
        """Whether any process delivers but this consumer."""
        try:
            consumers = self._ask(self._redis.xinfo_consumers, self._key, GROUP)
        except OutboxError:  # there is no group, or no stream
            return False
        return any(it["idle"] < ALIVE for it in consumers if it["name"] not in {consumer, NOBODY})

    def each(self, *, dead: bool | None = None) -> Iterator[Row]:
        """Dead calls, living ones, or with None first the dead and then the living; oldest first."""
        if dead is not False:
            for row in self._each(self._dead):
                yield row._replace(number=-row.number, is_dead=1)
        if not dead:
            yield from self._each(self._key)

    def _each(self, key: str) -> Iterator[Row]:
        after = "-"
        while rows := _rows(self._ask(self._redis.xrange, key, min=after, count=CHUNK)):
            yield from rows
            after = f"({_id(rows[-1].number)}"

    def revive(self, now: float) -> int:
        """Have dead calls tried again, as if they were accepted now; returns how many."""
        revived = 0
        while some := int(self._run(REVIVE, now, CHUNK)):
            revived += some
        return revived

    def purge(self, numbers: Sequence[int]) -> None:
        """Forget calls; Redis frees their bytes when it next rewrites what is around them, and its files."""
        self.delete([number for number in numbers if number > 0])
        for chunk in _chunks([-number for number in numbers if number < 0]):
            self._ask(self._redis.xdel, self._dead, *map(_id, chunk))


def _number(entry: str) -> int:
    """The ID of an entry (``1700000000000-7``) as one number, in the same order."""
    moment, _, serial = entry.partition("-")
    return int(moment) << 64 | int(serial)


def _id(number: int) -> str:
    return f"{number >> 64}-{number & 0xFFFF_FFFF_FFFF_FFFF}"


def _rows(entries: Sequence[tuple[str | None, dict[str, str] | None]]) -> list[Row]:
    """Calls as they were read; Redis 6 tells of those that are deleted, too, by None."""
    return [_row(entry, fields) for entry, fields in entries if entry is not None and fields is not None]


def _row(entry: str, fields: dict[str, str]) -> Row:
    try:
        return Row(_number(entry), fields["request"], float(fields["accepted_at"]))
    except (KeyError, ValueError):  # whoever reads it sees that it is no request
        return Row(_number(entry), "\N{REPLACEMENT CHARACTER}", 0.0)


def _chunks(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    return (numbers[begin : begin + CHUNK] for begin in range(0, len(numbers), CHUNK))


#: A part of an error's type or text, to what it means, and what to do about it; the first that fits.
_FAULTS = (
    ("certificate is not valid for", "its certificate is for another host", "use the host that the certificate names"),
    ("CERTIFICATE_VERIFY", "its certificate cannot be verified", "name who has signed it by ssl_ca_certs="),
    ("X509", "a file of certificates holds none", "check ssl_ca_certs=, ssl_certfile= and ssl_keyfile="),
    ("No such file", "a file that it needs is not there", "check the paths of the socket and of certificates"),
    ("Permission denied", "a file that it needs may not be used", "check who may use the socket and certificates"),
    ("Authentication required", "it wants a password", "write it as redis://:password@host:6379/0"),
    ("Authentication", "it refuses this user and password", "write them as redis://user:password@host:6379/0"),
    ("NOAUTH", "it wants a password", "write it as redis://:password@host:6379/0"),
    ("WRONGPASS", "it refuses this user and password", "write them as redis://user:password@host:6379/0"),
    ("NoPermission", "this user may not use a command or key", "allow what docs/scaling.md lists"),
    ("NOPERM", "this user may not use a command or key", "allow what docs/scaling.md lists"),
    ("nknown command", "the server is too old", "use Redis 6.2 or newer, or Valkey"),
    ("Unknown Redis command", "the server is too old", "use Redis 6.2 or newer, or Valkey"),
    ("WRONGTYPE", "the key holds something else", "choose another one by stream="),
    ("NOGROUP", "its consumer group is gone", "it is made again"),
    ("OutOfMemory", "its memory is full", "raise its maxmemory, or lower max="),
    ("OOM", "its memory is full", "raise its maxmemory, or lower max="),
    ("ReadOnly", "it is a replica, which only its primary writes to", "name the primary"),
    ("READONLY", "it is a replica, which only its primary writes to", "name the primary"),
    ("MISCONF", "it cannot write to its disk", "free some space there"),
    ("BusyLoading", "it is loading its data", "it is tried again"),
    ("LOADING", "it is loading its data", "it is tried again"),
    ("NOREPLICAS", "too few of its replicas are in reach", "check them, or lower its min-replicas-to-write"),
    ("DENIED", "it serves other machines only by a password", "set one there, and write it in the address"),
    ("max number of clients", "it has as many connections as it allows", "raise its maxclients"),
    ("DB index", "it has no database of this number", "use a lower one"),
    ("MOVED", "it is one of a cluster", "name a server that is not"),
    ("Timeout", "it does not answer in time", "check the server, and the network"),
    ("Connection", "it cannot be reached", "check that it runs, its host and its port"),
)


def _fault_of(error: BaseException) -> tuple[str, str]:
    """What an error means, and what to do about it."""
    text = f"{type(error).__name__} {error}"
    found = (row[1:] for row in _FAULTS if row[0] in text)
    return next(found, (type(error).__name__, "check the server"))
