"""AWS Lambda: an invocation ends when its events are delivered, since the process is frozen then.

Start `km-logging sandbox` in another terminal, then run this, which invokes the handler once, with one command:

    KM_API_KEY=any KM_ENDPOINT=http://127.0.0.1:8123 python examples/with_lambda.py

On Lambda the handler is `with_lambda.handler`.
"""

import logging
from typing import Any

import km_logging as km
from km_logging.contrib.aws_lambda import flushed

logger = logging.getLogger()
logger.setLevel("INFO")  # Lambda's own handler is there already, so basicConfig would do nothing
logger.addHandler(km.KissmetricsHandler())


@flushed
def handler(event: dict[str, Any], _context: object) -> str:
    """Handle one event; waits for its calls no longer than the invocation may take."""
    with km.identify(event["user"]):
        logger.info("Order placed", extra=km.event(total=event["total"]))
    return "done"


if __name__ == "__main__":
    print(handler({"user": "bob", "total": 12.5}, None))
