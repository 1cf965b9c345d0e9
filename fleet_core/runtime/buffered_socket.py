"""A socket that reads ahead.

paho-mqtt reads a packet in four calls of `recv`, the header byte by byte. For a handler that hears
ten thousand messages a second that is forty thousand system calls; this one makes a few hundred.
aiomqtt asks `pending()` after each packet, because TLS sockets hold bytes back in the same way.
"""

from __future__ import annotations

import socket

READ_AHEAD_BYTES = 64 * 1024


class BufferedSocket:
    """The part of a non-blocking stream socket that paho and aiomqtt use."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._ahead = b""
        self._position = 0

    def recv(self, size: int) -> bytes:
        """Up to `size` bytes; empty at the end. Raises `BlockingIOError` where there are none."""
        if self._position == len(self._ahead):
            self._ahead, self._position = b"", 0
            self._ahead = self._line.recv(READ_AHEAD_BYTES)
        start = self._position
        self._position = min(start + size, len(self._ahead))
        return self._ahead[start : self._position]

    def pending(self) -> int:
        """Bytes that `recv` can give without asking the kernel."""
        return len(self._ahead) - self._position

    def send(self, data: bytes | bytearray) -> int:
        """As of the socket."""
        return self._line.send(data)

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 (the socket's own signature)
        """As of the socket."""
        self._line.setblocking(flag)

    def shutdown(self, how: int) -> None:
        """As of the socket."""
        self._line.shutdown(how)

    def fileno(self) -> int:
        """As of the socket."""
        return self._line.fileno()

    def close(self) -> None:
        """As of the socket."""
        self._line.close()
