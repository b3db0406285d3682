"""Addresses: what each part means, and what is refused with a remedy. Those of endpoints are with the settings."""

from __future__ import annotations

import pytest

from km_logging.addresses import OutboxAddress, is_loopback, parse_outbox
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
        ("redis://localhost/0?stream=km", "use 'sqlite:///km.db' or 'memory:'"),
        ("postgres://localhost", "must be 'memory:' or 'sqlite:///km.db'"),
        ("km.db", "must be 'memory:' or 'sqlite:///km.db'"),
        ("", "must be 'memory:' or 'sqlite:///km.db'"),
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
