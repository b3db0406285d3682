"""What the parameters of a test are called: the same in each process, since pytest-xdist compares what they collect."""

from __future__ import annotations

import re


def shown(value: object) -> str:
    """The value in ASCII, without the address that an object shows of itself."""
    return re.sub(r" at 0x[0-9a-f]+", "", ascii(value))
