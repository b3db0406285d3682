"""The test kit: calls captured instead of sent, with or without pytest.

1. Captured is what would have been sent: by the functions of the live path, in the log call itself, so that a call is
   in the list when the log call returns. No thread is started, no connection and no file opened.
2. It holds for every front end of the process, in every thread, made before or meanwhile. With `mode` ``off`` a front
   end stays off; with ``print`` its calls are captured and not printed.
3. structlog's `LogCapture`, and with it `capture_logs`, stands in the place of the configured processors. While calls
   are captured, what it captures has gone through those processors first, as far as the last one of ours.

The fixtures that pytest finds by itself are in `km_logging.pytest_plugin`.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from km_logging import process
from km_logging.addresses import Endpoint, is_loopback
from km_logging.calls import Call, Problem
from km_logging.capturing import Capture, captures
from km_logging.pipeline import Pipeline
from km_logging.processor import KissmetricsProcessor

if TYPE_CHECKING:
    from km_logging.sandbox.checks import Received

__all__ = ["Calls", "capture_calls", "written"]


class Calls(list[Call]):
    """The calls captured, in the order of the log calls. Unlike that of a `Call`, its `repr` shows everything.

    Attributes:
        problems: what could not be told and what was left out, as `km_logging.Problem`.
    """

    def __init__(self, calls: Iterable[Call] = ()) -> None:
        super().__init__(calls)
        self.problems: list[Problem] = []

    def __repr__(self) -> str:
        return "[" + ",\n ".join(map(written, self)) + "]"


@contextmanager
def capture_calls() -> Iterator[Calls]:
    """Capture the calls of this process, instead of having them sent.

    >>> import km_logging as km
    >>> with capture_calls() as calls, km.Tracker() as tracker:
    ...     tracker.event("bob", "Signed Up", timestamp=1262304000, plan="pro")
    True
    >>> calls
    [km.event('bob', 'Signed Up', timestamp=1262304000, plan='pro')]

    A front end made inside needs no `api_key`; without one its `mode` is ``print``, which it keeps. `stats` counts what
    is captured as delivered. Problems are in ``calls.problems``, and said as always; with `strict` they raise. Captures
    nest: the innermost one gets the calls. What was pending before is sent as ever.

    Inside structlog's `capture_logs` it comes too late to know the processors: begin this one first.

    Yields:
        The list that fills.
    """
    calls = Calls()
    capture = Capture(calls, calls.problems)
    with seen_through_log_capture():
        captures.append(capture)
        try:
            yield calls
        finally:
            captures.remove(capture)


def written(call: Call | Received) -> str:
    """The call as one would write it.

    >>> written(Call("set", "bob", timestamp=1262304000, properties={"gender": "male", "favourite colour": "blue"}))
    "km.set('bob', timestamp=1262304000, properties={'gender': 'male', 'favourite colour': 'blue'})"
    """
    said = [repr(call.person)]
    if call.kind == "event":
        said.append(repr(call.name))
    if call.kind == "alias":
        said.append(repr(call.identity))
    elif call.timestamp is not None:
        said.append(f"timestamp={call.timestamp}")
    if all(map(_is_keyword_argument, call.properties)):
        said += [f"{name}={text!r}" for name, text in call.properties.items()]
    else:
        said.append(f"properties={call.properties!r}")
    return f"km.{call.kind}({', '.join(said)})"


def _is_keyword_argument(name: str) -> bool:
    # Python would write other letters its own way.
    is_name = name.isascii() and name.isidentifier() and not keyword.iskeyword(name)
    return is_name and name not in {"timestamp", "properties"}


def finish(endpoint: str) -> None:
    """Have everything delivered that this process still has for an endpoint, and end the threads that do it.

    Takes no longer than `drain_timeout` for each tracker; what is left then is given up, as at the end of the process.
    The next call starts the threads again.

    Args:
        endpoint: of a server on this machine; a tracker may name the machine otherwise.
    """
    port = urlsplit(endpoint).port
    for pipeline in list(process.running):
        if isinstance(pipeline, Pipeline) and _is_here(pipeline.settings.endpoint, port):
            pipeline.close(process.deadline(pipeline.settings.drain_timeout))


def _is_here(endpoint: Endpoint, port: int | None) -> bool:
    url = urlsplit(endpoint.origin)
    return url.port == port and is_loopback(url.hostname or "")


# Beside structlog's own capture.

Processor = Callable[[Any, str, Any], Any]

#: Where a `LogCapture` keeps the processors in whose place it stands.
_REPLACED = "_km_logging_replaced"


@contextmanager
def seen_through_log_capture() -> Iterator[None]:
    """Have each `LogCapture` made meanwhile run the processors that it replaces, as far as the last one of ours."""
    from structlog import testing  # a test may import it later: by then it is too late to know

    original_init, original_call = testing.LogCapture.__init__, testing.LogCapture.__call__
    if hasattr(original_init, _REPLACED):
        yield  # inside another capture
        return

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original_init(self, *args, **kwargs)
        setattr(self, _REPLACED, _up_to_ours(_configured()))

    def call(self: Any, logger: Any, method_name: str, event_dict: Any) -> Any:
        if captures:
            _run(getattr(self, _REPLACED, ()), logger, method_name, event_dict.copy())
        return original_call(self, logger, method_name, event_dict)

    setattr(init, _REPLACED, ())
    testing.LogCapture.__init__, testing.LogCapture.__call__ = init, call  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        testing.LogCapture.__init__, testing.LogCapture.__call__ = original_init, original_call  # type: ignore[method-assign]


def _configured() -> list[Processor]:
    """The processors that structlog has; of a capture inside another, those that the other one replaces."""
    from structlog import get_config

    return [step for processor in get_config()["processors"] for step in getattr(processor, _REPLACED, [processor])]


def _up_to_ours(processors: Sequence[Processor]) -> Sequence[Processor]:
    ours = [at for at, processor in enumerate(processors, start=1) if isinstance(processor, KissmetricsProcessor)]
    return processors[: ours[-1]] if ours else ()


def _run(processors: Sequence[Processor], logger: object, method_name: str, event_dict: Any) -> None:
    from structlog import DropEvent

    with suppress(DropEvent):
        for process_event in processors:
            event_dict = process_event(logger, method_name, event_dict)
