"""Replaying: from lines to calls to where they go, and the place up to which nothing can be lost any more.

Reads in the caller's thread. Whatever there is to say goes to a `Watch`.
"""

from __future__ import annotations

import math
import time
from typing import Protocol

from km_logging.calls import Call, Problem, brief
from km_logging.deadline import Deadline
from km_logging.intake import Intake
from km_logging.ledger import Stats
from km_logging.problems import FormattedNames
from km_logging.replay.place import Place, PlaceFile, Places
from km_logging.replay.reading import Passed, Reading
from km_logging.replay.sinks import Located, Sink
from km_logging.replay.source import FAULTS, LONGEST_LINE, Block, Source
from km_logging.replay.terms import BrokenOffError, Counts, Stop, Wanted
from km_logging.settings import Settings
from km_logging.tagging import Rules
from km_logging.telling import tell
from km_logging.wire import decode

__all__ = ["Replay", "Watch"]

#: How many calls go on together at most, and for how long they come together under `rate`, in seconds.
BATCH = 100
BATCH_LASTS = 0.1

#: How often to look around while waiting, in seconds.
TICK = 0.1

#: How many names of events are counted one by one.
MOST_NAMES = 1_000
OTHER_NAMES = "(other names)"

#: What begins as text in UTF-16 or UTF-32 does: its byte order mark, or an object without one.
_WIDE = (b"\xff\xfe", b"\xfe\xff", b"{\0", b"\0{")


class Watch(Protocol):
    """Shows what a replay has to say."""

    def problem(self, where: str, problem: Problem) -> None:
        """A line could not be told, or not whole; ``where`` names file and line."""

    def rejected(self, where: str, what: str) -> None:
        """The server refused a call for its own sake, and it is given up; ``what`` is its kind, or an event's name."""

    def note(self, where: str, text: str) -> None:
        """Something else that should be known of a file."""

    def tick(self, replay: Replay) -> None:
        """Comes ten times a second, or seldomer while nothing happens."""


class Replay:
    """Takes the calls of one file after the other to a sink.

    Args:
        settings: those of the application that wrote the lines, as far as they concern tagging; `before_send`.
        sink: where the calls go.
        watch: shows what there is to say.
        wanted: which calls to take.
        rate: most calls a second.
        time_field: as for `Reading`.
        stop: asks to stop.

    Attributes:
        counts: what became of the lines until now.
        name: of what is being read, or was last.
    """

    def __init__(
        self,
        settings: Settings,
        sink: Sink,
        watch: Watch,
        *,
        wanted: Wanted,
        rate: float = math.inf,
        time_field: str | None = None,
        stop: Stop,
    ) -> None:
        rules = Rules(settings)
        self.counts = Counts()
        self.name = ""
        self._behind = 0  # bytes of the files that were read
        self._span, self._part = (0, 0), 0.0  # of the block that is being read, and how much of it is done
        self._settings = settings
        self._sink = sink
        self._watch = watch
        self._wanted = wanted
        self._stop = stop
        self._rate = rate
        self._batch = max(1, min(BATCH, int(min(rate, 1e6) * BATCH_LASTS)))
        self._next_at = -math.inf
        self._ticked_at = -math.inf
        self._reading = Reading(rules, time_field)
        self._intake = Intake(
            tell=lambda snapshot: tell(snapshot, rules),
            before_send=settings.before_send,
            ledger=sink.ledger,
            rules=rules,
        )
        self._names = FormattedNames()
        self._places = Places(sink.mark)

    @property
    def has_given_up(self) -> bool:
        """Whether a call could not be delivered for so long that it expired; the next ones would, too."""
        return self._sink.ledger.dropped["expired"].value > 0

    @property
    def is_over(self) -> bool:
        """Whether there is a reason to end before the end."""
        return self._stop.is_asked or self.has_given_up

    @property
    def bytes_read(self) -> int:
        """How many bytes were read, as they are on disk."""
        begin, end = self._span
        return self._behind + begin + int((end - begin) * self._part)

    def stats(self) -> Stats:
        """What became of the calls."""
        return self._sink.ledger.stats(None)

    # One file.

    def read(self, source: Source, kept: PlaceFile | None = None, *, resumes: bool = False) -> None:
        """Take the calls of one file; returns early if the replay is over.

        Args:
            source: the file.
            kept: where its place is kept, or None.
            resumes: whether to go on at the place that is kept.

        Raises:
            OutboxError: the outbox cannot be used.
        """
        self.name = source.name
        try:
            if source.first().startswith(_WIDE):
                self._lose(f"{source.name}:1", _is_wide())
                return
            place = self._begin(source, kept, resumes=resumes)
            done = source.done
            for block in source.blocks(self._reading.seems_tagged):
                self._span, self._part, done = (done, source.done), 0.0, source.done
                found = self._read_block(block, place, source.name, kept)
                if found is None:
                    return
                place = found
        except BrokenOffError:
            return
        except FAULTS as error:
            self.counts.faults += 1
            self._watch.note(source.name, f"cannot be read any further ({_said(error)})")
        finally:
            self._places.mark()
            self._behind += source.done
            self._span = (0, 0)

    def _begin(self, source: Source, kept: PlaceFile | None, *, resumes: bool) -> Place:
        place = Place()
        if kept is None:
            return place
        found = kept.find(source.head) if resumes else ""
        kept.begin(source.first())
        if isinstance(found, Place):
            if source.skip(found.bytes):
                place = found
                self._watch.note(source.name, f"goes on after line {place.lines:,}")
            else:
                self._watch.note(source.name, "is shorter than it was: it is read from its beginning")
        elif found:
            self._watch.note(source.name, f"is read from its beginning: {found}")
        return place

    def _read_block(self, block: Block, place: Place, name: str, kept: PlaceFile | None) -> Place | None:
        """Take the calls of a block; returns the place behind it, or None if the replay is over."""
        self.counts.too_long += block.skipped > 0
        if block.is_wanted:
            self._lose(f"{name}:{place.lines + 1}", _is_too_long())
        begin = Place(place.lines + (block.skipped > 0), place.bytes + block.skipped)
        before = self.counts.lines - place.lines
        # Whoever writes it may not be done with a line that has no end yet: it is read, but the place stays before it.
        is_whole = block.text.endswith(b"\n")
        batch: list[str] = []
        for line in self._reading.candidates(block.text):
            request = self._request(line.text, name, begin.lines + line.number + 1)
            if request is not None:
                batch.append(request)
            if is_whole and len(batch) >= self._batch:
                place = Place(begin.lines + line.number + 1, begin.bytes + line.end)
                self._part = line.end / len(block.text)
                self.counts.lines = before + place.lines
                if not self._put(batch):
                    return None
                batch = []
                self._places.reached(kept, place)
        end = Place(begin.lines + block.text.count(b"\n"), begin.bytes + len(block.text)) if is_whole else begin
        self._part = 1.0
        self.counts.lines = before + end.lines + (bool(block.text) and not is_whole)
        if not self._put(batch):
            return None
        self._places.reached(kept, end)
        return end

    def _request(self, line: bytes, name: str, number: int) -> str | None:
        """The request of a line; None if it tells no call that is wanted."""
        told = self._reading.tell(line)
        if isinstance(told, Passed):
            if told is Passed.NO_JSON:
                self.counts.broken += line.lstrip()[:1] == b"{"
                problem = self._reading.damage(line)
                if problem is not None:
                    self._lose(f"{name}:{number}", problem)
            return None
        call = told.call
        if call is not None and not self._wanted.holds(call):
            self.counts.unwanted += 1
            return None
        where = f"{name}:{number}"
        for problem in told.problems:
            self._note(where, problem)
        if call is None:
            self.counts.untold += 1
            return None
        self._count(call, where)
        self._sink.ledger.taken.add()
        request = self._intake.request(call, lambda problem: self._note(where, problem))
        if request is not None:
            request = Located(request)
            request.where = where
        return request

    def _count(self, call: Call, where: str) -> None:
        self.counts.calls += 1
        key = call.kind, call.name or ""
        if key not in self.counts.names and len(self.counts.names) >= MOST_NAMES:
            key = call.kind, OTHER_NAMES
        self.counts.names[key] += 1
        if call.name is not None and self._names.is_one(call.name):
            message = f"many event names differ only in digits, such as {brief(call.name)}"
            remedy = "have the formatter write `msg`, the text as it was logged, or log a constant text"
            self._note(where, Problem("formatted_name", message, remedy, call))

    def _lose(self, where: str, problem: Problem) -> None:
        self.counts.lost += 1
        self._note(where, problem)

    def _note(self, where: str, problem: Problem) -> None:
        self.counts.problems[problem.kind] += 1
        self._watch.problem(where, problem)

    # Going on.

    def _put(self, batch: list[str]) -> bool:
        """Pass calls on, once there is time and room for them; false if the replay is over."""
        self._tick()
        if not batch:
            return not self.is_over
        while (left := self._next_at - time.monotonic()) > 0 and not self.is_over:
            time.sleep(min(left, TICK))
            self._tick()
        while not self.is_over and not self._sink.has_room(TICK):
            self._tick()
        if self.is_over:
            return False
        self._next_at = max(self._next_at, time.monotonic()) + len(batch) / self._rate
        self._sink.put(batch)
        return True

    def _tick(self) -> None:
        now = time.monotonic()
        if now - self._ticked_at >= TICK:
            self._ticked_at = now
            self._keep_places()
            self._watch.tick(self)

    def _say_rejected(self) -> None:
        for request in self._sink.rejected():
            call = decode(request)
            what = f"the event {brief(call.name)}" if call.kind == "event" else f"a {call.kind} call"
            self._watch.rejected(getattr(request, "where", ""), what)

    def _keep_places(self) -> None:
        settled = self._places.settled()
        self._say_rejected()  # before a place goes past them
        for kept, place in settled:
            if self.has_given_up:  # asked after the marks: what expired lets them be done as well
                return
            try:
                kept.write(place)
            except OSError as error:
                self._places.forget(kept)
                remedy = "an interruption means to begin again, unless --state names a file that can be written"
                self._watch.note(str(kept.path), f"cannot be written ({_said(error)}): {remedy}")

    def finish(self) -> bool:
        """Wait until everything is delivered, and end.

        Asked to stop, it waits no longer than `drain_timeout`, and asked twice, not at all.

        Returns:
            Whether everything was read, and every call ended.
        """
        mark = self._sink.mark()
        deadline: Deadline | None = None
        while not (mark.done.wait(TICK) or self.has_given_up or self._stop.is_urgent):
            self._tick()
            if self._stop.is_asked:
                deadline = deadline or Deadline(self._settings.drain_timeout)
                if not deadline.left:
                    break
        is_done = mark.done.is_set() and not self.has_given_up
        self._keep_places()
        self._sink.close()
        return is_done and not self._stop.is_asked and not self.counts.faults


def _is_wide() -> Problem:
    remedy = "convert it, such as by `iconv -f UTF-16 -t UTF-8`, and have it written in UTF-8"
    return Problem("bad_line", "the file is UTF-16, of which nothing is read", remedy)


def _is_too_long() -> Problem:
    message = f"the line has more than {LONGEST_LINE:,} bytes, so that its call is not read"
    return Problem("bad_line", message, "cut it to the fields of the call, and send that by `km-logging replay -`")


def _said(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
