"""A log file with an upper bound: when it is full it becomes the older of two."""

from __future__ import annotations

from collections import deque
from pathlib import Path

LOG_LIMIT_BYTES = 2 * 1024 * 1024
LAST_WORDS = 10
"""Lines that are remembered, for the error that ends a process."""


class BoundedLog:
    """`<directory>/<name>.log`, and `.log.1` with what came before it."""

    def __init__(self, directory: Path, name: str, limit_bytes: int = LOG_LIMIT_BYTES) -> None:
        self._path = directory / f"{name}.log"
        self._limit_bytes = limit_bytes
        self._file = self._path.open("ab")
        self._tail: deque[bytes] = deque(maxlen=LAST_WORDS)

    def write(self, data: bytes) -> None:
        """Append lines; a file never grows beyond the limit, unless by one `data`."""
        if self._file.tell() + len(data) > self._limit_bytes:
            self._file.close()
            self._path.replace(self._path.with_suffix(".log.1"))
            self._file = self._path.open("ab")
        self._file.write(data)
        self._file.flush()
        self._tail.extend(data.splitlines())

    def last_words(self) -> str:
        """The last lines written by this process."""
        return b"\n".join(self._tail).decode(errors="replace")

    def close(self) -> None:
        """Nothing more will be written."""
        self._file.close()
