"""Straight from a call to its answer: by the settings of the usual way, and without what cannot be told wholly."""

from __future__ import annotations

import dataclasses

import pytest
import requests

import km_logging as km
from km_logging.direct import Direct
from km_logging.settings import Settings
from support.servers import Reply, TrackingServer
from support.tracking import KEY, Answers, people


def direct(endpoint: str, **settings: object) -> Direct:
    return Direct(Settings.resolve({"api_key": KEY, "endpoint": endpoint, **settings}, {}))


def test_a_call_is_told_by_the_settings_and_sent(server):
    with direct(server.endpoint, properties={"environment": "test"}) as sending:
        outcome = sending.send(sending.request(km.event("bob", "x", timestamp=1_262_304_000)["km"]))
    assert (outcome.what, outcome.status, outcome.remedy) == ("delivered", 200, "")
    assert [dict(query)["environment"] for query in server.queries] == ["test"]


def test_before_send_changes_or_withholds(server):
    """As on the usual way; one that raises withholds, too, and is a problem."""

    def changed(call: km.Call) -> km.Call:
        return dataclasses.replace(call, person="somebody")

    call = km.set("bob")["km"]
    with direct(server.endpoint, before_send=changed) as sending:
        sending.send(sending.request(call))
    assert people(server) == ["somebody"]
    with direct(server.endpoint, before_send=lambda _: None) as sending:
        assert sending.request(call).what == "withheld"
    with direct(server.endpoint, before_send=lambda _: 1 / 0) as sending:
        outcome = sending.request(call)
    assert (outcome.what, "ZeroDivisionError" in outcome.message) == ("refused", True)


@pytest.mark.parametrize(
    "call", [km.event("", "x"), km.event("bob", "x", properties={"_k": "1"}), km.event("bob", "x", when=object())]
)
def test_what_cannot_be_told_wholly_is_not_told(call):
    """Refused or left out on the usual way: here nothing is sent, and the first reason is given."""
    outcome = direct("http://127.0.0.1:9").request(call["km"])
    assert outcome.what == "refused"
    assert outcome.message
    assert outcome.remedy


def test_a_session_of_the_users_own_serves_and_may_raise(server):
    def session() -> requests.Session:
        made = requests.Session()
        made.headers["X-Own"] = "yes"
        return made

    call = km.set("bob")["km"]
    with direct(server.endpoint, session=session) as sending:
        assert sending.send(sending.request(call)).what == "delivered"
    assert server.headers[0]["X-Own"] == "yes"
    with pytest.raises(km.SettingsError, match="session raised ZeroDivisionError: mend"):
        direct(server.endpoint, session=lambda: 1 / 0).send("/s?_p=bob&_t=1&_d=1")


def test_a_server_that_asks_for_more_patience_than_there_is_is_not_waited_for():
    """It would answer then; there is nothing to wait for until the end of the time."""
    with TrackingServer(Answers(Reply(429, headers={"Retry-After": "3600"}))) as server:
        outcome = direct(server.endpoint).send("/s?_p=bob&_t=1262304000&_d=1", retry_for=60)
    assert (outcome.what, outcome.status) == ("expired", 429)
    assert people(server) == ["bob"]


def test_a_transport_that_is_not_installed_is_said(monkeypatch):
    monkeypatch.setattr("km_logging.senders.find_spec", lambda _: None)
    with pytest.raises(km.MissingExtraError, match="curl"):
        direct("http://127.0.0.1:9", transport="curl")
