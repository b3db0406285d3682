"""One thing that is wrong, or may be."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Finding"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. Holds neither key nor property.

    Attributes:
        message: what is wrong, and where.
        remedy: what to do about it.
        is_note: whether it may be meant so.
    """

    message: str
    remedy: str
    is_note: bool = False

    def __str__(self) -> str:
        return f"{self.message}: {self.remedy}"
