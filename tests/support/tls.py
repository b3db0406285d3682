"""A tracking server that speaks TLS, with a certificate of an authority of its own."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import trustme

from support.servers import Reply, TrackingServer


class SecureServer(TrackingServer):
    """As `TrackingServer`, for ``https://``.

    Args:
        authority: who signs its certificate.
        reply: as there.
    """

    def __init__(self, authority: trustme.CA, reply: Callable[[int, str], Reply] = lambda *_: Reply()) -> None:
        super().__init__(reply)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        # The handshake takes place in the thread of its connection.
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def endpoint(self) -> str:
        return f"https://127.0.0.1:{self.port}"


def authority(folder: Path) -> tuple[trustme.CA, str]:
    """A certificate authority, and the file with its certificate."""
    made = trustme.CA()
    file = folder / "authority.pem"
    made.cert_pem.write_to_path(str(file))
    return made, str(file)
