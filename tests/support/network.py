"""Hosts of a network of their own, by the kernel's network namespaces: for what only a network can do to a line."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support.system import need

#: Addresses on the bridge, which is the test's own host.
PREFIX = "10.213.77"
BRIDGE = f"{PREFIX}.1"


def _ip(*arguments: str) -> None:
    subprocess.run([need("ip"), *arguments], check=True, capture_output=True, text=True)


class Host:
    """One of them.

    Args:
        name: of its namespace, and of its end of the cable.
        address: where others find it.
    """

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address

    def command(self, *command: str) -> list[str]:
        """What runs a command there."""
        return [need("ip"), "netns", "exec", self.name, *command]

    def cut(self) -> None:
        """Pull its cable: what is sent is lost, and nobody is told."""
        _ip("link", "set", self.name, "down")

    def mend(self) -> None:
        """Plug it in again."""
        _ip("link", "set", self.name, "up")


@contextmanager
def network(count: int) -> Iterator[list[Host]]:
    """So many hosts on one bridge; the test is skipped where they cannot be made."""
    if os.geteuid():
        pytest.skip("hosts of a network are made by root only")
    bridge = f"km{os.getpid() % 100_000}"
    hosts = [Host(f"{bridge}h{number}", f"{PREFIX}.{number + 2}") for number in range(count)]
    try:
        try:
            _ip("link", "add", bridge, "type", "bridge")
            for host in hosts:
                _ip("netns", "add", host.name)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this system makes no hosts: {error.stderr.strip()}")
        _ip("address", "add", f"{BRIDGE}/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for host in hosts:
            _plug_in(host, bridge)
        yield hosts
    finally:
        for kind, name in [*(("netns", host.name) for host in hosts), ("link", bridge)]:
            subprocess.run([need("ip"), kind, "delete", name], check=False, capture_output=True)


def _plug_in(host: Host, bridge: str) -> None:
    _ip("link", "add", host.name, "type", "veth", "peer", "name", "eth0", "netns", host.name)
    _ip("link", "set", host.name, "master", bridge, "up")
    for command in (["address", "add", f"{host.address}/24", "dev", "eth0"], ["link", "set", "eth0", "up"]):
        _ip("-netns", host.name, *command)
    _ip("-netns", host.name, "link", "set", "lo", "up")
