"""Who is acting: a context variable, bound by ``with identify("bob"):``.

Each thread, task and request has its own context, so two requests never see each other's person.

A callable is asked by the log call itself, in its thread and its context, and only by one that names nobody: a request
that signs somebody in tells of that person from then on, and one that tracks nothing looks nobody up.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import NamedTuple

from km_logging.calls import type_name
from km_logging.helpers import Unsaid, event
from km_logging.values import Untold

__all__ = ["answered", "bound_by_structlog", "identified", "identify", "must_ask", "portable"]


class identify:  # noqa: N801 - reads as the verb that it is, like contextlib.suppress
    """Bind the person of the calls in this context; nests; ``identify(None)`` hides an outer one.

    >>> with identify("bob"):
    ...     identified()
    'bob'

    Args:
        person: str, int or UUID, or a callable that returns it and takes nothing; checked when a call is made. None:
            nobody.
    """

    __slots__ = ("person",)

    def __init__(self, person: object) -> None:
        self.person = _Asked(person) if callable(person) else person

    def __enter__(self) -> None:
        _bind(_Binding(self, _binding.get()))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What was bound inside and never let go ends, too: the next request of this thread is somebody else's.
        binding = _binding.get()
        while binding is not None and binding.by is not self:
            binding = binding.outer
        # A generator may be closed in another context than it was opened in, whose person is none of its business.
        if binding is not None:
            _bind(binding.outer)


class _Binding(NamedTuple):
    by: identify
    outer: _Binding | None


_binding: ContextVar[_Binding | None] = ContextVar("km_logging_person", default=None)
_must_ask: ContextVar[bool] = ContextVar("km_logging_must_ask", default=False)

#: Whether the person of this context must be asked for, which only the log call can do; one C call, since each looks.
must_ask = _must_ask.get


def _bind(binding: _Binding | None) -> None:
    _binding.set(binding)
    _must_ask.set(binding is not None and type(binding.by.person) is _Asked)


class _Asked:
    """Stands for the person that a callable will name."""

    __slots__ = ("_ask",)

    def __init__(self, ask: Callable[[], object]) -> None:
        self._ask = ask

    def answer(self) -> object:
        """Whom the callable names. What it logs meanwhile is nobody's: it would ask without end."""
        try:
            with identify(None):
                return self._ask()
        except Exception as error:  # noqa: BLE001 - anybody's code
            why = f"could not be asked for ({type_name(error)})"
            return Unsaid(Untold("bad_person", why, "mend what identify() was given"))


def identified() -> object:
    """The person bound in this context, or None; `answered` says who it is, where it must be asked for."""
    binding = _binding.get()
    return None if binding is None else binding.by.person


def answered(person: object) -> object:
    """Who is meant: the person that came, unless it must be asked for."""
    return person.answer() if type(person) is _Asked else person


def portable() -> str | int | None:
    """Who is identified here, as a message tells another process; None if that is nobody one can tell of."""
    person = event(answered(identified()))["km"].get("person")
    return person if type(person) in {str, int} else None  # type: ignore[return-value]


def bound_by_structlog() -> Mapping[str, object]:
    """What structlog's contextvars bind in this context; nothing where nobody has imported them, to the end."""
    bound = getattr(sys.modules.get("structlog.contextvars"), "get_contextvars", None)
    return {} if bound is None else bound()
