"""Which Host headers are this machine's."""

from __future__ import annotations

import pytest

from km_logging.sandbox.hosts import exposure, foreign, hostname, refusal


@pytest.mark.parametrize(
    "header",
    [
        "127.0.0.1:8123",
        "127.0.0.1",
        "127.9.9.9:80",
        "localhost",
        "LOCALHOST:8123",
        "localhost.:8123",
        "app.localhost:8123",
        "[::1]:8123",
        "[::1]",
        "Sandbox.Internal:8123",
    ],
)
def test_own_and_allowed_names_pass(header: str) -> None:
    assert refusal(header, {"sandbox.internal"}) is None


@pytest.mark.parametrize(
    "header",
    [
        "",
        "evil.example",
        "evil.example:8123",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil-localhost",
        "192.168.0.5:8123",
        "[fe80::1]:8123",
        "user@localhost@evil.example",
        "sandbox.internal.evil.example",
        "other.sandbox.internal",
    ],
)
def test_other_names_are_refused_with_the_remedy(header: str) -> None:
    refused = refusal(header, {"sandbox.internal"})
    assert refused is not None
    assert "--allow-host" in refused
    assert refused.count("\n") == 1


def test_a_refusal_quotes_what_it_shows() -> None:
    """The name comes from outside: no control characters, no endless text."""
    refused = refusal("evil\x1b[31m" + "x" * 5_000, ())
    assert refused is not None
    assert "\x1b" not in refused
    assert len(refused) < 300


def test_hostname_takes_off_port_and_brackets() -> None:
    assert [hostname(header) for header in ("A:1", "[::1]:1", " b. ", "::1")] == ["a", "::1", "b", ""]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "LocalHost"])
def test_listening_on_loopback_needs_no_warning(host: str) -> None:
    assert exposure(host) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.5", "example.com"])
def test_listening_elsewhere_is_warned_of(host: str) -> None:
    warning = exposure(host)
    assert warning is not None
    assert host in warning
    assert "127.0.0.1" in warning


HOST = "LocalHost:8123"


@pytest.mark.parametrize("site", [None, "same-origin", "none"])
@pytest.mark.parametrize("origin", [None, "http://localhost:8123", "HTTP://LOCALHOST:8123", "https://localhost:8123"])
def test_pages_of_our_own_may_ask_and_so_may_programs(site: str | None, origin: str | None) -> None:
    assert foreign(site, origin, HOST) is None


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "same-origin, cross-site", "x" * 5_000 + "\n"])
def test_a_page_of_another_site_may_not_ask(site: str) -> None:
    for origin in (None, "http://localhost:8123"):
        refused = foreign(site, origin, HOST)
        assert refused is not None
        assert refused.count("\n") == 1
        assert len(refused) < 300


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "null",
        "http://localhost",
        "http://localhost:3000",
        "http://evil.example",
        "http://localhost:8123.evil.example",
        "http://localhost:8123@evil.example",
        "ftp://localhost:8123",
        "http://127.0.0.1:8123",
        "http://localhost:8123/",
        "http://localhost:8123 http://evil.example",
    ],
)
def test_a_page_of_another_origin_may_not_ask(origin: str) -> None:
    for site in (None, "same-origin", "none"):
        refused = foreign(site, origin, HOST)
        assert refused is not None
        assert refused.count("\n") == 1


def test_no_origin_is_ours_where_there_is_no_host() -> None:
    assert foreign(None, "http://evil.example", "") is not None
