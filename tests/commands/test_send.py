"""``km-logging send``: each call arrives or is said, with the remedy, by line and by exit code."""

from __future__ import annotations

import json
import signal

import pytest

from support.commands import km_logging, largest, running
from support.servers import Reply, TrackingServer, refused
from support.tracking import KEY, KEY_ON_THE_WIRE, Answers, people


def send(server: TrackingServer, *arguments: str, **options):
    return km_logging("send", *arguments, KM_API_KEY=KEY, KM_ENDPOINT=server.endpoint, **options)


@pytest.mark.parametrize(
    ("arguments", "target", "subject"),
    [
        (
            ["event", "bob", "Signed Up", "-P", "gender=male", "-P", "a=b=c", "-t", "1262304000"],
            "/e?_k={}&_p=bob&_n=Signed+Up&gender=male&a=b%3Dc&_t=1262304000&_d=1",
            "event 'Signed Up'",
        ),
        (
            ["set", "--person", "bob", "--timestamp", "2010-01-01T01:00:00.900+01:00"],
            "/s?_k={}&_p=bob&_t=1262304000&_d=1",
            "set",
        ),
        (["alias", "bob", "--identity", "bob@bob.com"], "/a?_k={}&_p=bob&_n=bob%40bob.com", "alias"),
        (["event", "bob", "x", "-t", "1262304000.9"], "/e?_k={}&_p=bob&_n=x&_t=1262304000&_d=1", "event 'x'"),
        (["event", "bob", "x", "-t", "2010-01-01T00:00:00Z"], "/e?_k={}&_p=bob&_n=x&_t=1262304000&_d=1", "event 'x'"),
        (["event", "bob", "x", "-t", "2010-01-01"], "/e?_k={}&_p=bob&_n=x&_t=1262304000&_d=1", "event 'x'"),
    ],
)
def test_each_kind_of_call_arrives_and_is_said(server, arguments, target, subject):
    """Texts as arguments or options; times as integer, float and ISO 8601, rounded down, local without a zone."""
    done = send(server, *arguments, TZ="UTC")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"delivered: {subject} (HTTP 200)\n", "")
    assert server.targets == [target.format(KEY_ON_THE_WIRE)]


@pytest.mark.parametrize("transport", ["requests", "curl"])
@pytest.mark.parametrize(
    ("reply", "outcome", "remedy"),
    [
        (Reply(503), "expired", "try again later"),
        (Reply(429, headers={"Retry-After": "1"}), "expired", "try again later"),
        (Reply(400), "rejected", "km-logging url prints it"),
        (Reply(302, headers={"Location": "http://127.0.0.1:9/"}), "expired", "set endpoint"),
        (Reply(403), "expired", "check endpoint and proxy"),
        (Reply(200, body=b"<html>log in</html>", headers={"Content-Type": "text/html"}), "expired", "log in"),
        (Reply(hang_up=True), "expired", "check endpoint, network and proxy"),
    ],
    ids=["503", "429", "400", "302", "403", "page", "hang up"],
)
def test_an_answer_that_is_not_delivered_is_said_with_its_remedy(transport, reply, outcome, remedy):
    """In words on stderr and in JSON on stdout, from the answer that the policy's table speaks of; one try each."""
    with TrackingServer(lambda *_: reply) as server:
        done = send(server, "event", "bob", "Signed Up", "--json", KM_TRANSPORT=transport)
        said = json.loads(done.stdout)
        assert (done.returncode, done.stderr) == (1, "")
        assert said["outcome"] == outcome
        assert remedy in said["remedy"]
        assert said["status"] == (None if reply.hang_up else reply.status)
        done = send(server, "event", "bob", "Signed Up", "--quiet", KM_TRANSPORT=transport)
        assert (done.returncode, done.stdout) == (1, "")
        assert said["message"] in done.stderr
        assert remedy in done.stderr
    assert len(set(people(server))) == 1


def test_nobody_answers():
    with refused() as endpoint:
        done = km_logging("send", "event", "bob", "x", "--endpoint", endpoint, "--api-key", KEY)
    assert (done.returncode, done.stdout) == (1, "")
    assert "ConnectionRefusedError" in done.stderr
    assert "check endpoint, network and proxy" in done.stderr


def test_retry_for_goes_on_as_the_policy_has_it():
    """A busy server is asked again until it takes the call; one that refuses the call itself is asked three times."""
    with TrackingServer(Answers(bob=[Reply(503), Reply(500)], eve=[Reply(400)] * 9)) as server:
        assert send(server, "event", "bob", "x", "--retry-for", "60").returncode == 0
        done = send(server, "event", "eve", "x", "--retry-for", "60")
    assert people(server) == ["bob"] * 3 + ["eve"] * 3
    assert done.returncode == 1
    assert "rejected: event 'x' (HTTP 400)" in done.stderr


LINES = [
    b'{"km": {"call": "event", "person": "ann", "name": "Signed Up", "timestamp": 1262304000, "properties": {"a": 1}}}',
    b'{"call": "set", "person": "bob", "timestamp": 1262304000, "properties": {"gender": "male"}}',
    b"",
    b'{"call": "alias", "person": "carl", "identity": "carl@example.com"}',
    b"no JSON",
    b"[" * 100_000,
    b'"event"',
    b'{"km": "event", "person": "eve"}',
    b'{"call": "event", "name": "Signed Up"}',
    b'{"call": "event", "person": "eve", "name": "x", "properties": {"_k": "1"}}',
    b'{"call": "event", "person": "eve", "name": "x", "timestamp": NaN}',
    b"\xff\xfe\xfd",
    b'{"call": "event", "person": "' + b"x" * 3_000_000 + b'"}',
    b'{"call": "event", "person": "zoe", "name": "Last"}',
]
BAD = [5, 6, 7, 8, 9, 10, 11, 12, 13]


def test_lines_of_json_are_sent_and_a_bad_one_is_said_by_its_number(server):
    """What the helpers return and its inner mapping; whatever is wrong with one line, the others are sent."""
    done = send(server, "-", stdin=b"\r\n".join(LINES))
    assert done.returncode == 1
    assert people(server) == ["ann", "bob", "carl", "zoe"]
    assert server.targets[0] == f"/e?_k={KEY_ON_THE_WIRE}&_p=ann&_n=Signed+Up&a=1&_t=1262304000&_d=1"
    said = [line.split(": ", 2) for line in done.stderr.splitlines()]
    assert [(place, what) for _, place, what in [(*it[:2], it[2].partition(":")[0]) for it in said]] == [
        (f"line {number}", "not sent") for number in BAD
    ]
    assert done.stdout.splitlines()[-1] == "4 delivered, 9 not."
    assert done.stdout.splitlines()[0] == "line 1: delivered: event 'Signed Up' (HTTP 200)"


def test_lines_of_json_are_answered_by_lines_of_json(server):
    done = send(server, "-", "--json", stdin=b"\n".join(LINES))
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [it["line"] for it in said if it["outcome"] == "delivered"] == [1, 2, 4, 14]
    assert [it["line"] for it in said if it["outcome"] == "refused"] == BAD
    assert all(it["remedy"] for it in said if it["outcome"] == "refused")
    assert done.stderr == ""


def test_nothing_is_nothing_wrong(server):
    done = send(server, "-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_each_line_is_sent_as_it_comes(server):
    """While whoever writes is still at it: a call is not held back for the next one."""
    with running("send", "-", KM_API_KEY=KEY, KM_ENDPOINT=server.endpoint) as process:
        process.stdin.write('{"call": "set", "person": "ann"}\n')
        process.stdin.flush()
        server.wait(1)
        process.stdin.write('{"call": "set", "person": "bob"}')
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert people(server) == ["ann", "bob"]
    assert out.count("delivered: set") == 2


def test_many_lines_take_no_more_memory_than_few(tmp_path):
    """2 MB of lines, printed instead of sent: the process becomes no larger than for one of them."""
    line = b'{"call": "event", "person": "bob", "name": "Signed Up", "properties": {"plan": "pro"}}\n'

    def size(lines: int) -> int:
        (tmp_path / "calls").write_bytes(line * lines)
        return largest("send", "-", "--quiet", stdin=tmp_path / "calls", KM_MODE="print")

    assert size(25_000) < size(1) + 1_024


def test_ctrl_c_ends_it_also_while_a_request_is_under_way():
    """What the sender would take for a failed attempt: nothing more is sent."""
    with (
        TrackingServer(Answers(Reply(delay=1))) as server,
        running("send", "-", KM_API_KEY=KEY, KM_ENDPOINT=server.endpoint) as process,
    ):
        process.stdin.write('{"call": "set", "person": "ann"}\n{"call": "set", "person": "bob"}\n')
        process.stdin.flush()
        server.wait(1)
        process.send_signal(signal.SIGINT)
        process.wait(30)
        out, err = process.stdout.read(), process.stderr.read()
    assert (process.returncode, out, err.strip()) == (1, "", "Aborted!")
    assert people(server) == ["ann"]


def test_mode_print_prints_and_mode_off_refuses(server):
    done = send(server, "event", "bob", "x", "-t", "1262304000", KM_MODE="print")
    assert (done.returncode, done.stdout) == (0, "printed, not sent: event 'x' (mode is 'print')\n")
    assert done.stderr == 'km_logging: event "x" person="bob" at 2010-01-01T00:00:00+00:00\n'
    done = send(server, "event", "bob", "x", KM_MODE="off")
    assert (done.returncode, done.stdout) == (2, "")
    assert "unset KM_MODE" in done.stderr
    assert server.targets == []


def test_what_the_application_does_with_its_outbox_does_not_matter(server, tmp_path):
    done = send(server, "set", "bob", KM_OUTBOX=f"sqlite:///{tmp_path}/km.db", KM_DELIVER="false")
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "remedy"),
    [
        (["event", "bob", "x", "-P", "_k=1"], 1, "rename it"),
        (["event", "bob", ""], 1, "the event name is empty"),
        (["event", "bob", "x", "-t", "1262304000000"], 1, "divide by 1,000"),
        (["event", "bob"], 2, "--name"),
        (["event", "bob", "x", "--name", "y"], 2, "give NAME once"),
        (["event", "bob", "x", "-P", "plan"], 2, "name=value"),
        (["event", "bob", "x", "-P", "a=1", "-P", "a=2"], 2, "given twice"),
        (["event", "bob", "x", "-t", "yesterday"], 2, "2010-01-01"),
        (["event", "bob", "x", "-t", "nan"], 2, "2010-01-01"),
        (["event", "bob", "x", "-t", "0001-01-01"], 2, "2010-01-01"),
        (["event", "bob", "x", "--retry-for", "-1"], 2, "-1"),
        (["event", "bob", "x", "--retry-for", "nan"], 2, "no finite number"),
        (["event", "bob", "x", "--retry-for", "inf"], 2, "no finite number"),
        (["record", "bob", "x"], 2, "No such command"),
        ([], 2, "Usage"),
    ],
)
def test_what_is_wrong_is_said_with_the_remedy_and_nothing_is_sent(server, arguments, code, remedy):
    done = send(server, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert remedy in done.stderr
    assert server.targets == []


def test_without_a_key_it_says_how_to_give_one():
    done = km_logging("send", "set", "bob")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "km-logging: api_key is missing: pass --api-key, or set KM_API_KEY\n"


def test_an_unencrypted_endpoint_elsewhere_is_said():
    """Once, whatever comes of it; 192.0.2.1 is nobody's."""
    settings = {"KM_API_KEY": KEY, "KM_ENDPOINT": "http://192.0.2.1:9", "http_proxy": "http://127.0.0.1:9"}
    done = km_logging("send", "-", stdin=b'{"call": "set", "person": "a"}\n' * 2, **settings)
    assert done.returncode == 1
    assert done.stderr.count("use an https:// endpoint") == 1
