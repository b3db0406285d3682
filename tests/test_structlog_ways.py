"""Every way to set structlog up that it documents, with the processor, the handler, or both: one call each."""

from __future__ import annotations

import asyncio
import collections
import io
import json
import logging
import logging.handlers
import queue
import threading
import types
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from structlog.stdlib import ProcessorFormatter

import km_logging as km
from support.servers import TrackingServer

#: No wait of these tests is longer; what takes so long hangs.
HANG = 30.0

MERGE = structlog.contextvars.merge_contextvars
JSON = structlog.processors.JSONRenderer()


@pytest.fixture
def tracker(server: TrackingServer) -> Iterator[km.Tracker]:
    """A tracker of this test's own, for this test's server."""
    with km.Tracker(api_key=uuid.uuid4().hex, endpoint=server.endpoint) as tracker:
        yield tracker


@pytest.fixture
def processor(tracker: km.Tracker) -> km.KissmetricsProcessor:
    return km.KissmetricsProcessor(tracker=tracker)


@pytest.fixture
def handler(tracker: km.Tracker, logger: logging.Logger) -> km.KissmetricsHandler:
    """A handler on this test's standard logger."""
    handler = km.KissmetricsHandler(tracker=tracker)
    logger.addHandler(handler)
    return handler


@pytest.fixture(autouse=True)
def _clean_structlog() -> Iterator[None]:
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def sent(tracker: km.Tracker, server: TrackingServer) -> list[dict[str, str]]:
    """The parameters of every request but key and time, once nothing is pending; in the order of their names."""
    assert tracker.flush(HANG)
    queries = [dict(query) for query in server.queries]
    for query in queries:
        del query["_k"]
        query.pop("_t", None)
        query.pop("_d", None)
    return sorted(queries, key=lambda query: query["_n"])


#: What `say` leads to, whatever the way.
SAID = [
    {"_p": "bob", "_n": "Signed In", "plan": "pro"},
    {"_p": "bob", "_n": "Signed Up", "plan": "pro"},
]


def say(log: Any) -> None:
    """One call in the flat form, one by a helper, and lines that are none."""
    log.info("no call", person="bob", plan="pro")
    log.info("driven", km=12.5, person="bob")
    log.info("Signed Up", km="event", person="bob", plan="pro")
    log.info("Signed In", **km.event("bob", plan="pro"))


# The processor before a renderer.


def test_before_json_renderer_with_a_print_logger(processor, tracker, server):
    printed = io.StringIO()
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper("iso"), processor, JSON],
        logger_factory=structlog.PrintLoggerFactory(printed),
    )
    say(structlog.get_logger())
    assert sent(tracker, server) == SAID
    lines = [json.loads(line) for line in printed.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["no call", "driven", "Signed Up", "Signed In"]
    assert lines[2].items() >= {"km": "event", "person": "bob", "plan": "pro"}.items()
    assert lines[3]["km"] == {"call": "event", "person": "bob", "properties": {"plan": "pro"}}


@pytest.mark.parametrize(
    "renderer",
    [
        structlog.processors.KeyValueRenderer(),
        structlog.processors.LogfmtRenderer(),
        structlog.dev.ConsoleRenderer(colors=False),
        structlog.processors.JSONRenderer(serializer=lambda event, **_: repr(event)),
    ],
    ids=["key-value", "logfmt", "console", "a serializer"],
)
def test_before_any_other_renderer(renderer, processor, tracker, server):
    printed, without = io.StringIO(), io.StringIO()
    for file, chain in ((printed, [processor, renderer]), (without, [renderer])):
        say(structlog.wrap_logger(structlog.PrintLogger(file), processors=chain))
    assert sent(tracker, server) == SAID
    assert printed.getvalue() == without.getvalue()


def test_with_the_chain_that_structlog_configures_by_default(processor, tracker, server):
    default = structlog.get_config()["processors"]
    structlog.configure(
        processors=[*default[:-1], processor, default[-1]], logger_factory=structlog.PrintLoggerFactory(io.StringIO())
    )
    say(structlog.get_logger())
    assert sent(tracker, server) == SAID


@pytest.mark.parametrize("context_class", [dict, collections.OrderedDict], ids=lambda kind: kind.__name__)
def test_with_any_context_class(context_class, processor, tracker, server):
    log = structlog.wrap_logger(
        structlog.PrintLogger(io.StringIO()), processors=[processor, JSON], context_class=context_class
    )
    say(log)
    assert sent(tracker, server) == SAID


def test_what_bind_has_bound_is_said_by_the_call_and_so_a_property(processor, tracker, server):
    """Unlike what a contextvar binds for a whole request."""
    log = structlog.wrap_logger(structlog.PrintLogger(io.StringIO()), processors=[MERGE, processor, JSON])
    log.bind(person="bob", plan="pro").info("Signed Up", km="event", seats=5)
    assert sent(tracker, server) == [{"_p": "bob", "_n": "Signed Up", "plan": "pro", "seats": "5"}]


def test_through_a_filtering_bound_logger(processor, tracker, server):
    log = structlog.wrap_logger(
        structlog.PrintLogger(io.StringIO()),
        processors=[processor, JSON],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
    log.info("Below", km="event", person="bob")
    log.warning("At", km="event", person="bob")
    log.error("Above", **km.event("bob"))
    assert [query["_n"] for query in sent(tracker, server)] == ["Above", "At"]


@pytest.mark.parametrize("wrapper", [None, structlog.stdlib.BoundLogger], ids=["filtering", "stdlib"])
def test_ainfo_sees_who_is_identified_and_what_is_bound_where_it_was_called(wrapper, processor, tracker, server):
    """`ainfo` runs the chain in a thread of an executor, with a copy of the context."""
    stdlib = wrapper is not None
    log = structlog.wrap_logger(
        logging.getLogger("test.ainfo") if stdlib else structlog.PrintLogger(io.StringIO()),
        processors=[MERGE, processor, JSON],
        wrapper_class=wrapper,
    )
    seen: list[threading.Thread] = []

    def note_thread(_logger: object, _name: str, event_dict: dict[str, Any]) -> dict[str, Any]:
        seen.append(threading.current_thread())
        return event_dict

    log = log.bind()
    log._processors.insert(0, note_thread)

    async def main() -> None:
        with structlog.contextvars.bound_contextvars(request_id="r-1"), km.identify("bob"):
            await log.ainfo("Signed Up", km="event", plan="pro")
            await log.ainfo("Signed In", **km.event(plan="pro"))

    asyncio.run(main())
    assert sent(tracker, server) == SAID
    assert threading.main_thread() not in seen


def test_concurrent_ainfo_calls_keep_their_persons_apart(processor, tracker, server):
    log = structlog.wrap_logger(structlog.PrintLogger(io.StringIO()), processors=[MERGE, processor, JSON])

    async def act(person: str) -> None:
        with km.identify(person):
            await asyncio.sleep(0)
            await log.ainfo(f"{person} acted", km="event")

    async def main() -> None:
        await asyncio.gather(*(act(person) for person in ("ann", "bob", "eve")))

    asyncio.run(main())
    assert [query["_n"] for query in sent(tracker, server)] == ["ann acted", "bob acted", "eve acted"]
    assert [query["_p"] for query in sent(tracker, server)] == ["ann", "bob", "eve"]


# What contextvars bind.


def _merging(*chain: Callable[..., object]) -> Any:
    return structlog.wrap_logger(structlog.PrintLogger(io.StringIO()), processors=[MERGE, *chain, JSON])


def test_bound_values_are_excluded_but_the_person_counts(processor, tracker, server):
    log = _merging(processor)
    with structlog.contextvars.bound_contextvars(person="bob", request_id="r-1", path="/signup"):
        log.info("Signed Up", km="event", plan="pro")
        log.info("Signed In", **km.event(plan="pro"))
    assert sent(tracker, server) == SAID


def test_a_person_in_the_call_wins_over_the_bound_one_which_wins_over_identify(processor, tracker, server):
    log = _merging(processor)
    with structlog.contextvars.bound_contextvars(person="bound"), km.identify("identified"):
        log.info("1", km="event", person="said")
        log.info("2", km="event")
        log.info("3", **km.event("said"))
        log.info("4", **km.event())
    log.info("5", km="event", person="bob")
    persons = {query["_n"]: query["_p"] for query in sent(tracker, server)}
    assert persons == {"1": "said", "2": "bound", "3": "said", "4": "bound", "5": "bob"}


def test_what_the_call_says_itself_is_a_property_though_its_name_is_bound(processor, tracker, server):
    log = _merging(processor)
    with structlog.contextvars.bound_contextvars(plan="free", path="/signup"):
        log.info("Signed Up", km="event", person="bob", plan="pro")
    assert sent(tracker, server) == [{"_p": "bob", "_n": "Signed Up", "plan": "pro"}]


@pytest.mark.parametrize("kind", ["processor", "handler"])
def test_include_brings_bound_values_back(kind, logger, server):
    settings = {"api_key": uuid.uuid4().hex, "endpoint": server.endpoint, "include": ["plan", "request_id"]}
    with km.Tracker(**settings) as tracker:
        if kind == "processor":
            log = _merging(km.KissmetricsProcessor(tracker=tracker))
        else:
            logger.addHandler(km.KissmetricsHandler(tracker=tracker))
            log = structlog.wrap_logger(logger, processors=[MERGE, structlog.stdlib.render_to_log_kwargs])
        with structlog.contextvars.bound_contextvars(person="bob", request_id="r-1", path="/signup"):
            log.info("Signed Up", km="event", plan="pro", seats=5)
        assert sent(tracker, server) == [{"_p": "bob", "_n": "Signed Up", "plan": "pro", "request_id": "r-1"}]


def test_bound_values_are_excluded_also_if_the_person_field_is_renamed(server):
    settings = {"api_key": uuid.uuid4().hex, "endpoint": server.endpoint, "person_field": "user_id"}
    with km.Tracker(**settings) as tracker:
        log = _merging(km.KissmetricsProcessor(tracker=tracker))
        with structlog.contextvars.bound_contextvars(user_id=7, person="whoever", path="/signup"):
            log.info("Signed Up", km="event", plan="pro")
        assert sent(tracker, server) == [{"_p": "7", "_n": "Signed Up", "plan": "pro"}]


def test_values_bound_in_another_context_are_ordinary_properties(processor, tracker, server):
    """Only what is bound where the call is logged is this request's context."""
    log = _merging(processor)
    thread = threading.Thread(target=structlog.contextvars.bind_contextvars, kwargs={"plan": "free"})
    thread.start()
    thread.join(HANG)
    log.info("Signed Up", km="event", person="bob", plan="pro")
    assert sent(tracker, server) == [{"_p": "bob", "_n": "Signed Up", "plan": "pro"}]


# Through the standard library.


@pytest.mark.parametrize("ends", ["processor", "handler", "both"])
@pytest.mark.parametrize("render", ["render_to_log_kwargs", "render_to_log_args_and_kwargs"])
def test_rendered_to_the_keywords_of_a_log_call(render, ends, processor, handler, tracker, logger, server):
    if not hasattr(structlog.stdlib, render):
        pytest.skip(f"this structlog has no {render}")
    if ends == "processor":
        logger.removeHandler(handler)
    chain = [MERGE, *([processor] if ends != "handler" else []), getattr(structlog.stdlib, render)]
    log = structlog.wrap_logger(logger, processors=chain, wrapper_class=structlog.stdlib.BoundLogger)
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        say(log)
    assert sent(tracker, server) == SAID
    assert tracker.stats().accepted == 2


@pytest.fixture
def formatted(logger: logging.Logger) -> Iterator[io.StringIO]:
    """What a standard handler with a ProcessorFormatter writes, of this test's logger."""
    written = io.StringIO()
    stream = logging.StreamHandler(written)
    stream.setFormatter(ProcessorFormatter(processors=[ProcessorFormatter.remove_processors_meta, JSON]))
    logger.addHandler(stream)
    yield written
    logger.removeHandler(stream)


@pytest.mark.parametrize("order", ["formatter first", "handler first"])
@pytest.mark.parametrize("ends", ["processor", "handler", "both"])
def test_wrapped_for_a_processor_formatter(ends, order, processor, tracker, logger, formatted, server):
    """With the handler alone, the event dict is what `record.msg` is."""
    handler = km.KissmetricsHandler(tracker=tracker)
    if ends != "processor":
        logger.handlers.insert(0 if order == "handler first" else 1, handler)
    chain = [
        MERGE,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper("iso"),
        *([processor] if ends != "handler" else []),
        ProcessorFormatter.wrap_for_formatter,
    ]
    log = structlog.wrap_logger(logger, processors=chain, wrapper_class=structlog.stdlib.BoundLogger)
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        say(log)
    assert sent(tracker, server) == SAID
    assert tracker.stats().accepted == 2
    lines = [json.loads(line) for line in formatted.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["no call", "driven", "Signed Up", "Signed In"]
    assert all(line["request_id"] == "r-1" for line in lines)
    assert lines[2]["km"] == "event"
    logger.removeHandler(handler)


def test_wrapped_for_a_processor_formatter_the_stamped_time_counts(handler, tracker, logger, server):
    chain = [structlog.processors.MaybeTimeStamper("iso"), ProcessorFormatter.wrap_for_formatter]
    log = structlog.wrap_logger(logger, processors=chain)
    log.info("Signed Up", km="event", person="bob", timestamp="2023-11-14T22:13:20.500000Z")
    assert tracker.flush(HANG)
    assert dict(server.queries[0])["_t"] == "1700000000"


@pytest.mark.parametrize("context_class", [dict, collections.OrderedDict], ids=lambda kind: kind.__name__)
def test_wrapped_for_a_processor_formatter_with_any_context_class(context_class, handler, tracker, logger, server):
    """Whatever mapping the event dict is, it becomes `record.msg`."""
    chain = [ProcessorFormatter.wrap_for_formatter]
    say(structlog.wrap_logger(logger, processors=chain, context_class=context_class))
    assert sent(tracker, server) == SAID


def test_wrapped_for_a_processor_formatter_and_refused_it_is_one_refusal(
    processor, handler, tracker, logger, formatted, server
):
    log = structlog.wrap_logger(logger, processors=[processor, ProcessorFormatter.wrap_for_formatter])
    log.info("Nobody's", km="event")
    assert sent(tracker, server) == []
    assert tracker.stats().refused == {"no_person": 1}


def test_behind_a_queue_handler_wrapped_event_dicts_are_still_calls(processor, handler, tracker, logger, server):
    """QueueHandler.prepare() makes text of the event dict, so here it takes the processor."""
    logger.removeHandler(handler)
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    listener = logging.handlers.QueueListener(records, handler)
    listener.start()
    queued = logging.handlers.QueueHandler(records)
    logger.addHandler(queued)
    try:
        say(structlog.wrap_logger(logger, processors=[processor, ProcessorFormatter.wrap_for_formatter]))
    finally:
        listener.stop()
        logger.removeHandler(queued)
    assert sent(tracker, server) == SAID


def _formatter_with(processor: km.KissmetricsProcessor) -> logging.Handler:
    handler = logging.StreamHandler(io.StringIO())
    chain = [ProcessorFormatter.remove_processors_meta, processor, JSON]
    pre_chain = [structlog.stdlib.ExtraAdder(), structlog.stdlib.add_log_level]
    handler.setFormatter(ProcessorFormatter(processors=chain, foreign_pre_chain=pre_chain))
    return handler


@pytest.mark.parametrize("origin", ["structlog", "standard library"])
def test_in_the_chain_of_a_processor_formatter(origin, processor, tracker, logger, server):
    logger.addHandler(_formatter_with(processor))
    if origin == "structlog":
        say(structlog.wrap_logger(logger, processors=[ProcessorFormatter.wrap_for_formatter]))
    else:
        logger.info("Signed Up", extra={"km": "event", "person": "bob", "plan": "pro"})
        logger.info("Signed In", extra=km.event("bob", plan="pro"))
    assert sent(tracker, server) == SAID


def test_standard_records_beside_structlog_are_calls_by_the_handler(handler, tracker, logger, formatted, server):
    """ProcessorFormatter formats both; the handler takes each as it is."""
    log = structlog.wrap_logger(logger, processors=[ProcessorFormatter.wrap_for_formatter])
    log.info("Signed Up", km="event", person="bob", plan="pro")
    logger.info("Signed In", extra=km.event("bob", plan="pro"))
    assert sent(tracker, server) == SAID
    assert len(formatted.getvalue().splitlines()) == 2


# structlog's own testing.


def test_capture_logs_replaces_the_processor_so_nothing_is_sent(processor, tracker, server):
    structlog.configure(
        processors=[processor, JSON], logger_factory=structlog.PrintLoggerFactory(printed := io.StringIO())
    )
    log = structlog.get_logger()
    before = set(threading.enumerate())
    with structlog.testing.capture_logs() as captured:
        say(log)
    assert [entry["event"] for entry in captured] == ["no call", "driven", "Signed Up", "Signed In"]
    assert captured[2] == {"event": "Signed Up", "km": "event", "person": "bob", "plan": "pro", "log_level": "info"}
    assert set(threading.enumerate()) <= before
    assert tracker.stats().accepted == 0
    assert printed.getvalue() == ""
    say(log)
    assert sent(tracker, server) == SAID


def test_capture_logs_with_the_processor_given_sends_and_captures(processor, tracker, server):
    try:
        capturing = structlog.testing.capture_logs(processors=[processor])
    except TypeError:
        pytest.skip("this structlog's capture_logs takes no processors")
    with capturing as captured:
        say(structlog.get_logger())
    assert sent(tracker, server) == SAID
    assert captured[2] == {"event": "Signed Up", "km": "event", "person": "bob", "plan": "pro", "log_level": "info"}


def test_a_return_logger_gets_what_it_would_without_the_processor(processor, tracker, server):
    returned = [
        structlog.wrap_logger(structlog.ReturnLogger(), processors=chain).info("Signed Up", km="event", person="bob")
        for chain in ([processor, JSON], [JSON])
    ]
    assert returned[0] == returned[1]
    assert len(sent(tracker, server)) == 1


def test_an_event_dict_that_is_no_dict_is_taken_as_well(processor, tracker, server):
    event_dict = collections.UserDict(event="Signed Up", km="event", person="bob", plan="pro")
    assert processor(types.SimpleNamespace(), "info", event_dict) is event_dict
    assert sent(tracker, server) == SAID[1:]
