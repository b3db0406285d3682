"""Who is acting: a context variable, bound by ``with identify("bob"):``.

Each thread, task and request has its own context, so two requests never see each other's person.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import NamedTuple

__all__ = ["bound_by_structlog", "identified", "identify"]


class identify:  # noqa: N801 - reads as the verb that it is, like contextlib.suppress
    """Bind the person of the calls in this context; nests; ``identify(None)`` hides an outer one.

    >>> with identify("bob"):
    ...     identified()
    'bob'

    Args:
        person: str, int or UUID; checked when a call is made. None: nobody.
    """

    __slots__ = ("person",)

    def __init__(self, person: object) -> None:
        self.person = person

    def __enter__(self) -> None:
        _binding.set(_Binding(self, _binding.get()))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A generator may be closed in another context than it was opened in, whose person is none of its business.
        binding = _binding.get()
        if binding is not None and binding.by is self:
            _binding.set(binding.outer)


class _Binding(NamedTuple):
    by: identify
    outer: _Binding | None


_binding: ContextVar[_Binding | None] = ContextVar("km_logging_person", default=None)


def identified() -> object:
    """The person bound in this context, or None."""
    binding = _binding.get()
    return None if binding is None else binding.by.person


def bound_by_structlog() -> Mapping[str, object]:
    """What structlog's contextvars bind in this context; nothing where nobody has imported them, to the end."""
    bound = getattr(sys.modules.get("structlog.contextvars"), "get_contextvars", None)
    return {} if bound is None else bound()
