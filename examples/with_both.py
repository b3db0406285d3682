"""structlog in front of the standard library's logging: processor and handler together make one call of one line.

Start `km-logging sandbox` in another terminal, then run this with one command:

    KM_API_KEY=any KM_ENDPOINT=http://127.0.0.1:8123 python examples/with_both.py
"""

import logging

import structlog

import km_logging as km


def main() -> None:
    """Configure both, then log through both."""
    console = logging.StreamHandler()
    console.setFormatter(structlog.stdlib.ProcessorFormatter(processor=structlog.processors.JSONRenderer()))
    logging.basicConfig(level=logging.INFO, handlers=[console, km.KissmetricsHandler()])
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            km.KissmetricsProcessor(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )

    structlog.get_logger("shop").info("Signed Up", km="event", person="bob", plan="pro")
    logging.getLogger("legacy").info("Invoice paid", extra={"km": "event", "person": "bob", "total": 12.5})


if __name__ == "__main__":
    main()
