"""Replaying: the calls that stand in the logs of an application are sent, or sent again.

Every call has a time of its own, and Kissmetrics counts equal calls once, so that a replay can be repeated without
harm. The path of a line:

    source.py       files and streams, plain or gzip -> blocks of lines
        |
    reading.py      line -> call, by the functions of the live path (pure)
        |
    replay.py       which calls are wanted, how fast (terms.py), how far it has come (place.py)
        |
    sinks.py        the server, an outbox, or nowhere
"""

from __future__ import annotations

from km_logging.replay.place import Place, PlaceFile
from km_logging.replay.reading import Passed, Reading
from km_logging.replay.replay import Replay, Watch
from km_logging.replay.sinks import Nowhere, Sending, Sink, Storing
from km_logging.replay.source import Source
from km_logging.replay.terms import Counts, Stop, Wanted

__all__ = [
    "Counts",
    "Nowhere",
    "Passed",
    "Place",
    "PlaceFile",
    "Reading",
    "Replay",
    "Sending",
    "Sink",
    "Source",
    "Stop",
    "Storing",
    "Wanted",
    "Watch",
]
