"""The wire: a call as the target of one GET request, and back. Pure.

A *request* is text of this form, without key and without endpoint, so that it can be kept anywhere::

    /e?_p=bob&_n=Signed+Up&gender=male&_t=1262304000&_d=1

`target` adds the key and the endpoint's base path at the very end, when a sender sends it. The order of the
parameters and their encoding are those of the API specification's own examples.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import parse_qsl, quote_plus

from km_logging.calls import Call

__all__ = ["MAX_TARGET", "PATHS", "decode", "encode", "leave_out", "target"]

#: Longest request target in bytes; common servers and proxies refuse more.
MAX_TARGET = 8_000

PATHS = {"event": "/e", "set": "/s", "alias": "/a"}
_KINDS = {path: kind for kind, path in PATHS.items()}

#: No character takes more than this: four bytes of UTF-8, three characters each.
_WIDEST = 12

#: At least the path, the names of the parameters, a time and ``_d``.
_FIXED = 64


def encode(call: Call) -> str:
    """The call as a request.

    >>> encode(Call("event", "bob", "Signed Up", timestamp=1262304000, properties={"gender": "male"}))
    '/e?_p=bob&_n=Signed+Up&gender=male&_t=1262304000&_d=1'
    """
    parts = [f"{PATHS[call.kind]}?_p={_quoted(call.person)}"]
    if call.kind == "event":
        parts.append(f"_n={_quoted_name(call.name or '')}")
    elif call.kind == "alias":
        parts.append(f"_n={_quoted(call.identity or '')}")
    if call.kind != "alias":
        parts += [f"{_quoted_name(name)}={_quoted(text)}" for name, text in call.properties.items()]
        parts.append(f"_t={call.timestamp}&_d=1")
    return "&".join(parts)


def _quoted(text: str) -> str:
    """As `urlencode` has it; most texts need nothing."""
    return text if _needs_nothing(text) else quote_plus(text)


_needs_nothing = re.compile(r"[\w.~-]*", re.ASCII).fullmatch


#: Names are few and come again; values are not remembered.
_quoted_name = lru_cache(maxsize=1_024)(quote_plus)


def decode(request: str) -> Call:
    """The call that `encode` made the request of; an alias's timestamp, which is not sent, becomes 0."""
    path, _, query = request.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
    kind = _KINDS[path]
    if kind == "alias":
        return Call(kind, pairs[0][1], identity=pairs[1][1])
    named = 2 if kind == "event" else 1
    return Call(
        kind,
        person=pairs[0][1],
        name=pairs[1][1] if kind == "event" else None,
        timestamp=int(pairs[-2][1]),
        properties=dict(pairs[named:-2]),
    )


def target(request: str, api_key: str, base: str = "") -> str:
    """The request target with the key.

    Args:
        request: as `encode` makes it.
        api_key: the key as it is, not encoded.
        base: the endpoint's path, without a slash at its end, such as ``/proxy``.

    >>> target("/a?_p=User+12345&_n=bob%40bob.com", "api-key")
    '/a?_k=api-key&_p=User+12345&_n=bob%40bob.com'
    """
    path, _, query = request.partition("?")
    return f"{base}{path}?_k={_quoted_name(api_key)}&{query}"


def leave_out(call: Call, overhead: int) -> Iterator[str]:
    """Yield the names of the properties that no longer fit a target of `MAX_TARGET` bytes; the first ones stay.

    Args:
        call: a sound call.
        overhead: bytes of base path, ``_k=``, key and ``&``.
    """
    texts = [call.person, call.name or "", *call.properties, *call.properties.values()]
    if sum(map(len, texts)) * _WIDEST + 2 * len(texts) + _FIXED <= MAX_TARGET - overhead:
        return
    bare = Call(call.kind, call.person, call.name, call.identity, call.timestamp)
    room = MAX_TARGET - overhead - len(encode(bare))
    for name, value in call.properties.items():
        size = len(quote_plus(name)) + len(quote_plus(value)) + 2
        if size <= room:
            room -= size
        else:
            yield name
