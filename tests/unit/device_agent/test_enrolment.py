from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_core.contract.enrolment import CODE_LIMIT, EnrolmentCode, decode_code, encode_code
from fleet_core.contract.errors import InvalidPayload

CODE = EnrolmentCode("mqtt://127.0.0.1:1883", "gw-0001")


def body(document: bytes) -> str:
    return "fleet1." + base64.urlsafe_b64encode(document).decode().rstrip("=")


@given(st.from_regex(r"[a-z0-9][a-z0-9-]{1,62}", fullmatch=True), st.integers(1, 65535))
def test_a_code_reads_back(device_id: str, port: int) -> None:
    code = EnrolmentCode(f"mqtt://127.0.0.1:{port}", device_id)
    text = encode_code(code)
    assert text.isascii()
    assert "=" not in text
    assert decode_code(f"  {text}\n") == code


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fleet1.",
        "fleet2" + encode_code(CODE).removeprefix("fleet1"),
        encode_code(CODE)[:-3],
        encode_code(CODE) + "%",
        encode_code(CODE) + "\n" + encode_code(CODE),
        "x" * (CODE_LIMIT + 1),
        body(b"[]"),
        body(b"\xff"),
        body(b'{"url": "mqtt://127.0.0.1"}'),
        body(b'{"url": "mqtt://127.0.0.1", "device_id": "../../etc"}'),
        body(b'{"url": "http://127.0.0.1", "device_id": "gw-0001"}'),
        body(b'{"url": "mqtt://a\\nb", "device_id": "gw-0001"}'),
        body(b'{"url": "mqtt://a\\u0000", "device_id": "gw-0001"}'),
        body(b'{"url": "mqtt://' + b"a" * 300 + b'", "device_id": "gw-0001"}'),
        body(b"[" * 1000),
        "fleet1.Ω",
    ],
)
def test_garbage_is_refused(text: str) -> None:
    with pytest.raises(InvalidPayload):
        decode_code(text)


@given(st.text(max_size=300))
def test_no_text_does_anything_but_decode_or_be_refused(text: str) -> None:
    for candidate in (text, "fleet1." + text):
        with pytest.raises(InvalidPayload):
            decode_code(candidate)


def test_a_code_no_agent_would_take_is_not_made() -> None:
    with pytest.raises(InvalidPayload):
        encode_code(EnrolmentCode("mqtt://127.0.0.1", "Not An Id"))
