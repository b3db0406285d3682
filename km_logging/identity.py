"""Who is acting: a context variable, bound by ``with identify("bob"):``.

Each thread, task and request has its own context, so two requests never see each other's person.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar, Token
from types import TracebackType

__all__ = ["bound_by_structlog", "identified", "identify"]

_person: ContextVar[object] = ContextVar("km_logging_person", default=None)


class identify:  # noqa: N801 - reads as the verb that it is, like contextlib.suppress
    """Bind the person of the calls in this context; nests; ``identify(None)`` hides an outer one.

    >>> with identify("bob"):
    ...     identified()
    'bob'

    Args:
        person: str, int or UUID; checked when a call is made. None: nobody.
    """

    __slots__ = ("_person", "_tokens")

    def __init__(self, person: object) -> None:
        self._person = person
        self._tokens: list[Token[object]] = []

    def __enter__(self) -> None:
        self._tokens.append(_person.set(self._person))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        token = self._tokens.pop()
        # A generator may be closed in another context than it was opened in; what it bound ended with that one.
        with suppress(ValueError):
            _person.reset(token)


#: The person bound in this context, or None.
identified = _person.get


def bound_by_structlog() -> Mapping[str, object]:
    """What structlog's contextvars bind in this context; nothing where nobody has imported them."""
    contextvars = sys.modules.get("structlog.contextvars")
    return {} if contextvars is None else contextvars.get_contextvars()
