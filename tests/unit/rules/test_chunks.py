"""Long answers: cut anywhere, put together in any order, contradictions and floods refused."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_core.contract.codec import decode, encode
from fleet_core.contract.errors import InvalidPayload
from fleet_core.contract.messages import Chunk
from fleet_core.contract.topics import OPERATOR_RESPONSES
from fleet_core.rules.chunks import CHUNK_BYTES, MAX_ANSWER_BYTES, Reassembly, split

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def chunk(number: int, total: int, payload: str = "x") -> Chunk:
    return Chunk(request_id="r", chunk=number, total_chunks=total, payload=payload)


@given(texts, st.integers(4, 9))
def test_pieces_are_small_numbered_and_joined_they_are_the_text(text: str, size: int) -> None:
    chunks = split("r", text, size)
    assert "".join(c.payload for c in chunks) == text
    assert [c.chunk for c in chunks] == list(range(1, len(chunks) + 1))
    assert {c.total_chunks for c in chunks} == {len(chunks)}
    assert all(len(c.payload.encode()) <= size for c in chunks)


@given(texts, st.integers(4, 9), st.data())
def test_any_order_with_repeats_gives_the_text(text: str, size: int, data: st.DataObject) -> None:
    chunks = split("r", text, size)
    repeats = data.draw(st.lists(st.sampled_from(chunks), max_size=6))
    answer = Reassembly()
    arrived: set[int] = set()
    for piece in data.draw(st.permutations([*chunks, *repeats])):
        answer.add(piece)
        arrived.add(piece.chunk)
        assert answer.complete == (len(arrived) == len(chunks))
        assert answer.missing() == [c.chunk for c in chunks if c.chunk not in arrived]
    assert answer.text() == text


def test_an_empty_answer_is_one_empty_chunk() -> None:
    (only,) = split("r", "")
    assert (only.payload, only.total_chunks) == ("", 1)
    answer = Reassembly()
    assert (answer.complete, answer.missing()) == (False, [])
    answer.add(only)
    assert answer.complete
    assert answer.text() == ""


@pytest.mark.parametrize(
    ("first", "then", "why"),
    [
        (chunk(1, 2), chunk(2, 3), "total_chunks was 2, now 3"),
        (chunk(1, 2), chunk(3, 2), "chunk 3 of 2"),
        (chunk(1, 2, "a"), chunk(1, 2, "b"), "different contents"),
    ],
)
def test_a_contradiction_is_refused_and_changes_nothing(
    first: Chunk, then: Chunk, why: str
) -> None:
    answer = Reassembly()
    answer.add(first)
    with pytest.raises(InvalidPayload, match=why):
        answer.add(then)
    assert answer.text() == first.payload
    assert answer.missing() == [2]


def test_a_first_chunk_beyond_its_own_total_is_refused() -> None:
    with pytest.raises(InvalidPayload):
        Reassembly().add(chunk(2, 1))


def test_the_limit_counts_bytes_and_is_allowed_itself() -> None:
    answer = Reassembly(limit_bytes=6)
    answer.add(chunk(1, 3, "ää"))
    answer.add(chunk(1, 3, "ää"))
    answer.add(chunk(2, 3, "ab"))
    with pytest.raises(InvalidPayload, match="longer than 6 bytes"):
        answer.add(chunk(3, 3, "c"))
    assert answer.missing() == [3]


def test_missing_chunks_leave_what_there_is() -> None:
    answer = Reassembly()
    answer.add(chunk(3, 3, "c"))
    answer.add(chunk(1, 3, "a"))
    assert (answer.text(), answer.missing(), answer.complete) == ("ac", [2], False)


@pytest.mark.parametrize("text", ['"' * 200_000, "\\" * 200_000, "ä" * 200_000, "\u2028" * 200_000])
def test_a_chunk_of_an_answer_fits_its_topic_however_much_is_escaped(text: str) -> None:
    answer = msgspec.json.encode({"result": text}).decode()
    for piece in split("r" * 64, answer):
        assert decode(OPERATOR_RESPONSES, encode(piece)) == piece


def test_the_longest_answer_that_is_sent_is_taken() -> None:
    chunks = split("r", "x" * MAX_ANSWER_BYTES)
    assert len(chunks) == -(-MAX_ANSWER_BYTES // CHUNK_BYTES)
    answer = Reassembly()
    for piece in chunks:
        answer.add(piece)
    assert answer.complete
