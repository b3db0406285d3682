"""FastAPI, Starlette, and whatever else speaks ASGI: a middleware says who acts.

Start `km-logging sandbox` in another terminal, then run this in this folder (with `pip install fastapi uvicorn`):

    export KM_API_KEY=any KM_ENDPOINT=http://127.0.0.1:8123
    uvicorn --workers 2 shop:app

or, for the last line, `hypercorn --workers 2 shop:app`. Then be somebody, and do something:

    curl --header "Authorization: Bearer bob" --request POST http://127.0.0.1:8000/orders/42
"""

import logging.config
from typing import Annotated

from fastapi import Depends, FastAPI, Header, Request

import km_logging as km
from km_logging.contrib.asgi import KissmetricsMiddleware

logging.config.dictConfig(
    {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {
            "console": {"class": "logging.StreamHandler"},
            # hypercorn ends its other workers by SIGTERM as soon as one of them has ended.
            "kissmetrics": {"class": "km_logging.KissmetricsHandler", "drain_on_sigterm": True},
        },
        "root": {"level": "INFO", "handlers": ["console", "kissmetrics"]},
    }
)
logger = logging.getLogger(__name__)

app = FastAPI()
app.add_middleware(KissmetricsMiddleware, person=lambda scope: scope.get("state", {}).get("user"))


def sign_in(request: Request, authorization: Annotated[str, Header()]) -> None:
    """Have `request.state` say who it is; a real application asks somebody who knows the token."""
    request.state.user = authorization.removeprefix("Bearer ")


@app.post("/orders/{item}", dependencies=[Depends(sign_in)])
async def order(item: int) -> dict[str, str]:
    """Order something. The log call names nobody: the middleware knows who it is."""
    logger.info("Ordered", extra=km.event(item=item))
    return {"message": f"Item {item} is on its way."}


@app.get("/items/{item}", dependencies=[Depends(sign_in)])
def look(item: int) -> dict[str, str]:
    """Look at something: in one of the threads that FastAPI has for functions that are not asynchronous."""
    logger.info("Looked", extra=km.event(item=item))
    return {"message": f"This is item {item}."}
