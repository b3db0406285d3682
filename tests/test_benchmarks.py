"""The benchmarks still run; what they measure is for `make bench` to say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parent.parent / "benchmarks" / "bench.py"


def bench(*arguments: str) -> str:
    command = [sys.executable, str(BENCH), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout


def test_the_rows_are_listed_and_explained():
    """Every row has a name to run it by, and its line in the README."""
    names = bench("--list").split()
    explained = re.findall(r"^\| `([a-z-]+)` \|", BENCH.with_name("README.md").read_text(), re.MULTILINE)
    assert names == explained


def test_a_row_runs_alone_and_gives_a_number():
    """A row that needs no peer is measured with what is installed here, and printed as a line of the table."""
    table = bench("--here", "--quick", "--row", "untagged")
    assert re.search(r"^\| log call, untagged \| NullHandler \| at most 1.06 \| [\d.]+ \|", table, re.MULTILINE)
