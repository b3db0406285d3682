"""Addresses: what each part means, and what is refused with a remedy. Those of endpoints are with the settings."""

from __future__ import annotations

import pytest

from km_logging.addresses import OutboxAddress, StreamAddress, is_loopback, parse_outbox
from km_logging.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "address", "written"),
    [
        ("memory:", OutboxAddress("memory"), "memory:"),
        ("memory://", OutboxAddress("memory"), "memory:"),
        ("sqlite:///km.db", OutboxAddress("sqlite", "/here/km.db"), "sqlite:////here/km.db"),
        ("sqlite:///../a/km.db", OutboxAddress("sqlite", "/a/km.db"), "sqlite:////a/km.db"),
        ("sqlite:////var/km.db", OutboxAddress("sqlite", "/var/km.db"), "sqlite:////var/km.db"),
        ("sqlite:////v/k.db?max_mb=7", OutboxAddress("sqlite", "/v/k.db", 7), "sqlite:////v/k.db?max_mb=7"),
        ("sqlite:////v/k.db?max_mb=1024", OutboxAddress("sqlite", "/v/k.db"), "sqlite:////v/k.db"),
        (
            "sqlite:////v/k.db?sync=full&max_mb=7",
            OutboxAddress("sqlite", "/v/k.db", 7, is_synced=True),
            "sqlite:////v/k.db?max_mb=7&sync=full",
        ),
        ("sqlite:////v/k.db?sync=normal", OutboxAddress("sqlite", "/v/k.db"), "sqlite:////v/k.db"),
    ],
)
def test_an_outbox_is_memory_or_a_file_with_options(monkeypatch, text, address, written):
    """A relative path is taken from where the process is; what is written down again means the same."""
    monkeypatch.setattr("os.getcwd", lambda: "/here")
    parsed = parse_outbox("outbox", text)
    assert (parsed, str(parsed)) == (address, written)
    assert parse_outbox("outbox", written) == address
    assert parsed.lasts is (address.kind == "sqlite")


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("postgres://localhost", "must be 'memory:', 'sqlite:///km.db' or 'redis://host:6379/0'"),
        ("km.db", "must be 'memory:', 'sqlite:///km.db' or 'redis://host:6379/0'"),
        ("", "must be 'memory:', 'sqlite:///km.db' or 'redis://host:6379/0'"),
        ("sqlite:km.db", "sqlite:////var/lib/app/km.db for an absolute one"),
        ("sqlite://km.db", "sqlite:///km.db for a relative path"),
        ("sqlite:///", "sqlite:///km.db for a relative path"),
        ("sqlite:///folder/", "sqlite:///km.db for a relative path"),
        ("sqlite:///:memory:", "sqlite:///km.db for a relative path"),
        ("sqlite:///a\0b", "sqlite:///km.db for a relative path"),
        ("sqlite:///km.db?max_mb=0", "max_mb=1024 (1 or more, MiB)"),
        ("sqlite:///km.db?max_mb=1000001", "max_mb=1024 (1 or more, MiB)"),
        ("sqlite:///km.db?max_mb=", "max_mb=1024 (1 or more, MiB)"),
        ("sqlite:///km.db?max_mb=\u0663", "max_mb=1024 (1 or more, MiB)"),
        ("sqlite:///km.db?sync=off", "sync=full"),
        ("sqlite:///km.db?mode=ro", "the options are max_mb=1024"),
    ],
)
def test_what_names_no_outbox_is_refused_with_a_remedy(text, remedy):
    """Naming the setting."""
    with pytest.raises(SettingsError) as caught:
        parse_outbox("KM_OUTBOX", text)
    assert str(caught.value).startswith("KM_OUTBOX ")
    assert remedy in str(caught.value)


@pytest.mark.parametrize(
    ("text", "address", "written"),
    [
        ("redis://shop", StreamAddress(host="shop"), "redis://shop:6379/0"),
        ("redis://shop/", StreamAddress(host="shop"), "redis://shop:6379/0"),
        ("redis://[::1]:7/3", StreamAddress(host="::1", port=7, database=3), "redis://[::1]:7/3"),
        ("rediss://shop/0", StreamAddress(scheme="rediss", host="shop"), "rediss://shop:6379/0"),
        (
            "rediss://shop/0?stream=web&max=7&ssl_ca_certs=/ca.pem",
            StreamAddress(
                scheme="rediss", host="shop", stream="web", most=7, certificates=(("ssl_ca_certs", "/ca.pem"),)
            ),
            "rediss://shop:6379/0?stream=web&max=7&ssl_ca_certs=/ca.pem",
        ),
        ("unix:///run/r.sock", StreamAddress(scheme="unix", path="/run/r.sock"), "unix:///run/r.sock"),
        (
            "unix:///run/r.sock?db=2&stream=web",
            StreamAddress(scheme="unix", path="/run/r.sock", database=2, stream="web"),
            "unix:///run/r.sock?db=2&stream=web",
        ),
    ],
)
def test_an_outbox_is_a_stream_of_a_redis_server(text, address, written):
    """By TCP, with or without TLS, or by a socket of this machine; what is written down again means the same."""
    parsed = parse_outbox("outbox", text)
    assert (parsed, str(parsed)) == (address, written)
    assert parse_outbox("outbox", written) == address
    assert (parsed.lasts, parsed.kind) == (True, "redis")


@pytest.mark.parametrize("place", ["redis://{}@shop/0", "rediss://{}@shop/0", "unix://{}@/run/r.sock"])
@pytest.mark.parametrize("user", ["", "ann"])
def test_a_password_is_used_and_never_shown(place, user):
    """Neither by repr nor by str, which say that there is one; and what they say is no address."""
    parsed = parse_outbox("outbox", place.format(f"{user}:s3cr%2Ft%40"))
    assert (parsed.username, parsed.password) == (user, "s3cr/t@")
    assert "s3cr" not in f"{parsed!r} {parsed}"
    assert "***@" in str(parsed)
    with pytest.raises(SettingsError, match="in the place of the password"):
        parse_outbox("outbox", str(parsed).replace("***@", ":***@"))
    with pytest.raises(SettingsError, match="in the place of the password"):
        parse_outbox("outbox", str(parsed))


@pytest.mark.parametrize(
    "text",
    [
        "redis:",
        "redis:///0",
        "redis://:pa/s3cret@shop/0",
        "redis://:pa?s3cret@shop/0",
        "redis://:pa#s3cret@shop/0",
        "redis://:s3cret@shop:port/0",
        "redis://:s3cret@shop:66666/0",
        "redis://:s3cret@shop/zero",
        "redis://:s3cret@shop/0/1",
        "redis://:s3cret@shop/\u0663",
        "redis://:s3cret@shop/0?stream=",
        "redis://:s3cret@shop/0?stream=a%0Ab",
        "redis://:s3cret@shop/0?max=0",
        "redis://:s3cret@shop/0?max=many",
        "redis://:s3cret@shop/0?max=-1",
        "redis://:s3cret@shop/0?s3cret=1",
        "redis://:s3cret@shop/0?ssl_ca_certs=/ca.pem",
        "redis://:s3cret@shop/0?db=1",
        "unix://run/s3cret.sock",
        "unix:///",
        "unix:s3cret.sock",
    ],
)
def test_what_names_no_stream_is_refused_without_showing_it(text):
    """A password that is not encoded may stand anywhere in it."""
    with pytest.raises(SettingsError) as caught:
        parse_outbox("KM_OUTBOX", text)
    assert str(caught.value).startswith("KM_OUTBOX ")
    assert "redis" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert (caught.value.__cause__, caught.value.__suppress_context__ or not caught.value.__context__) == (None, True)


@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        ("localhost", True),
        ("shop.localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost.example.com", False),
        ("notlocalhost", False),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("::", False),
        ("trk.kissmetrics.io", False),
    ],
)
def test_a_loopback_host_can_only_be_this_machine(host, is_it):
    """By name or by number."""
    assert is_loopback(host) is is_it
