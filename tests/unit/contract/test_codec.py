"""Every way a payload can be bad gives one error; nothing else ever comes out of the codec."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_core.contract.codec import MAX_DEPTH, decode, decode_as, encode
from fleet_core.contract.errors import InvalidPayload, PayloadTooLarge, Rejected
from fleet_core.contract.examples import MESSAGES
from fleet_core.contract.messages import (
    MAX_BIGINT,
    MAX_EVENTS_PER_BATCH,
    EventBatch,
    Heartbeat,
    Request,
)
from fleet_core.contract.topics import (
    DEVICE_EVENTS,
    DEVICE_HEARTBEAT,
    OPERATOR_REQUESTS,
    TEMPLATES,
    Template,
)

Values = dict[str, Any]


def heartbeat(**changes: Any) -> bytes:
    """An example heartbeat as JSON, with fields replaced."""
    return json.dumps({**msgspec.to_builtins(MESSAGES["device_heartbeat"]), **changes}).encode()


def request_with(params: str) -> bytes:
    """An example request whose `params` is this JSON text."""
    values = msgspec.to_builtins(MESSAGES["operator_requests"])
    return json.dumps({**values, "params": "HERE"}).replace('"HERE"', params).encode()


def events(count: int, **last: Any) -> bytes:
    """A batch of `count` events, the last one with fields replaced."""
    batch: Values = msgspec.to_builtins(MESSAGES["device_events"])
    event = {"seq": 1, "at": "2026-03-02T09:30:00Z", "kind": "a"}
    return json.dumps({**batch, "events": [event] * (count - 1) + [{**event, **last}]}).encode()


def assert_invalid(template: Template, payload: bytes) -> None:
    with pytest.raises(InvalidPayload) as refusal:
        decode(template, payload)
    assert len(str(refusal.value)) < 400


def padded(payload: bytes, size_bytes: int) -> bytes:
    return payload + b" " * (size_bytes - len(payload))


def test_an_empty_payload_is_invalid() -> None:
    for template in TEMPLATES:
        assert_invalid(template, b"")


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.name)
def test_the_limit_is_allowed_and_one_byte_more_is_too_large(template: Template) -> None:
    payload = encode(MESSAGES[template.name])
    limit_bytes = template.payload_limit_bytes
    assert decode(template, padded(payload, limit_bytes)) == MESSAGES[template.name]
    with pytest.raises(PayloadTooLarge) as refusal:
        decode(template, padded(payload, limit_bytes + 1))
    assert (refusal.value.size_bytes, refusal.value.limit_bytes) == (limit_bytes + 1, limit_bytes)


def test_a_hundred_thousand_levels_are_invalid() -> None:
    with pytest.raises(InvalidPayload, match="nested"):
        decode_as(Request, request_with('{"a":' + "[" * 100_000 + "]" * 100_000 + "}"))
    assert_invalid(OPERATOR_REQUESTS, b"[" * 90_000)


def test_the_deepest_nesting_that_is_allowed() -> None:
    def nested(levels: int) -> bytes:
        return request_with('{"a":' + "[" * levels + "]" * levels + "}")

    deepest = MAX_DEPTH - 2
    decode(OPERATOR_REQUESTS, nested(deepest))
    assert_invalid(OPERATOR_REQUESTS, nested(deepest + 2))


def test_of_a_repeated_key_the_last_counts() -> None:
    message = decode_as(Heartbeat, heartbeat()[:-1] + b',"seq":1,"seq":2}')
    assert message.seq == 2


def test_unknown_keys_are_ignored() -> None:
    assert decode(DEVICE_HEARTBEAT, heartbeat(invented_later={"a": [1]}))


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "nan", "1e999", "-1e999", "0x1"])
def test_a_number_that_is_none_is_invalid(word: str) -> None:
    assert_invalid(DEVICE_HEARTBEAT, heartbeat(seq="HERE").replace(b'"HERE"', word.encode()))
    assert_invalid(OPERATOR_REQUESTS, request_with(f'{{"a": {word}}}'))


@pytest.mark.parametrize("number", [2**63, 2**64, -(2**63) - 1, 10**400])
def test_an_integer_beyond_64_bits_is_no_sequence(number: int) -> None:
    assert_invalid(DEVICE_HEARTBEAT, heartbeat(seq=number))


def test_the_largest_sequence() -> None:
    assert decode_as(Heartbeat, heartbeat(seq=MAX_BIGINT)).seq == MAX_BIGINT


def test_an_integer_too_long_to_be_printed_again_is_invalid_where_anything_goes() -> None:
    """Python refuses to print more than 4300 digits."""
    assert_invalid(OPERATOR_REQUESTS, request_with(f'{{"a": {"9" * 5000}}}'))
    message = decode(OPERATOR_REQUESTS, request_with(f'{{"a": {"9" * 4000}}}'))
    assert encode(message)


@pytest.mark.parametrize("where", ['{"a": "x\\u0000y"}', '{"x\\u0000": 1}', '{"a": [["\\u0000"]]}'])
def test_the_character_that_postgresql_refuses_is_invalid(where: str) -> None:
    with pytest.raises(InvalidPayload, match="U\\+0000"):
        decode(OPERATOR_REQUESTS, request_with(where))


def test_that_character_in_a_name_is_invalid() -> None:
    assert_invalid(DEVICE_HEARTBEAT, heartbeat(connectors=[{"name": "a\0b"}]))


def test_a_backslash_before_u0000_is_text() -> None:
    message = decode_as(Request, request_with('{"a": "\\\\u0000"}'))
    assert message.params == {"a": "\\u0000"}


@pytest.mark.parametrize("raw", [b"\0", b"\n", b"\x1f"])
def test_a_bare_control_character_in_text_is_invalid(raw: bytes) -> None:
    assert_invalid(OPERATOR_REQUESTS, request_with('{"a": "x"}').replace(b'"x"', b'"' + raw + b'"'))


@pytest.mark.parametrize("raw", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"])
def test_bytes_that_are_not_utf_8_are_invalid(raw: bytes) -> None:
    assert_invalid(OPERATOR_REQUESTS, request_with('{"a": "x"}').replace(b'"x"', b'"' + raw + b'"'))


@pytest.mark.parametrize("escape", ["\\ud800", "\\udc00", "\\ud800x"])
def test_half_a_character_is_invalid(escape: str) -> None:
    assert_invalid(OPERATOR_REQUESTS, request_with(f'{{"a": "{escape}"}}'))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_other_encodings_are_invalid(encoding: str) -> None:
    assert_invalid(DEVICE_HEARTBEAT, heartbeat().decode().encode(encoding))


@pytest.mark.parametrize("payload", [b"null", b"true", b"1", b'"text"', b"[]", b"{}", b"{", b"}"])
def test_the_wrong_shape_is_invalid(payload: bytes) -> None:
    for template in TEMPLATES:
        assert_invalid(template, payload)


@pytest.mark.parametrize(
    "changes",
    [
        {"seq": "1"},
        {"seq": 1.5},
        {"seq": True},
        {"seq": None},
        {"metrics": []},
        {"connectors": {}},
        {"boot_id": 1},
        {"boot_id": "6F1ED002AB5595859014EBF0951522D9"},
        {"boot_id": "6f1ed002ab5595859014ebf0951522d9\n"},
        {"interval_s": 0},
        {"interval_s": 301},
        {"receipt": "yes"},
    ],
    ids=repr,
)
def test_a_wrong_type_or_value_is_invalid(changes: Values) -> None:
    assert_invalid(DEVICE_HEARTBEAT, heartbeat(**changes))


@pytest.mark.parametrize("percent", [-0.1, 100.1, "50", 1e300])
def test_a_percentage_beyond_its_bounds_is_invalid(percent: object) -> None:
    metrics = {"cpu_percent": percent, "ram_percent": 1, "disk_percent": 1}
    assert_invalid(DEVICE_HEARTBEAT, heartbeat(metrics=metrics))


def test_a_million_elements_are_too_large() -> None:
    event = b'{"seq":1,"at":"2026-03-02T09:30:00Z","kind":"a"},'
    with pytest.raises(PayloadTooLarge):
        decode(DEVICE_EVENTS, events(1).replace(b"[", b"[" + event * 1_000_000))


def test_the_largest_batch() -> None:
    full = decode_as(EventBatch, events(MAX_EVENTS_PER_BATCH))
    assert len(full.events) == MAX_EVENTS_PER_BATCH
    with pytest.raises(InvalidPayload):
        decode_as(EventBatch, events(MAX_EVENTS_PER_BATCH + 1))


@pytest.mark.parametrize("year", [1970, 2100])
def test_an_implausible_year_has_a_valid_shape(year: int) -> None:
    """Whether history can hold it is for `rules/plausible.py` to say."""
    assert decode_as(Heartbeat, heartbeat(at=f"{year}-01-01T00:00:00Z")).at.year == year


@pytest.mark.parametrize(
    "at",
    [
        1_772_443_800,
        1_772_443_800_000,
        "1772443800",
        "2026-03-02",
        "2026-03-02T09:30:00",
        "2026-13-02T09:30:00Z",
        "2026-02-30T09:30:00Z",
        "10000-01-01T00:00:00Z",
        "",
        None,
    ],
    ids=repr,
)
def test_what_is_no_time_with_a_zone_is_invalid(at: object) -> None:
    assert_invalid(DEVICE_HEARTBEAT, heartbeat(at=at))


@pytest.mark.parametrize("seq", [0, -1, -(2**63)])
def test_a_sequence_number_below_one_is_invalid(seq: int) -> None:
    assert_invalid(DEVICE_HEARTBEAT, heartbeat(seq=seq))


def test_repeated_sequence_numbers_have_a_valid_shape() -> None:
    """Storing them once is for the registry."""
    assert len(decode_as(EventBatch, events(3)).events) == 3


def test_one_bad_event_in_500_makes_the_batch_invalid() -> None:
    assert_invalid(DEVICE_EVENTS, events(MAX_EVENTS_PER_BATCH, seq=-1))


@pytest.mark.parametrize("text", ["'; DROP TABLE devices; --", "=cmd()", "a\r\nb", "\u202egnp.exe"])
def test_hostile_text_is_kept_as_it_is(text: str) -> None:
    """It is a value in SQL parameters and escaped where it is shown, never interpreted."""
    message = decode_as(Request, request_with(json.dumps({"a": text})))
    assert message.params == {"a": text}


@given(st.binary())
def test_any_bytes_are_decoded_or_rejected(payload: bytes) -> None:
    for template in TEMPLATES:
        try:
            decode(template, payload)
        except Rejected:
            continue


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.sampled_from(TEMPLATES), st.dictionaries(st.text(), json_values), st.data())
def test_any_json_is_decoded_or_rejected(
    template: Template, additions: Values, data: st.DataObject
) -> None:
    values: Values = msgspec.to_builtins(MESSAGES[template.name])
    replaced = data.draw(st.sampled_from(sorted(values)))
    values |= additions | {replaced: data.draw(json_values)}
    try:
        message = decode(template, json.dumps(values).encode())
    except Rejected:
        return
    assert decode(template, encode(message)) == message
