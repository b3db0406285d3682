"""The errors that this library raises, and whose fault each one is.

    KmLoggingError
    ├── SettingsError        the configuration is wrong (also a ValueError)
    ├── ProblemError         a call cannot be told, and `strict` asked to hear of it (also a ValueError)
    ├── OutboxError          an outbox that lasts cannot be used
    └── MissingExtraError    a package of an extra is not installed (also an ImportError)

Every message ends with the remedy. None ever holds the API key or a property's value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from km_logging.calls import Problem

__all__ = ["KmLoggingError", "MissingExtraError", "OutboxError", "ProblemError", "SettingsError"]


class KmLoggingError(Exception):
    """Base of every error of this library."""


class SettingsError(KmLoggingError, ValueError):
    """A setting is missing, unknown or out of range; the message names it and the remedy."""


class ProblemError(KmLoggingError, ValueError):
    """Raised at the log call under ``strict=True``: the call, or a part of it, cannot be told.

    Attributes:
        problem: what is wrong, as a `km_logging.Problem`.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem

    def __reduce__(self) -> tuple[type[ProblemError], tuple[Problem]]:
        return type(self), (self.problem,)


class OutboxError(KmLoggingError):
    """An outbox that lasts cannot be used; raised by commands only, elsewhere it is a problem.

    Args:
        message: what is wrong.
        remedy: what to do about it.
    """

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}: {remedy}")
        self.message = message
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[OutboxError], tuple[str, str]]:
        return type(self), (self.message, self.remedy)


class MissingExtraError(KmLoggingError, ImportError):
    """A command or setting needs a package that is not installed; the message holds the ``pip install`` line.

    Args:
        what: the command or setting that needs the extra, as the user wrote it.
        extra: the extra's name, such as ``sandbox``.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra {extra!r}: pip install 'km_logging[{extra}]'")
        self._given = what, extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        return type(self), self._given
