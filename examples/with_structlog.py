"""structlog: the processor stands before the renderer.

Start `km-logging sandbox` in another terminal, then run this with one command:

    KM_API_KEY=any KM_ENDPOINT=http://127.0.0.1:8123 python examples/with_structlog.py
"""

import structlog

import km_logging as km


def main() -> None:
    """Configure, then log as any application does."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # annotate: the rendered lines hold all that is needed to send them again.
            km.KissmetricsProcessor(annotate=True),
            structlog.processors.JSONRenderer(),
        ],
    )
    log = structlog.get_logger()

    # What is bound to the request stays in the log; only the person is taken from there.
    structlog.contextvars.bind_contextvars(person="ann", request_id="4f1c")
    log.info("Signed Up", km="event", plan="pro")
    log.info("Ordered", **km.event(items=["tea", "cup"], total=12.5))

    with km.identify("bob"):
        log.info("Address changed", **km.set("bob", address={"city": "Paris"}))

    log.info("Cache warmed", ms=31)


if __name__ == "__main__":
    main()
