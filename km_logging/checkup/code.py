"""Log calls in source files whose ``extra`` logging refuses: it raises KeyError there, in the caller. Pure.

Only what is written out can be found: ``extra={"name": ..}`` and ``extra=dict(name=..)``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from km_logging.checkup.finding import Finding
from km_logging.tagging import RECORD_FIELDS

__all__ = ["code_findings"]

#: What takes an ``extra`` in logging.
_TAKERS = frozenset("critical debug error exception fatal info log warn warning LoggerAdapter".split())

_REMEDY = "rename it, pass it by a helper (extra=km.event(.., name=..)), or say an event's name as km_name"


def code_findings(name: str, source: str | bytes) -> Iterator[Finding]:
    """Yield each key that logging would refuse.

    Args:
        name: of the file, as messages shall call it.
        source: what is in it.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        yield Finding(f"{name}{line} cannot be read as Python", "check it with this version of Python", is_note=True)
        return
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call) and _called(node) in _TAKERS):
        for keyword in call.keywords:
            if keyword.arg == "extra":
                refused = [key for key in _keys(keyword.value) if key in RECORD_FIELDS]
                where = f"{name}:{keyword.value.lineno}"
                yield from (Finding(f"{where}: logging refuses the extra key {key!r}", _REMEDY) for key in refused)


def _called(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def _keys(extra: ast.expr) -> Iterator[object]:
    if isinstance(extra, ast.Dict):
        yield from (key.value for key in extra.keys if isinstance(key, ast.Constant))
    elif isinstance(extra, ast.Call) and _called(extra) == "dict":
        yield from (keyword.arg for keyword in extra.keywords)
