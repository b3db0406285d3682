"""``km-logging url``: for lines of JSON, too. The examples of the specification are in `test_commands`."""

from __future__ import annotations

from support.commands import km_logging
from support.tracking import KEY, KEY_ON_THE_WIRE


def test_lines_of_json_become_urls_and_a_bad_one_is_said_by_its_number():
    """The other lines are told all the same; the key is in the URLs, and nowhere else."""
    lines = (
        b'{"km": {"call": "event", "person": "bob", "name": "x", "timestamp": 1262304000}}\n'
        b'{"km": {"call": "event", "person": ""}}\n'
        b'{"call": "alias", "person": "bob", "identity": "bob@bob.com"}\n'
    )
    done = km_logging("url", "-", "--endpoint", "http://localhost:1/base", stdin=lines, KM_API_KEY=KEY)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"http://localhost:1/base/e?_k={KEY_ON_THE_WIRE}&_p=bob&_n=x&_t=1262304000&_d=1",
        f"http://localhost:1/base/a?_k={KEY_ON_THE_WIRE}&_p=bob&_n=bob%40bob.com",
    ]
    assert done.stderr == "km-logging: line 2: the person is empty: pass the person's id or e-mail address\n"


def test_it_prints_whatever_the_mode_is(server):
    """It is asked for a URL, and sends nothing."""
    for mode in ("off", "print", "live"):
        done = km_logging("url", "set", "bob", KM_MODE=mode, KM_API_KEY=KEY, KM_ENDPOINT=server.endpoint)
        assert done.stdout.startswith(f"{server.endpoint}/s?_k={KEY_ON_THE_WIRE}&_p=bob&_t=")
    assert server.targets == []
