"""A dictConfig in a file: JSON, TOML or YAML. What is wrong with one is said without what stands in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

__all__ = ["read"]


def read(path: Path) -> Mapping[str, Any]:
    """The dictConfig of a file; that of an application may be in a table of its own, ``logging`` or ``LOGGING``.

    Raises:
        click.BadParameter: it cannot be read; says what to do about it.
    """
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise click.BadParameter(f"{path} is none of {', '.join(_PARSERS)}: write the dictConfig as one of these")
    try:
        table = parse(path.read_text("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"{path} cannot be read ({error})") from error
    if not isinstance(table, Mapping):
        raise click.BadParameter(f"{path} holds no table: write a dictConfig")
    inner = table.get("logging", table.get("LOGGING"))
    return inner if "version" not in table and isinstance(inner, Mapping) else table


def _toml(text: str) -> Any:
    try:
        import tomllib  # from Python 3.11
    except ModuleNotFoundError:
        try:
            import tomli as tomllib  # type: ignore[no-redef]  # the same, before it was in the library
        except ModuleNotFoundError:
            raise click.BadParameter("TOML needs Python 3.11 or the package tomli: pip install tomli") from None
    return tomllib.loads(text)


def _yaml(text: str) -> Any:
    try:
        import yaml  # whoever writes a dictConfig in YAML has it
    except ModuleNotFoundError:
        raise click.BadParameter("YAML needs the package PyYAML: pip install pyyaml") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:  # whose text shows the line
        mark = getattr(error, "problem_mark", None)
        raise ValueError(f"no YAML{'' if mark is None else f', line {mark.line + 1}'}") from error


_PARSERS: dict[str, Callable[[str], Any]] = {".json": json.loads, ".toml": _toml, ".yaml": _yaml, ".yml": _yaml}
