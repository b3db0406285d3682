"""Who may read: which names are this machine's own, and which pages are the sandbox's. Pure.

A page on the web can give its own name the address 127.0.0.1 and then read what a server on this machine answers (DNS
rebinding). The name stays in the ``Host`` header, so names that are not this machine's are refused there. Where a page
asks under our own name, the browser says of which origin it is, in ``Origin`` or ``Sec-Fetch-Site``.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from km_logging.addresses import is_loopback
from km_logging.calls import brief

__all__ = ["exposure", "foreign", "hostname", "is_loopback", "refusal"]


_HOST = re.compile(r"(\[(?P<address>[0-9a-f:.%]*)\]|(?P<name>[^:@\[\]/]*))(:[0-9]*)?")


def hostname(header: str) -> str:
    """The name in a ``Host`` header, in lower case, without port and brackets; empty if it is no such header.

    >>> hostname("LocalHost:8123"), hostname("[::1]:8123")
    ('localhost', '::1')
    """
    found = _HOST.fullmatch(header.strip().lower())
    return (found["address"] or found["name"] or "").removesuffix(".") if found else ""


def refusal(header: str, allowed: Collection[str]) -> str | None:
    """Why a request with this ``Host`` header is refused, as one line; None if it is not.

    Args:
        header: the header, or an empty text if it is missing.
        allowed: names beside the machine's own, as `hostname` gives them.
    """
    name = hostname(header)
    if is_loopback(name) or name in allowed:
        return None
    remedy = "km-logging sandbox --allow-host NAME"
    return f"403: the Host {brief(name)} is not a name of this machine. If you trust it, allow it: {remedy}\n"


def foreign(site: str | None, origin: str | None, host: str) -> str | None:
    """Why a page may not ask, as one line; None if it is the sandbox's own, or nobody says that it is a page.

    Args:
        site: the header ``Sec-Fetch-Site``; None if it is missing.
        origin: the header ``Origin``; None if it is missing.
        host: the header ``Host``. A proxy may have made http of https, so the scheme is not compared.
    """
    if site not in {None, "same-origin", "none"}:
        return f"403: a page of another origin may not ask here (Sec-Fetch-Site: {brief(site)})\n"
    if origin is not None and origin.lower() not in {f"http://{host.lower()}", f"https://{host.lower()}"}:
        return f"403: a page of another origin may not ask here (Origin: {brief(origin)})\n"
    return None


def exposure(host: str) -> str | None:
    """What to know before listening on ``host``; None if only this machine can reach it."""
    if is_loopback(host.lower()):
        return None
    risk = f"whoever reaches {host} can send calls, and read and clear all that it holds"
    return f"The sandbox is not for open networks: {risk}. Listen on 127.0.0.1 unless you mean it."
