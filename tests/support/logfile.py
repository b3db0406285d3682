"""Log files of any size, made from a seed: one line in five tells a call, in every form that a replay reads.

As a script: ``python logfile.py FILE [--lines 1000000] [--seed 1] [--calls FILE]`` writes the file, and if asked for,
the requests that its lines tell, by the API specification alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from random import Random
from typing import NamedTuple
from urllib.parse import urlencode

__all__ = ["Made", "made", "write"]

#: One line in so many tells a call.
ONE_IN = 5

#: When the first line was logged, and how many lines come in a second.
BEGIN = 1_700_000_000
A_SECOND = 50

NAMES = ["Signed Up", "Searched", "Bestellung storniert", "Añadido al carrito", "Order placed & paid"]
CITIES = ["Paris", "São Paulo", "東京", "New York", 'the "Big" Apple\\', "50% off + more"]
PATHS = ["/", "/cart", "/cart/items", "/search?q=km", "/checkout"]


class Made(NamedTuple):
    """One line of a log.

    Attributes:
        line: as it is written, without its end.
        request: path and query of the call that it tells, without the key; None if it tells none.
    """

    line: str
    request: str | None = None


def made(lines: int, seed: int) -> Iterator[Made]:
    """Yield the lines of a log; the same ones for the same seed."""
    chance = Random(seed)
    for number in range(lines):
        moment = BEGIN + number / A_SECOND
        form = chance.choice(_CALLS if number % ONE_IN == ONE_IN - 1 else _OTHERS)
        yield form(chance, number, moment)


def write(path: str | Path, lines: int, seed: int) -> None:
    """Write the lines of a log into a file."""
    with Path(path).open("w", encoding="utf-8") as file:
        file.writelines(f"{one.line}\n" for one in made(lines, seed))


# What tells a call. Each has a person of its own, so that no two are equal.


def _flat(chance: Random, number: int, moment: float) -> Made:
    """structlog, with annotate=True."""
    properties = {"city": chance.choice(CITIES), "seats": str(chance.randrange(100))}
    said = {"km": "event", "person": f"user-{number}", **properties, "event": chance.choice(NAMES), "level": "info"}
    line = _json(chance, {**said, "timestamp": _iso(moment), "km_timestamp": int(moment)})
    return Made(line, _event(number, said["event"], properties, moment))


def _helper(chance: Random, number: int, moment: float) -> Made:
    """structlog, by a helper."""
    name, city = chance.choice(NAMES), chance.choice(CITIES)
    nested = {"call": "event", "person": f"user-{number}", "properties": {"city": city, "paid": True, "price": 12.5}}
    line = _json(chance, {"km": nested, "request_id": f"{number:08x}", "event": name, "timestamp": _iso(moment)})
    return Made(line, _event(number, name, {"city": city, "paid": "true", "price": "12.5"}, moment))


def _record(chance: Random, number: int, moment: float) -> Made:
    """python-json-logger, with the format of our documentation."""
    name, seats = chance.choice(NAMES), chance.randrange(100)
    written = {"created": moment, "levelname": "INFO", "name": "shop", "msg": name, "message": name}
    line = _json(chance, {**written, "km": "event", "person": f"user-{number}", "seats": seats, "trial": None})
    return Made(line, _event(number, name, {"seats": str(seats)}, moment))


def _stamped_record(chance: Random, number: int, moment: float) -> Made:
    """python-json-logger, with its own timestamp."""
    city = chance.choice(CITIES)
    stamp = datetime.fromtimestamp(moment, timezone.utc).isoformat()
    said = {"km": "set", "person": number + 1, "address": {"city": city, "zip": 75_001}}
    line = _json(chance, {"message": "Profile saved", "levelname": "INFO", **said, "timestamp": stamp})
    query = {"_p": number + 1, "address.city": city, "address.zip": 75_001, "_t": int(moment), "_d": 1}
    return Made(line, f"/s?{urlencode(query)}")


def _import(chance: Random, number: int, moment: float) -> Made:
    """Kissmetrics' own format."""
    name = chance.choice(NAMES)
    line = _json(chance, {"_p": f"user-{number}", "_t": int(moment), "_n": name, "Billing Amount": 32})
    return Made(line, _event(number, name, {"Billing Amount": "32"}, moment))


def _alias(chance: Random, number: int, moment: float) -> Made:
    said = {"km": "alias", "person": f"user-{number}", "identity": f"{number}@example.com", "event": "Linked"}
    line = _json(chance, {**said, "timestamp": _iso(moment)})
    return Made(line, f"/a?{urlencode({'_p': f'user-{number}', '_n': f'{number}@example.com'})}")


def _event(number: int, name: object, properties: dict[str, str], moment: float) -> str:
    return f"/e?{urlencode({'_p': f'user-{number}', '_n': name, **properties, '_t': int(moment), '_d': 1})}"


# What tells none.


def _request(chance: Random, number: int, moment: float) -> Made:
    fields = {"path": chance.choice(PATHS), "status": 200, "duration_ms": chance.randrange(1_000) / 10}
    said = {"request_id": f"{number:08x}", **fields, "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:125.0) Firefox"}
    written = {"event": "request_finished", "logger": "django_structlog", "level": "info", "timestamp": _iso(moment)}
    return Made(_json(chance, {**said, **written}))


def _other_record(chance: Random, number: int, moment: float) -> Made:
    said = {"msg": "query took %d ms", "message": f"query took {number % 90} ms", "rows": chance.randrange(1_000)}
    return Made(_json(chance, {"created": moment, "levelname": "DEBUG", "name": "django.db.backends", **said}))


def _distance(chance: Random, _number: int, moment: float) -> Made:
    return Made(_json(chance, {"km": chance.randrange(100) / 2, "event": "driven", "timestamp": _iso(moment)}))


def _quoted(chance: Random, _number: int, moment: float) -> Made:
    return Made(_json(chance, {"event": 'the field "km" of "person" is "event"', "timestamp": _iso(moment)}))


def _text(_chance: Random, number: int, moment: float) -> Made:
    return Made(f"{_iso(moment)} INFO worker-{number % 8} processed job {number} in {number % 700} ms")


def _traceback(_chance: Random, number: int, _moment: float) -> Made:
    return Made(f'  File "/srv/shop/views.py", line {number % 900}, in get')


def _broken(chance: Random, number: int, moment: float) -> Made:
    line = _request(chance, number, moment).line  # of a call it would be a problem
    return Made(line[: len(line) // 2])


def _empty(_chance: Random, _number: int, _moment: float) -> Made:
    return Made("")


_CALLS = [_flat, _flat, _helper, _record, _record, _stamped_record, _import, _alias]
_OTHERS = [*[_request] * 12, *[_other_record] * 6, _distance, _quoted, _text, _traceback, _broken, _empty]


def _json(chance: Random, fields: dict[str, object]) -> str:
    """As structlog writes it, in ASCII, or as others do."""
    return json.dumps(fields, ensure_ascii=chance.random() < 0.5)


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--calls", metavar="FILE", help="where to write the requests")
    wanted = parser.parse_args()
    write(wanted.file, wanted.lines, wanted.seed)
    if wanted.calls:
        with Path(wanted.calls).open("w", encoding="ascii") as file:
            file.writelines(f"{one.request}\n" for one in made(wanted.lines, wanted.seed) if one.request)


if __name__ == "__main__":
    main()
