"""uWSGI: with threads, and a stop that lets its workers deliver.

Start `km-logging sandbox` in another terminal; then the server, and ask it something:

    KM_API_KEY=any KM_ENDPOINT=http://127.0.0.1:8123 uwsgi --http-socket 127.0.0.1:8000 --wsgi-file examples/with_uwsgi.py --master --processes 2 --enable-threads --hook-master-start "unix_signal:15 gracefully_kill_them_all"
    curl http://127.0.0.1:8000/bob

Before version 2.0.28, nothing is sent between requests without --enable-threads; and before 2.0.30, --lazy-apps costs
what is pending when a worker ends.
"""  # noqa: E501 - a command is one line

import logging
from collections.abc import Callable, Iterable
from typing import Any

import km_logging as km

# Here, where uWSGI loads the application: the sender is loaded with it.
logging.basicConfig(level="INFO", handlers=[logging.StreamHandler(), km.KissmetricsHandler()])
logger = logging.getLogger("shop")


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer a request; the person is the path's, as it would be the session's."""
    with km.identify(environ["PATH_INFO"].strip("/")):
        logger.info("Page viewed", extra=km.event(path=environ["PATH_INFO"]))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello\n"]
