"""The settings: one frozen, hashable object, valid from construction. Pure but for `resolve_callable`, which imports.

Keyword beats environment beats default. Every value may be a plain string, number, boolean, list or table, so that a
JSON, YAML or TOML ``dictConfig`` and the environment can carry it. The table `SETTINGS` is the whole list.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from km_logging.addresses import Endpoint, OutboxAddress, parse_endpoint, parse_outbox
from km_logging.calls import MAX_NAME, brief
from km_logging.errors import SettingsError
from km_logging.values import Untold, bad_name, unfold

__all__ = ["SETTINGS", "Setting", "Settings", "as_callable", "resolved", "source"]

DAY = 86_400.0

#: How long a call is tried unless `retry_for` says otherwise, in seconds: in memory, and in an outbox that lasts.
RETRY_FOR = 300.0
RETRY_FOR_LASTING = 7 * DAY

#: Most requests under way unless `senders` says otherwise, by transport.
SENDERS = {"requests": 16, "curl": 64}


# Each parser takes the name of the setting and a value that is not None, and returns the value or raises.


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise SettingsError(f"{name} must be a text that is not empty")
    return value.strip()


def _api_key(name: str, value: object) -> str:
    key = _text(name, value)
    if len(key) > MAX_NAME or not key.isprintable():
        raise SettingsError(f"{name} is no API key: copy it from your product's settings page at Kissmetrics")
    return key


def _endpoint(name: str, value: object) -> Endpoint:
    return parse_endpoint(name, _text(name, value))


def _one_of(*choices: str) -> Callable[[str, object], str]:
    def parse(name: str, value: object) -> str:
        if not isinstance(value, str) or value.strip().lower() not in choices:
            raise SettingsError(f"{name} must be one of {', '.join(map(repr, choices))}, not {_shown(value)}")
        return value.strip().lower()

    return parse


def _outbox(name: str, value: object) -> OutboxAddress:
    return value if isinstance(value, OutboxAddress) else parse_outbox(name, _text(name, value))


def _boolean(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    try:
        return words[value.strip().lower()] if isinstance(value, str) else {1: True, 0: False}[value]  # type: ignore[index]
    except (KeyError, TypeError):
        raise SettingsError(f"{name} must be true or false, not {_shown(value)}") from None


def _number(least: float, most: float = math.inf, *, above: bool = False) -> Callable[[str, object], float]:
    def parse(name: str, value: object) -> float:
        try:
            number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
        except (ValueError, OverflowError):
            number = math.nan
        if math.isnan(number):
            raise SettingsError(f"{name} must be a number, not {_shown(value)}")
        if not least <= number <= most or (above and number == least):
            bounds = f"{'above' if above else 'at least'} {least:g}" + (f" and at most {most:g}" if most < DAY else "")
            raise SettingsError(f"{name} must be {bounds}, not {_shown(value)}")
        return number

    return parse


def _whole(least: int, most: int) -> Callable[[str, object], int]:
    number = _number(least, most)

    def parse(name: str, value: object) -> int:
        parsed = number(name, value)
        if not parsed.is_integer():
            raise SettingsError(f"{name} must be a whole number, not {_shown(value)}")
        return int(parsed)

    return parse


def _timeout(name: str, value: object) -> tuple[float, float]:
    seconds = _number(0, DAY, above=True)
    try:
        connect, read = _items(value) if isinstance(value, list | tuple) else (value, value)
    except ValueError:
        raise SettingsError(f"{name} must be [connect, read] in seconds, such as [3.05, 10]") from None
    return seconds(name, connect), seconds(name, read)


def _names(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, list | tuple | set | frozenset):
        raise SettingsError(f"{name} must be a list of property names, such as ['plan', 'seats']")
    names = _items(value) if isinstance(value, list | tuple) else list(value)
    if not all(isinstance(item, str) for item in names):
        raise SettingsError(f"{name} must hold property names, that is texts, only")
    return tuple(sorted(names))


def _items(values: list[Any] | tuple[Any, ...]) -> list[Any]:
    """The items, asked for one by one: the lists of a dictConfig convert what is asked for (``cfg://..``)."""
    return [values[index] for index in range(len(values))]


def _shown(value: object) -> str:
    """The value as a message may show it: a setting of a wrong type may be anything, and of any size."""
    return repr(value) if type(value) in {float, bool} else brief(value)


def _properties(name: str, value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        raise SettingsError(f"{name} must be a table, such as {{'environment': 'production'}}")
    told = []
    for key in value:
        if not isinstance(key, str):
            raise SettingsError(f"{name} must have texts as keys")
        for path, unfolded in unfold(key, value[key], 8_000):
            text = bad_name(path) or unfolded
            if isinstance(text, Untold):
                raise SettingsError(f"{name}: {brief(path)} {text.message}: {text.remedy}")
            told.append((path, text))
    return tuple(told)


def as_callable(name: str, value: object) -> Callable[..., object]:
    """A callable as it is, or the one that a text names; raises SettingsError if it is none."""
    found = resolve_callable(name, value) if isinstance(value, str) else value
    if not callable(found):
        raise SettingsError(f"{name} must be callable, or name one such as 'ext://package.module.function'")
    return found


def resolve_callable(name: str, path: str) -> object:
    """Import what ``ext://package.module.function`` or ``package.module.function`` names."""
    import pkgutil  # only needed for callables given as strings

    try:
        return pkgutil.resolve_name(path.strip().removeprefix("ext://"))
    except Exception as error:  # a module may raise anything while it is imported
        raise SettingsError(f"{name}: cannot import {path!r} ({error}): check the spelling") from error


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table of settings.

    Attributes:
        parse: takes the setting's name and a value that is not None.
        default: the value if nobody gives one; None for "none" or "depends on others".
        environment: the variable that may carry it, or None.
    """

    parse: Callable[[str, object], object]
    default: object = None
    environment: str | None = None


SETTINGS: dict[str, Setting] = {
    "api_key": Setting(_api_key, None, "KM_API_KEY"),
    "endpoint": Setting(_endpoint, "https://trk.kissmetrics.io", "KM_ENDPOINT"),
    "mode": Setting(_one_of("live", "print", "off"), "live", "KM_MODE"),
    "outbox": Setting(_outbox, "memory:", "KM_OUTBOX"),
    "durability": Setting(_one_of("batched", "immediate"), "batched", "KM_DURABILITY"),
    "deliver": Setting(_boolean, None, "KM_DELIVER"),
    "capacity": Setting(_whole(1, 100_000_000), 50_000, "KM_CAPACITY"),
    "overflow": Setting(_one_of("drop_newest", "drop_oldest", "block"), "drop_newest", "KM_OVERFLOW"),
    "block_timeout": Setting(_number(0, DAY), 1.0),
    "senders": Setting(_whole(1, 1_024), None, "KM_SENDERS"),
    "cpu_share": Setting(_number(0, 64, above=True), 0.5, "KM_CPU_SHARE"),
    "transport": Setting(_one_of("requests", "curl"), "requests", "KM_TRANSPORT"),
    "timeout": Setting(_timeout, (3.05, 10.0)),
    "retry_for": Setting(_number(0), None, "KM_RETRY_FOR"),
    "drain_timeout": Setting(_number(0, DAY), 5.0, "KM_DRAIN_TIMEOUT"),
    "drain_on_sigterm": Setting(_boolean, False),
    "strict": Setting(_boolean, False, "KM_STRICT"),
    "include": Setting(_names),
    "exclude": Setting(_names, ()),
    "person_field": Setting(_text, "person"),
    "tag": Setting(_text, "km"),
    "value_limit": Setting(_whole(1, 8_000), 512),
    "properties": Setting(_properties, {}),
    "before_send": Setting(as_callable),
    "on_problem": Setting(as_callable),
    "session": Setting(as_callable),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a tracker, checked; `SETTINGS` says their names, defaults and environment variables.

    Equal settings share one tracker. ``repr`` shows no key, no password and no property.
    """

    api_key: str | None = field(repr=False)
    endpoint: Endpoint
    mode: str
    outbox: OutboxAddress
    durability: str
    deliver: bool
    capacity: int
    overflow: str
    block_timeout: float
    senders: int
    cpu_share: float
    transport: str
    timeout: tuple[float, float]
    retry_for: float
    drain_timeout: float
    drain_on_sigterm: bool
    strict: bool
    include: tuple[str, ...] | None
    exclude: tuple[str, ...]
    person_field: str
    tag: str
    value_limit: int
    properties: tuple[tuple[str, str], ...] = field(repr=False)
    before_send: Callable[..., Any] | None
    on_problem: Callable[..., Any] | None
    session: Callable[..., Any] | None

    @classmethod
    def resolve(cls, given: Mapping[str, object], environ: Mapping[str, str]) -> Settings:
        """Check and complete the settings.

        Args:
            given: the keyword settings; None counts as not given.
            environ: the environment, usually `os.environ`; an empty variable counts as not given.

        Raises:
            SettingsError: a setting is unknown, wrong or missing; the message says what to write instead.
        """
        for name in given:
            if name not in SETTINGS:
                import difflib  # only for a mistake

                near = difflib.get_close_matches(name, SETTINGS, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"the settings are {', '.join(SETTINGS)}"
                raise SettingsError(f"unknown setting {name!r}: {hint}")
        values: dict[str, Any] = {name: resolved(name, given, environ) for name in SETTINGS}
        outbox: OutboxAddress = values["outbox"]
        if values["retry_for"] is None:
            values["retry_for"] = RETRY_FOR_LASTING if outbox.lasts else RETRY_FOR
        if values["deliver"] is None:
            values["deliver"] = outbox.kind != "redis"
        if values["senders"] is None:
            values["senders"] = SENDERS[values["transport"]]
        settings = cls(**values)
        settings._check_together()
        return settings

    def _check_together(self) -> None:
        if self.mode == "live" and self.deliver and self.api_key is None:
            raise SettingsError("api_key is missing: pass it, set KM_API_KEY, or choose mode 'print' or 'off'")
        if not self.deliver and not self.outbox.lasts:
            raise SettingsError(
                "deliver is false, but calls in 'memory:' can be delivered by nobody else: leave it out"
            )
        if self.durability == "immediate" and self.outbox.kind == "redis":
            raise SettingsError(
                "durability 'immediate' would have each log call wait for the network: leave it out with a redis: "
                "outbox, or use a sqlite:/// one"
            )
        if any(len(text) > self.value_limit for _, text in self.properties):
            raise SettingsError("properties holds a value longer than value_limit: shorten it, or raise value_limit")
        if self.tag == self.person_field:
            raise SettingsError("tag and person_field name the same field: choose two names")


def source(name: str, given: Mapping[str, object], environ: Mapping[str, str]) -> str:
    """Where the value of a setting comes from: ``given``, the name of an environment variable, or ``default``."""
    variable = SETTINGS[name].environment
    if given.get(name) is not None:
        return "given"
    return variable if variable and environ.get(variable) else "default"


def resolved(name: str, given: Mapping[str, object], environ: Mapping[str, str]) -> object:
    """The value of one setting, checked by itself; arguments and error as for `Settings.resolve`."""
    setting = SETTINGS[name]
    origin = source(name, given, environ)
    if origin == "default":
        return None if setting.default is None else setting.parse(name, setting.default)
    if origin == "given":
        return setting.parse(name, given[name])
    return setting.parse(origin, environ[origin])
