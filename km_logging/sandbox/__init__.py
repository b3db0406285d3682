"""A local tracking server that says what Kissmetrics never does: what is wrong with a call. Extra ``sandbox``.

The path of a request, which is also the listing of this package:

    GET /e?_k=..&_p=bob&_n=Signed+Up
        | bytes
     engine.py      uvicorn, made to take whatever it is given, and to log none of it
        |
      app.py        /e /s /a answer the GIF, always; / and /api/* only to this machine's own names (hosts.py)
        | query
     query.py       bytes -> parameters; the key is left behind here (pure)
        |
     checks.py      parameters -> Received, with every problem (pure)
        |
     store.py       the last 10,000; history.py compares each with the ones before it: duplicates, names
        |
     stream.py      each call to whoever watches /api/stream

server.py puts them together: `Sandbox` for tests, `serve` for the command. Importing this package loads neither
starlette nor uvicorn; they are loaded when a sandbox starts.
"""

from __future__ import annotations

from km_logging.sandbox.checks import Received
from km_logging.sandbox.server import Sandbox, serve
from km_logging.sandbox.store import Store

__all__ = ["Received", "Sandbox", "Store", "serve"]
