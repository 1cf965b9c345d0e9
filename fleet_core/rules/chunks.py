"""Long answers in pieces: how a text is cut, and how it is put together again.

- Chunks are numbered from 1 and may arrive in any order and more than once.
- `total_chunks` may never change within one answer, nor may a chunk arrive with other contents.
- What is joined is bounded, by count and by size, at both ends.
"""

from __future__ import annotations

from fleet_core.contract.errors import InvalidPayload
from fleet_core.contract.messages import Chunk

CHUNK_BYTES = 40 * 1024
"""UTF-8 bytes of text in one chunk; escaped once more as JSON it still fits a payload."""
MIN_CHUNK_BYTES = 4
"""The longest character in UTF-8."""
MAX_ANSWER_BYTES = 16 * 1024 * 1024


def split(request_id: str, text: str, chunk_bytes: int = CHUNK_BYTES) -> list[Chunk]:
    """Cut `text` into chunks of at most `chunk_bytes` of UTF-8, never inside a character.

    >>> [chunk.payload for chunk in split("r", "aäbcd", 4)]
    ['aäb', 'cd']
    """
    if chunk_bytes < MIN_CHUNK_BYTES:
        raise ValueError(f"a chunk of {chunk_bytes} bytes can't hold every character")
    data = text.encode()
    pieces: list[str] = []
    start = 0
    while start < len(data):
        end = min(start + chunk_bytes, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append(data[start:end].decode())
        start = end
    pieces = pieces or [""]
    return [
        Chunk(request_id=request_id, chunk=number, total_chunks=len(pieces), payload=piece)
        for number, piece in enumerate(pieces, start=1)
    ]


class Reassembly:
    """One answer on its way in. Feed it with `add`; read it with `text` when `complete`."""

    def __init__(self, limit_bytes: int = MAX_ANSWER_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._total: int | None = None
        self._pieces: dict[int, str] = {}

    def add(self, chunk: Chunk) -> None:
        """Take one chunk. Raises `InvalidPayload` for one that contradicts those before it."""
        if self._total is None:
            self._total = chunk.total_chunks
        if chunk.total_chunks != self._total:
            raise InvalidPayload(f"total_chunks was {self._total}, now {chunk.total_chunks}")
        if chunk.chunk > self._total:
            raise InvalidPayload(f"chunk {chunk.chunk} of {self._total}")
        known = self._pieces.get(chunk.chunk)
        if known is not None and known != chunk.payload:
            raise InvalidPayload(f"chunk {chunk.chunk} came twice with different contents")
        if known is None:
            self._size_bytes += len(chunk.payload.encode())
            if self._size_bytes > self._limit_bytes:
                raise InvalidPayload(f"the answer is longer than {self._limit_bytes} bytes")
            self._pieces[chunk.chunk] = chunk.payload

    @property
    def complete(self) -> bool:
        """Whether every chunk is there."""
        return self._total is not None and len(self._pieces) == self._total

    def missing(self) -> list[int]:
        """The numbers that have not arrived; empty as long as no chunk has told the total."""
        return [n for n in range(1, (self._total or 0) + 1) if n not in self._pieces]

    def text(self) -> str:
        """The whole text, in order; of an incomplete answer what there is."""
        return "".join(self._pieces[number] for number in sorted(self._pieces))
