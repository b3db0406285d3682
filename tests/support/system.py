"""What tests need of the system beside Python. Where it is missing they are skipped, and say why; in CI they fail.

Run as a script, as `make test` does, it installs what is missing where it may: with apt, as root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass

__all__ = ["PARTS", "Part", "need"]


@dataclass(frozen=True)
class Part:
    """A program of the system.

    Attributes:
        package: what it is in, in Debian and those that come of it.
        what: what needs it.
        names: how else it may be called.
    """

    package: str
    what: str
    names: tuple[str, ...] = ()


#: Name of a program: where it is from, and what for.
PARTS = {
    "chromium": Part("chromium", "the sandbox's page in a browser", ("chromium-browser", "google-chrome")),
    "ip": Part("iproute2", "a network that falls apart"),
    "redis-server": Part("redis-server", "the Redis outbox", ("valkey-server",)),
    "systemd-analyze": Part("systemd", "the systemd unit in examples/"),
}


def found(program: str) -> str | None:
    """Where a program is; None if it is missing."""
    return next(filter(None, map(shutil.which, (program, *PARTS[program].names))), None)


def missing(program: str) -> str:
    """What its absence means, and what to do about it."""
    part = PARTS[program]
    return f"{program} is missing, so {part.what} is not tested: apt install {part.package}, or make test as root"


def need(program: str) -> str:
    """Where a program is. Where it is missing the test that asks is skipped, or in CI fails."""
    import pytest  # the script does without

    path = found(program)
    if path is None:
        (pytest.fail if _is_ci() else pytest.skip)(missing(program))
    return path


def _is_ci() -> bool:
    return os.environ.get("CI") == "true"


def install(programs: list[str]) -> None:
    """Install what they are in, without starting what it serves."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    packages = sorted({PARTS[program].package for program in programs})
    print("installing", *packages, flush=True)
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        subprocess.run(["apt-get", "--quiet", "--quiet", *command], env=environment, check=False)


def main() -> int:
    """Install what is missing, say what still is; 1 in CI if anything is."""
    absent = [program for program in PARTS if not found(program)]
    if absent and shutil.which("apt-get") and os.geteuid() == 0:
        install(absent)
    still = [program for program in absent if not found(program)]
    for program in still:
        print(missing(program), file=sys.stderr)
    return int(bool(still) and _is_ci())


if __name__ == "__main__":
    sys.exit(main())
