"""Flask: the example under gunicorn with gevent workers, from request to sandbox."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.web import Crowd, Web, calls, crowd_of, each_once

for needed in ("flask", "gevent", "gunicorn"):
    pytest.importorskip(needed, reason=f"pip install {needed}")

EXAMPLE = "flask_shop"


def gunicorn(options: str, application: str = "shop:app") -> str:
    return f"gunicorn --bind fd://{{fd}} --worker-class gevent {options} {application}"


@pytest.mark.parametrize("preload", ["", "--preload"], ids=["each loads", "preload"])
def test_every_order_arrives_once_with_its_person(preload, folder, sandbox):
    with Web(folder, gunicorn(f"--workers 2 {preload}"), sandbox) as web:
        with crowd_of(web, 4, 40) as crowd:
            crowd.finish()
        web.stop()
    assert len(crowd.ordered) == 40
    each_once(sandbox, crowd)
    assert sorted(call.person for call in calls(sandbox, "Signed Up")) == sorted(set(crowd.ordered.values()))
