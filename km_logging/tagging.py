"""Is it tagged? Then take a snapshot. Pure, and run in the caller's thread, so it does no more than it must.

1. Whatever the caller changes afterwards changes nothing. Where nobody can change a value, which is nearly always, the
   fields are copied as they are (`take_record`, `take_event_dict`), and looked through later; else `from_record` and
   `from_event_dict` convert those values here. `telling` does the rest.
2. They never raise, whatever stands in the record.
3. `mark` makes the tag say that the call was taken, by a value equal to the one that came: the same record reaching
   a second front end is not a second call.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from contextvars import Context, copy_context
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

from km_logging import wire
from km_logging.calls import MAX_NAME, brief, is_a
from km_logging.helpers import Unsaid
from km_logging.settings import Settings
from km_logging.values import ATOMS, MAX_MEMBERS, Untold, plain, unfold

__all__ = [
    "NESTED_FIELDS",
    "RECORD_FIELDS",
    "Rules",
    "Snapshot",
    "Taken",
    "from_event_dict",
    "from_nested",
    "from_record",
    "from_taken",
    "is_marked",
    "is_record",
    "mark",
    "stamped",
    "take_event_dict",
    "take_record",
    "thread_name",
]

#: The attributes of a `LogRecord` on all Pythons, those that formatters add included.
RECORD_FIELDS = frozenset(
    "args asctime created exc_info exc_text filename funcName levelname levelno lineno message module msecs msg name "
    "pathname process processName relativeCreated stack_info taskName thread threadName".split()
)

#: What structlog's own processors add to an event dict.
EVENT_DICT_FIELDS = frozenset(
    "event exc_info exception filename func_name level level_number lineno logger logger_name module pathname "
    "positional_args process process_name qual_module qual_name stack stack_info stack_level stacklevel task_name "
    "thread thread_name timestamp".split()
)

#: What nobody but a formatter of the standard library's logging writes into a line.
_RECORD_ONLY = RECORD_FIELDS - EVENT_DICT_FIELDS - {"args", "message", "msg", "name"}

#: Fields of the flat form that say something about the call itself.
_FLAT_FIELDS = frozenset({"km_name", "km_timestamp"})
NESTED_FIELDS = frozenset({"call", "person", "name", "identity", "timestamp", "properties"})


_LogRecord = logging.LogRecord
_are_atoms = ATOMS.issuperset

#: How many attributes a record has before ``extra`` is put into it, here and now.
_OWN_FIELDS = len(logging.makeLogRecord({}).__dict__)

#: Fields that nobody can change, the context of the log call, its moment, and a record's message, or `_IN_FIELDS`.
Taken = tuple[dict[str, Any], Context, float, object]

#: Stands for the message of an event dict, which is one of its fields.
_IN_FIELDS = object()

#: Says what structlog's contextvars bind.
Bound = Callable[[], Mapping[str, object]]


class Rules:
    """The settings of section *Saying what happened*, prepared for the log call.

    Args:
        settings: `tag`, `person_field`, `include`, `exclude`, `value_limit`, `properties` and what bounds a target.
    """

    def __init__(self, settings: Settings) -> None:
        own = _FLAT_FIELDS | {settings.tag, settings.person_field}
        self.tag = settings.tag
        self.person = settings.person_field
        self.include = None if settings.include is None else frozenset(settings.include)
        self.exclude = frozenset(settings.exclude)
        self._roots = None if self.include is None else {name.partition(".")[0] for name in self.include}
        self.allow_all = self.include is None and not self.exclude
        self.not_in_record = RECORD_FIELDS | own
        self.not_in_dict = EVENT_DICT_FIELDS | own
        self.limit = settings.value_limit
        self.defaults = settings.properties
        # What stands before the first parameter; a key that is not known yet may be as long as keys can be.
        self.overhead = len(wire.target("", settings.api_key or "k" * MAX_NAME, settings.endpoint.base)) - len("?")

    def may_allow(self, name: str) -> bool:
        """Whether a property of this name, or a member of it if it is a mapping, may pass."""
        return name not in self.exclude and (self._roots is None or name.partition(".")[0] in self._roots)

    def allows(self, name: str) -> bool:
        """Whether `include` and `exclude` let a property pass, by its name or that of a mapping around it."""
        around = {name[: dot.start()] for dot in re.finditer(r"\.", name)} | {name}
        return self.exclude.isdisjoint(around) and (self.include is None or not self.include.isdisjoint(around))


class Snapshot(NamedTuple):
    """What a log call said, beyond the caller's reach: every value is immutable.

    Attributes:
        call: what stood where ``event``, ``set`` or ``alias`` belongs.
        person: from the record, else the one identified; may be None or of any type.
        name: the explicit name, else the message.
        identity: for an alias.
        timestamp: the explicit time, or None.
        moment: Unix time of logging, seconds.
        properties: names to immutable values, or to the reason why there is no text.
        unknown: keys of the nested form that it does not know.
    """

    call: object
    person: object
    name: object
    identity: object
    timestamp: object
    moment: float
    properties: dict[str, object]
    unknown: tuple[str, ...] = ()


def take_record(record: logging.LogRecord, rules: Rules) -> Taken | None:
    """Take a tagged record as it is; None if that is not enough, since somebody could change something in it."""
    fields = record.__dict__
    # What was given as ``extra``, and perhaps by a filter or a formatter, comes after the record's own attributes.
    given = islice(reversed(fields.values()), len(fields) - _OWN_FIELDS)
    if type(record) is _LogRecord and _are_atoms(map(type, given)) and not (record.args or record.exc_info):
        return fields.copy(), copy_context(), record.created, record.msg
    nested, person = _copied(fields[rules.tag]), fields.get(rules.person)
    if nested is None or type(person) not in ATOMS:
        return None
    needed = {rules.person: person, rules.tag: nested, "threadName": record.threadName}
    return needed, copy_context(), record.created, record.msg


def _copied(tagged: object) -> dict[str, object] | None:
    """A nested form that nobody else can change; None if it holds anything that somebody could."""
    if type(tagged) is not dict or len(tagged) > len(NESTED_FIELDS):
        return None
    copy = tagged.copy()
    properties = copy.pop("properties", None)
    if not _are_atoms(map(type, copy.values())):
        return None
    if properties is not None:
        if type(properties) is not dict or not _is_plain(properties):
            return None
        copy["properties"] = properties.copy()
    return copy


def take_event_dict(event_dict: Mapping[str, Any], rules: Rules, moment: float) -> Taken | None:
    """As `take_record`, of an event dict; ``moment`` is the time now."""
    if type(event_dict) is not dict:
        return None
    if _are_atoms(map(type, event_dict.values())):
        return event_dict.copy(), copy_context(), moment, _IN_FIELDS
    nested = _copied(event_dict[rules.tag])
    # Of the other fields the nested form needs no more than these.
    fields = {name: event_dict.get(name) for name in (rules.person, "event", "timestamp")}
    if nested is None or not _are_atoms(map(type, fields.values())):
        return None
    fields[rules.tag] = nested
    return fields, copy_context(), moment, _IN_FIELDS


def is_record(fields: Mapping[str, object]) -> bool:
    """Whether these fields, read from a line of a log, were a record's; else they were an event dict's.

    Each of three signs may be a property's name as well; two of them are right.
    """
    signs = "event" not in fields, "message" in fields or "msg" in fields, not _RECORD_ONLY.isdisjoint(fields)
    return sum(signs) > 1


def thread_name(taken: Taken) -> object:
    """The name of the thread in which a record was made, if it is known."""
    return taken[0].get("threadName")


def from_taken(taken: Taken, rules: Rules, identified: Callable[[], object], bound: Bound) -> Snapshot:
    """The snapshot of what was taken; ``identified`` and ``bound`` are asked in the context of the log call."""
    fields, context, moment, message = taken

    def look() -> Snapshot:
        if message is _IN_FIELDS:
            return from_event_dict(fields, rules, identified(), bound, moment)
        return _snapshot(fields, rules, identified(), bound, rules.not_in_record, message, moment)

    return context.run(look)


def from_record(record: logging.LogRecord, rules: Rules, identified: object, bound: Bound) -> Snapshot:
    """Take the snapshot of a tagged record.

    Args:
        record: one whose field `tag` is a string or a mapping.
        rules: the settings.
        identified: the person of this context, or None.
        bound: says what structlog's contextvars bind in this context; asked only for the flat form.
    """
    fields = record.__dict__
    return _snapshot(fields, rules, identified, bound, rules.not_in_record, fields.get("msg"), record.created)


def from_event_dict(
    event_dict: Mapping[str, object],
    rules: Rules,
    identified: object,
    bound: Bound,
    moment: float,
) -> Snapshot:
    """Take the snapshot of a tagged event dict; arguments as for `from_record`, ``moment`` is the time now."""
    found = stamped(event_dict.get("timestamp"))
    moment = moment if found is None else found
    return _snapshot(event_dict, rules, identified, bound, rules.not_in_dict, event_dict.get("event"), moment)


def _snapshot(
    fields: Mapping[str, object],
    rules: Rules,
    identified: object,
    bound: Bound,
    not_properties: Collection[str],
    message: object,
    moment: float,
) -> Snapshot:
    tagged: Any = plain(fields[rules.tag])
    person = fields.get(rules.person)
    if person is None:
        person = identified
    if type(tagged) is not str and is_a(tagged, Mapping):
        return from_nested(tagged, rules, person, message, moment)
    properties: dict[str, object] = {}
    identity = None
    if tagged == "alias":
        identity, not_properties = fields.get("identity"), fields
    # Values that a contextvar binds belong to a request's context; they are not something said in this call.
    context = bound() if rules.include is None else {}
    # Of a record's thirty fields five are the caller's: the cheapest question comes first.
    for name in [name for name in fields if name not in not_properties]:
        value = fields[name]
        if type(value) in ATOMS and type(name) is str and name[:1] != "_" and name not in context and rules.allow_all:
            properties[name] = value  # as nearly always
        elif not _is_private(name) and not (name in context and _same(context[name], value)):
            _freeze(name, value, rules, properties)
    explicit = fields.get("km_name")
    return Snapshot(
        call=tagged,
        person=person,
        name=message if explicit is None else explicit,
        identity=identity,
        timestamp=fields.get("km_timestamp"),
        moment=moment,
        properties=properties,
    )


def from_nested(tagged: Mapping[str, object], rules: Rules, person: object, message: object, moment: float) -> Snapshot:
    """Take the snapshot of a nested form; ``message`` is the name of an event that has none of its own.

    No more members are looked at than a request could hold, however many a mapping says it has.
    """
    try:
        nested = dict(islice(tagged.items(), MAX_MEMBERS))
    except Exception:  # noqa: BLE001 - a mapping's own code may raise anything
        nested = {"call": Unsaid(Untold("bad_value", "is a mapping that cannot be read", ""))}
    properties: dict[str, object] = {}
    given: Any = nested.get("properties")
    if type(given) is dict and rules.allow_all and len(given) <= MAX_MEMBERS and _is_plain(given):
        properties = given.copy()
    elif is_a(given, Mapping):
        try:
            for name, value in islice(given.items(), MAX_MEMBERS):
                _freeze(name, value, rules, properties)
        except Exception:  # noqa: BLE001 - a mapping's own code may raise anything
            given = Unsaid(Untold("bad_value", "is a mapping that cannot be read", "pass a dict"))
    if given is not None and not is_a(given, Mapping):
        properties["properties"] = Untold("bad_value", "is no mapping", "pass a dict of names to values")
    own_person, name = nested.get("person"), nested.get("name")
    return Snapshot(
        call=nested.get("call"),
        person=person if own_person is None else own_person,
        name=message if name is None else name,
        identity=nested.get("identity"),
        timestamp=nested.get("timestamp"),
        moment=moment,
        properties=properties,
        unknown=tuple(brief(key) for key in nested if key not in NESTED_FIELDS),
    )


def _is_plain(properties: dict[object, object]) -> bool:
    """Whether these are texts with values that nobody can change, as they nearly always are."""
    return _TEXT.issuperset(map(type, properties)) and _are_atoms(map(type, properties.values()))


_TEXT = frozenset({str})


def _same(bound: object, value: object) -> bool:
    """Whether a value is the one that is bound; a processor in between may have copied it."""
    return bound is value or (type(value) in ATOMS and type(bound) is type(value) and bound == value)


def _is_private(name: Any) -> bool:
    return is_a(name, str) and name[:1] == "_"


def _freeze(key: object, value: object, rules: Rules, properties: dict[str, object]) -> None:
    """Keep what nobody can change as it is, and the texts of everything else."""
    name = plain(key)
    if not isinstance(name, str):
        properties[brief(name)] = Untold("bad_property_name", "is named by no text", "name properties by texts")
    elif not (rules.allow_all or rules.may_allow(name)):
        return
    else:
        unfolded: Iterable[tuple[str, object]] = [(name, value)]
        if type(value) is Unsaid:
            unfolded = [(name, value.why)]
        elif type(value) not in ATOMS:
            unfolded = unfold(name, value, rules.limit)
        properties.update((path, text) for path, text in unfolded if rules.allow_all or rules.allows(path))


def stamped(timestamp: Any) -> float | None:
    """The time that stands in an event dict: Unix time or ISO 8601, as `TimeStamper` puts it there, or a datetime.

    Without a T and a zone, a stamp of one's own format does not say which clock it means.
    """
    try:
        if type(timestamp) is str:
            found = _ISO_8601.fullmatch(timestamp)
            # Before 3.11, fromisoformat() knows neither the Z that TimeStamper writes nor a zone without a colon.
            moment = datetime.fromisoformat(_zoned(*found.groups())).timestamp() if found else math.nan
        else:
            seconds = timestamp.timestamp() if is_a(timestamp, datetime) else timestamp
            moment = float(seconds) if type(seconds) in {int, float} else math.nan
    except Exception:  # noqa: BLE001 - out of range, or a subclass's own code
        return None
    return moment if math.isfinite(moment) else None


_ISO_8601 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3}(?:\d{3})?)?)(?:(Z)|([+-]\d\d):?(\d\d))?", re.ASCII)


def _zoned(moment: str, zulu: str | None, hours: str | None, minutes: str | None) -> str:
    return f"{moment}+00:00" if zulu else f"{moment}{hours}:{minutes}" if hours else moment


class _MarkedText(str):
    """A tag that was taken: equal to the one that came, and a plain text again once it leaves the process."""

    __slots__ = ("by",)
    by: frozenset[object]

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str.__str__(self),)


class _MarkedMapping(dict[str, object]):
    __slots__ = ("by",)
    by: frozenset[object]

    def __reduce__(self) -> tuple[type[dict[str, object]], tuple[dict[str, object]]]:
        return dict, (dict(self),)


def mark(tagged: object, address: object) -> object:
    """The tag's value, marked as taken for ``address``; equal to what came, and written alike by every formatter."""
    try:
        if type(tagged) is dict and len(tagged) < MAX_MEMBERS:
            fresh = _MarkedMapping(tagged)
            fresh.by = frozenset((address,))
            return fresh
        marked: Any = _MarkedText(str.__str__(tagged)) if isinstance(tagged, str) else _marked_mapping(tagged)
        marked.by = getattr(tagged, "by", frozenset()) | {address}
    except Exception:  # noqa: BLE001 - a mapping's own code may raise anything
        return tagged
    return marked if isinstance(tagged, str) or len(marked) < MAX_MEMBERS else tagged


def _marked_mapping(tagged: Any) -> _MarkedMapping:
    # The keys and values alone, and not too many: a mapping of the user's own may go on for ever.
    return _MarkedMapping(islice(tagged.items(), MAX_MEMBERS))


def is_marked(tagged: object, address: object) -> bool:
    """Whether the call of this tag was taken for ``address`` already."""
    return type(tagged) in {_MarkedText, _MarkedMapping} and address in tagged.by  # type: ignore[attr-defined]
