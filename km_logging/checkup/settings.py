"""Settings as they may be shown, each with its source, and what is wrong with them. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from km_logging.calls import type_name
from km_logging.checkup.finding import Finding
from km_logging.errors import MissingExtraError, SettingsError
from km_logging.problems import insecure
from km_logging.senders import check_transport, unfit_for_curl
from km_logging.settings import SETTINGS, Settings, resolved, source
from km_logging.tagging import RECORD_FIELDS

__all__ = ["Shown", "settings_findings", "settings_shown", "variable_findings"]

#: How alike a variable must be to one of ours, from 0 to 1: others may begin with ``KM_`` as well.
_ALIKE = 0.8


@dataclass(frozen=True, slots=True)
class Shown:
    """One setting as it may be shown.

    Attributes:
        name: the setting.
        value: its value as text; the key, a password and properties are masked.
        source: where it was given, the name of an environment variable, or ``default``.
    """

    name: str
    value: str
    source: str


def settings_shown(given: Mapping[str, object], environ: Mapping[str, str], place: str = "given") -> list[Shown]:
    """Each setting, its value and where that comes from, also if some are wrong.

    Args:
        given: the keyword settings.
        environ: the environment.
        place: what to call the source of the keyword settings.
    """
    shown = []
    for name in SETTINGS:
        origin = source(name, given, environ)
        shown.append(Shown(name, _value(name, given, environ), place if origin == "given" else origin))
    return shown


def _value(name: str, given: Mapping[str, object], environ: Mapping[str, str]) -> str:
    try:
        return _masked(name, getattr(Settings.resolve(given, environ), name))
    except SettingsError:  # but this one may be right
        pass
    try:
        return _masked(name, resolved(name, given, environ))
    except SettingsError:
        return "(wrong)"


def _masked(name: str, value: object) -> str:
    if value is None or value == ():
        return "-"
    if name == "api_key":
        return "***"
    if isinstance(value, tuple):
        return ", ".join(f"{item[0]}=***" if name == "properties" else str(item) for item in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if callable(value):  # the text of a partial one shows its arguments
        return str(getattr(value, "__qualname__", type_name(value)))
    return re.sub(r"^(\w+://)[^/]*@", r"\1***@", str(value))  # an outbox may have a password


def settings_findings(where: str, given: Mapping[str, object], environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield every mistake in some settings.

    Args:
        where: what to call them, such as ``handler 'km'``.
        given: the keyword settings.
        environ: the environment.
    """
    mistakes = [*_mistakes(given, environ)]
    yield from (Finding(where, mistake) for mistake in mistakes)
    if mistakes:
        return
    try:
        settings = Settings.resolve(given, environ)
    except SettingsError as error:
        yield Finding(where, str(error))
        return
    yield from _refused_fields(where, settings)
    yield from _refused_include(where, settings)
    if settings.mode == "live":
        yield from _path_findings(where, settings)


def _mistakes(given: Mapping[str, object], environ: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with single settings."""
    for name in [*(name for name in given if name not in SETTINGS), *SETTINGS]:
        try:
            if name in SETTINGS:
                resolved(name, given, environ)
            else:
                Settings.resolve({name: given[name]}, environ)
        except SettingsError as error:  # noqa: PERF203 - each is asked
            yield str(error)


def _refused_fields(where: str, settings: Settings) -> Iterator[Finding]:
    """Fields that a log call cannot pass: logging raises KeyError for them, in the caller."""
    for setting in ("tag", "person_field"):
        name = getattr(settings, setting)
        if name in RECORD_FIELDS:
            message = f"{where}: {setting} is {name!r}, and logging refuses an extra of that name"
            yield Finding(message, "choose another one, and have the log calls say so")


def _refused_include(where: str, settings: Settings) -> Iterator[Finding]:
    names = [name for name in settings.include or () if name in RECORD_FIELDS]
    if names:
        message = f"{where}: include names {', '.join(map(repr, names))}, and logging refuses an extra of that name"
        yield Finding(message, "pass it by a helper: extra=km.event(.., properties={..})", is_note=True)


def _path_findings(where: str, settings: Settings) -> Iterator[Finding]:
    """What concerns the way to the server, and what keeps calls until then."""
    if settings.durability == "immediate" and not settings.outbox.lasts:
        message = f"{where}: durability 'immediate' does nothing for an outbox in memory, which ends with the process"
        yield Finding(message, "name one that lasts, such as sqlite:///km.db", is_note=True)
    if not settings.endpoint.is_private:
        problem = insecure(settings.endpoint)
        yield Finding(f"{where}: {problem.message}", problem.remedy, is_note=True)
    try:
        check_transport(settings)
    except MissingExtraError as error:
        yield Finding(where, str(error))
    if (reason := unfit_for_curl(settings)) is not None:
        yield Finding(f"{where}: transport is 'curl', but {reason}", "requests serves, so leave it out", is_note=True)


def variable_findings(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield variables that nobody reads, and that may have been meant for us."""
    known = [setting.environment for setting in SETTINGS.values() if setting.environment]
    for name in environ:
        if name.startswith("KM_") and name not in known:
            for near in difflib.get_close_matches(name, known, n=1, cutoff=_ALIKE):
                yield Finding(f"the variable {name} is none of ours", f"did you mean {near}?", is_note=True)
