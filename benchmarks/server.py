"""The server that the rows send to: nginx where it is there, else one of ours, which can also take its time.

Run as a script it is ours: `server.py PORT DELAY`.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from measuring import elsewhere

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: image/gif\r\nContent-Length: 43\r\n\r\nGIF89a" + b"\0" * 37

NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr crit;
events {{ worker_connections 2048; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600; client_max_body_size 0;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location ~ ^/[esa]$ {{ empty_gif; }}
    location / {{ default_type application/json; return 200 '{{}}'; }}
  }}
}}
"""


class _Connection(asyncio.Protocol):
    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (head := self._received.find(b"\r\n\r\n")) >= 0:
            body = LENGTH.search(self._received, 0, head)
            end = head + 4 + (int(body[1]) if body else 0)
            if len(self._received) < end:
                return
            self._received = self._received[end:]
            asyncio.get_running_loop().call_later(self._delay, self._transport.write, ANSWER)


async def _serve(port: int, delay: float) -> None:
    listening = asyncio.get_running_loop().create_server(lambda: _Connection(delay), "127.0.0.1", port, backlog=1024)
    await (await listening).serve_forever()


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@contextmanager
def serving(folder: str, delay: float = 0.0):
    """A server on a free port of loopback and a core of its own; yields the port."""
    port = free_port()
    command = [sys.executable, __file__, str(port), str(delay)]
    nginx = shutil.which("nginx")
    if nginx and not delay:
        config = Path(folder, "nginx.conf")
        config.write_text(NGINX.format(folder=folder, port=port))
        command = [nginx, "-p", folder, "-c", str(config)]
    with elsewhere():
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_for(port)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def wait_for(port: int) -> None:
    """Until somebody listens there."""
    for _ in range(200):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError("the server did not start")


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
