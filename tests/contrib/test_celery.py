"""Whom a task's message names; workers are in tests/frameworks/test_celery.py."""

from __future__ import annotations

from uuid import UUID

import pytest

import km_logging as km
from km_logging.contrib.celery import HEADER, _send_along


@pytest.mark.parametrize(
    ("person", "named"),
    [
        ("bob", "bob"),
        (0, 0),
        (UUID(int=5), str(UUID(int=5))),
        (lambda: "bob", "bob"),  # as the middlewares of web frameworks identify
        (lambda: None, None),
        (lambda: 1 / 0, None),
        (None, None),
        (["bob"], None),
    ],
    ids=["text", "number", "UUID", "asked", "asked, nobody", "asked in vain", "nobody", "no person"],
)
def test_a_message_names_who_is_identified_where_the_task_is_sent(person, named):
    headers: dict[str, object] = {}
    with km.identify(person):
        _send_along(headers=headers)
    assert headers == ({} if named is None else {HEADER: named})
