"""The election: one process leads, for as long as it lives, and not longer."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from km_logging.errors import OutboxError
from km_logging.outbox import election as election_module
from km_logging.outbox.election import Election, is_won
from support.tracking import GUARD, eventually

WINS_AND_WAITS = """
import sys
from km_logging.outbox.election import Election
election = Election(sys.argv[1], 0o600)
print(election.try_win(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path):
    """Of an outbox."""
    return str(tmp_path / "km.db")


def test_one_of_two_wins_until_it_withdraws(path):
    """Also within one process: the lock belongs to the candidacy."""
    first, second = Election(path, 0o600), Election(path, 0o600)
    assert [first.try_win(), second.try_win(), first.try_win()] == [True, False, True]
    first.withdraw()
    first.withdraw()
    assert [first.try_win(), second.try_win()] == [False, True]
    second.withdraw()


def test_anybody_can_see_whether_it_is_won(path):
    """Without winning it, and without making a file."""
    assert not is_won(path)
    assert not Path(f"{path}-lock").exists()
    election = Election(path, 0o640)
    assert not is_won(path)
    assert election.try_win()
    assert is_won(path)
    election.withdraw()
    assert not is_won(path)


def test_who_is_killed_leads_no_longer(path):
    """The kernel sees to it."""
    command = [sys.executable, "-c", WINS_AND_WAITS, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "True\n"
            election = Election(path, 0o600)
            assert not election.try_win()
        finally:
            process.kill()
        process.wait(GUARD)
    assert election.try_win()
    election.withdraw()


def test_who_waits_is_told_when_it_is_its_turn(path):
    """But not one that has withdrawn meanwhile: that one lets the next have it."""
    first, second, third = (Election(path, 0o600) for _ in range(3))
    assert first.try_win()
    told, won = [], threading.Event()
    second.wait(lambda: told.append("second"))
    second.withdraw()
    third.wait(won.set)
    third.wait(lambda: told.append("twice"))
    first.withdraw()
    assert won.wait(GUARD)
    assert third.try_win()
    third.withdraw()
    eventually(lambda: not election_module._waiting)
    assert told == []


def test_a_copy_that_is_closed_leaves_the_lock_alone(path):
    """A forked child has one, and so withdraws without a word to the parent's."""
    election = Election(path, 0o600)
    assert election.try_win()
    os.close(os.dup(election._descriptor))
    assert is_won(path)
    election.withdraw()


@pytest.mark.parametrize("mode", [0o600, 0o660])
def test_the_lock_is_for_those_that_the_outbox_is_for(path, mode):
    """No more, no less."""
    before = os.umask(0)
    try:
        Election(path, mode).withdraw()
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path(f"{path}-lock").stat().st_mode) == mode


def test_no_symbolic_link_is_followed(path, tmp_path):
    """Somebody might have laid it there."""
    Path(f"{path}-lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        Election(path, 0o600)
    assert not (tmp_path / "elsewhere").exists()


def test_a_system_without_such_locks_says_so(path, monkeypatch):
    """Windows has none."""
    monkeypatch.setattr(election_module, "fcntl", None)
    with pytest.raises(OutboxError, match="use outbox 'memory:' here"):
        Election(path, 0o600)
