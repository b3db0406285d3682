"""The peers, each set up as its documentation says, with the server on loopback or nothing at all at the other end.

Each is a function that gives two more: one that tracks the event that `measuring.log_call` logs, and one that waits
until nothing is left in the background. Queues are large enough that nothing is dropped: to drop is cheap.
"""

from __future__ import annotations

import logging
import logging.handlers
import queue
import time
import warnings
from collections.abc import Callable

from measuring import Bench, Calling, cpu, log_call

PROPERTIES = {"plan": "pro", "seats": 5, "price": 9.5, "trial": True}
ROOM = 100_000

Peer = tuple[Calling, Calling]


def nothing() -> None:
    """Needs no waiting."""


def null(_: Bench) -> Peer:
    return log_call(logging.NullHandler()), nothing


def stdlib_queue(_: Bench) -> Peer:
    waiting = queue.Queue(-1)
    logging.handlers.QueueListener(waiting, logging.NullHandler()).start()

    def drain() -> None:
        while not waiting.empty():
            time.sleep(0.005)

    return log_call(logging.handlers.QueueHandler(waiting)), drain


def py_kissmetrics(bench: Bench) -> Peer:
    import KISSmetrics

    client = KISSmetrics.Client("benchmark", trk_host=f"127.0.0.1:{bench.port}")
    return lambda: client.record("bob", "Signed Up", dict(PROPERTIES)), nothing


def segment(bench: Bench) -> Peer:
    from segment.analytics.client import Client

    client = Client("benchmark", host=f"http://127.0.0.1:{bench.port}", max_queue_size=ROOM)
    return lambda: client.track("bob", "Signed Up", dict(PROPERTIES)), client.flush


def posthog(bench: Bench) -> Peer:
    from posthog import Posthog

    client = Posthog("benchmark", host=f"http://127.0.0.1:{bench.port}", max_queue_size=ROOM)
    return lambda: client.capture("Signed Up", distinct_id="bob", properties=dict(PROPERTIES)), client.flush


def snowplow(bench: Bench) -> Peer:
    from snowplow_tracker import AsyncEmitter, SelfDescribing, SelfDescribingJson, Subject, Tracker

    logging.getLogger("snowplow_tracker.emitters").setLevel(logging.CRITICAL)
    emitter = AsyncEmitter("127.0.0.1", protocol="http", port=bench.port, batch_size=100, buffer_capacity=ROOM)
    tracker = Tracker("benchmark", [emitter], subject=Subject().set_user_id("bob"), encode_base64=False)
    schema = "iglu:com.example/signed_up/jsonschema/1-0-0"
    return lambda: tracker.track(SelfDescribing(SelfDescribingJson(schema, dict(PROPERTIES)))), tracker.flush


def sentry(bench: Bench) -> Peer:
    import sentry_sdk
    from sentry_sdk import logger

    # Its integrations would change the standard library's logging for all the others.
    plain = {"default_integrations": False, "auto_enabling_integrations": False}
    sentry_sdk.init(f"http://benchmark@127.0.0.1:{bench.port}/1", enable_logs=True, **plain)
    return lambda: logger.info("Signed Up", attributes={"person": "bob", **PROPERTIES}), lambda: sentry_sdk.flush(
        timeout=5
    )


def opentelemetry(_: Bench) -> Peer:
    from opentelemetry.sdk import _logs
    from opentelemetry.sdk._logs import export

    class ToNowhere(export.InMemoryLogRecordExporter):
        def export(self, _):
            return export.LogRecordExportResult.SUCCESS

    provider = _logs.LoggerProvider()
    provider.add_log_record_processor(export.BatchLogRecordProcessor(ToNowhere(), max_queue_size=ROOM))
    return log_call(_logs.LoggingHandler(logger_provider=provider)), provider.force_flush


def logstash(_: Bench) -> Peer:
    from logstash_async.handler import AsynchronousLogstashHandler
    from logstash_async.transport import UdpTransport

    class ToNowhere(UdpTransport):
        def send(self, *_, **__):
            pass

    handler = AsynchronousLogstashHandler("127.0.0.1", 9, None, transport=ToNowhere("127.0.0.1", 9))
    return log_call(handler), handler.flush


def watchtower(bench: Bench) -> Peer:
    import boto3
    from watchtower import CloudWatchLogHandler

    nobody = {"aws_access_key_id": "nobody", "aws_secret_access_key": "nothing", "region_name": "us-east-1"}
    client = boto3.client("logs", endpoint_url=f"http://127.0.0.1:{bench.port}", **nobody)
    handler = CloudWatchLogHandler("benchmark", boto3_client=client, create_log_group=False, create_log_stream=False)
    return log_call(handler), handler.flush


def loguru(_: Bench) -> Peer:
    from loguru import logger

    logger.remove()
    logger.add(lambda _: None, enqueue=True)
    return lambda: logger.info("Signed Up", person="bob", **PROPERTIES), logger.complete


#: Those that track, or ship logs, in the background as we do.
BACKGROUND: dict[str, Callable[[Bench], Peer]] = {
    "Segment": segment,
    "PostHog": posthog,
    "Snowplow": snowplow,
    "Sentry": sentry,
    "OpenTelemetry": opentelemetry,
    "python-logstash-async": logstash,
    "watchtower": watchtower,
    "loguru": loguru,
}
ALL = {"NullHandler": null, "QueueHandler": stdlib_queue, "py-KISSmetrics": py_kissmetrics, **BACKGROUND}


def installed(bench: Bench, *names: str) -> dict[str, Peer]:
    """Those of the named ones that are there."""
    found = {}
    for name in names:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # one of them is deprecated, without what shall replace it being there
                found[name] = ALL[name](bench)
        except ImportError:
            continue
    logging.getLogger().handlers.clear()  # one of them adds some when it is imported
    return found


def record(bench: Bench) -> dict[str, Callable[[], float]]:
    """py-KISSmetrics' `record` as a subject, by the CPU time of the process; none if it is not there."""
    there = installed(bench, "py-KISSmetrics")
    return {name: lambda call=call: cpu(time.process_time, call, bench.some(500)) for name, (call, _) in there.items()}
