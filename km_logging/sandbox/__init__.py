"""A local tracking server that says what Kissmetrics never does: what is wrong with a call. Extra ``sandbox``.

The path of a request, which is also the listing of this package:

    GET /e?_k=..&_p=bob&_n=Signed+Up
        | bytes
     engine.py      uvicorn, made to take whatever it is given, and to log none of it
        |
      app.py        who may ask what: /e /s /a anybody, the rest only this machine's own names and pages (hosts.py)
        |
    beacons.py      /e /s /a answer the GIF, always
        | query
     query.py       bytes -> parameters; the key is left behind here (pure)
        |
     checks.py      parameters -> Received, with every problem (pure)
        |
     store.py       the last 10,000; history.py compares each with the ones before it: duplicates, names
        |   \
        |  kept.py   and in a file, for the next start (--db)
        |
      api.py        /api/..: what is held; stream.py tells each call as it comes, people.py all of one person (pure)
        |
     assets.py      the pages that show it, in pages/

server.py puts them together: `Sandbox` for tests, `serve` for the command. Importing this package loads neither
starlette nor uvicorn; they are loaded when a sandbox starts.
"""

from __future__ import annotations

from km_logging.sandbox.checks import Received
from km_logging.sandbox.server import Sandbox, serve
from km_logging.sandbox.store import Store

__all__ = ["Received", "Sandbox", "Store", "serve"]
