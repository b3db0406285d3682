"""Flask, and whatever else speaks WSGI: a middleware says who acts.

Start `km-logging sandbox` in another terminal, then run this in this folder (with `pip install flask gunicorn gevent`):

    export KM_API_KEY=any KM_ENDPOINT=http://127.0.0.1:8123
    gunicorn --workers 2 --worker-class gevent shop:app

Then be somebody, and do something:

    curl --cookie-jar cookies --request POST http://127.0.0.1:8000/people/bob
    curl --cookie cookies --request POST http://127.0.0.1:8000/orders/42
"""

import logging.config
import os

from flask import Flask, session

import km_logging as km
from km_logging.contrib.wsgi import KissmetricsMiddleware

logging.config.dictConfig(
    {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {
            "console": {"class": "logging.StreamHandler"},
            "kissmetrics": {"class": "km_logging.KissmetricsHandler"},
        },
        "root": {"level": "INFO", "handlers": ["console", "kissmetrics"]},
    }
)
logger = logging.getLogger(__name__)

app = Flask(__name__)
app.secret_key = os.environ.get("SECRET_KEY", "for this machine only, where nobody else reaches it")
app.wsgi_app = KissmetricsMiddleware(app.wsgi_app, person=lambda _environ: session.get("name"))


@app.post("/people/<name>")
def sign_up(name: str) -> str:
    """Be somebody, from here on: the event is that person's already."""
    session["name"] = name
    logger.info("Signed Up", extra=km.event())
    return f"Welcome, {name}.\n"


@app.post("/orders/<int:item>")
def order(item: int) -> str:
    """Order something. The log call names nobody: the middleware knows who it is."""
    logger.info("Ordered", extra=km.event(item=item))
    return f"Item {item} is on its way.\n"
