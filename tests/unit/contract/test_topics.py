"""The grammar: what it makes it can read, and it reads nothing else."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_core.contract.errors import InvalidTopic
from fleet_core.contract.examples import example_topic
from fleet_core.contract.rights import is_valid_filter, matches
from fleet_core.contract.topics import (
    KEY_PATTERN,
    TEMPLATES,
    TOPIC_LIMIT_BYTES,
    Kind,
    Template,
    Topic,
    id_pattern,
    is_valid_id,
    is_valid_key,
    parse,
    shared,
)

HOSTILE = [
    "",
    "+",
    "#",
    "$",
    "$SYS",
    "/",
    "a/b",
    ".",
    "..",
    "%",
    "%2f",
    "gw%00",
    "'",
    "gw'--",
    '"',
    " ",
    "gw 1",
    "gw-0001 ",
    "\n",
    "gw-0001\n",
    "gw-0001\r\n",
    "\x00",
    "gw\x00",
    "gw-\N{RIGHT-TO-LEFT OVERRIDE}1000",
    "\N{CYRILLIC SMALL LETTER A}bc",
    "gw-\N{ARABIC-INDIC DIGIT ONE}",
    "\ud800",
    "GW-0001",
    "-gw",
    "_gw",
    "gw+1",
    "gw#",
    "x" * 64,
    "x" * 100_000,
]
HOSTILE_TOPICS = [
    "",
    "/",
    "fleet",
    "fleet/v1",
    "fleet/v2/devices/gw-0001/up/heartbeat",
    "Fleet/v1/devices/gw-0001/up/heartbeat",
    "/fleet/v1/devices/gw-0001/up/heartbeat",
    "fleet/v1/devices/gw-0001/up/heartbeat/",
    "fleet/v1/devices/gw-0001/up/heartbeat/x",
    "fleet/v1/devices/gw-0001/up/heartbeat\n",
    "fleet/v1/devices/gw-0001\n/up/heartbeat",
    "fleet/v1/devices//up/heartbeat",
    "fleet//v1/devices/gw-0001/up/heartbeat",
    "fleet/v1/devices/gw-0001/down/heartbeat",
    "fleet/v1/devices/gw-0001/up/nonsense",
    "fleet/v1/devices/gw-0001/up/../down/receipts",
    "fleet/v1/devices/+/up/heartbeat",
    "fleet/v1/devices/#",
    "fleet/v1/unheard/gw-0001/up/heartbeat",
    "fleet/v1/devices/service.ingest/up/heartbeat",
    "fleet/v1/operators/gw-0001/up/requests/r-1",
    "fleet/v1/operators/operator.alice/up/requests",
    "fleet/v1/operators/operator.alice/up/requests/",
    "fleet/v1/operators/operator.alice/up/requests/r-1/x",
    "fleet/v1/operators/operator.alice/up/requests/r-1\n",
    "fleet/v1/operators/operator.alice/up/requests/..",
    "$SYS/broker/uptime",
    "$share/ingest/fleet/v1/devices/gw-0001/up/heartbeat",
    "/".join("x" * 200),
    "/" * 200,
]


@st.composite
def topics(draw: st.DrawFn) -> Topic:
    template = draw(st.sampled_from(TEMPLATES))
    identity = draw(st.from_regex(id_pattern(template.kind), fullmatch=True))
    key = draw(st.from_regex(KEY_PATTERN, fullmatch=True)) if template.key_name else ""
    return Topic(template, identity, key)


@given(topics())
def test_what_is_formatted_is_parsed_to_the_same(topic: Topic) -> None:
    assert parse(topic.template.topic(topic.identity, topic.key)) == topic
    assert parse(str(topic)) == topic


@given(topics())
def test_a_topic_matches_the_filter_of_exactly_one_template(topic: Topic) -> None:
    matching = [t for t in TEMPLATES if matches(t.filter(), str(topic))]
    assert matching == [topic.template]
    assert matches(topic.template.filter(topic.identity), str(topic))


@given(topics())
def test_a_topic_is_short(topic: Topic) -> None:
    assert len(str(topic).encode()) <= TOPIC_LIMIT_BYTES


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        topic = parse(text)
    except InvalidTopic:
        return
    assert str(topic) == text


@given(st.lists(st.sampled_from(["fleet", "v1", "devices", "gw-1", "up", "status", "", "+"])))
def test_any_levels_are_parsed_or_refused(levels: list[str]) -> None:
    text = "/".join(levels)
    with suppress(InvalidTopic):
        assert str(parse(text)) == text


@pytest.mark.parametrize("hostile", HOSTILE, ids=repr)
@pytest.mark.parametrize("kind", list(Kind))
def test_a_hostile_id_is_no_id_of_any_kind(kind: Kind, hostile: str) -> None:
    assert not is_valid_id(kind, hostile)


@pytest.mark.parametrize("hostile", HOSTILE, ids=repr)
@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.name)
def test_a_hostile_id_makes_no_topic_and_no_filter(template: Template, hostile: str) -> None:
    with pytest.raises(InvalidTopic):
        template.topic(hostile, "key" if template.key_name else "")
    if hostile != "+":
        with pytest.raises(InvalidTopic):
            template.filter(hostile)


@pytest.mark.parametrize(
    "hostile", [h for h in HOSTILE if h not in ("GW-0001", "x" * 64)], ids=repr
)
def test_a_hostile_key_is_no_key(hostile: str) -> None:
    assert not is_valid_key(hostile)
    for template in TEMPLATES:
        if template.key_name:
            with pytest.raises(InvalidTopic):
                parse(f"{example_topic(template).rpartition('/')[0]}/{hostile}")


@pytest.mark.parametrize("hostile", HOSTILE_TOPICS, ids=lambda t: repr(t)[:60])
def test_a_hostile_topic_is_refused(hostile: str) -> None:
    with pytest.raises(InvalidTopic):
        parse(hostile)


@pytest.mark.parametrize("hostile", HOSTILE_TOPICS, ids=lambda t: repr(t)[:60])
def test_the_refusal_of_a_long_topic_is_short(hostile: str) -> None:
    with pytest.raises(InvalidTopic) as refusal:
        parse(hostile + "x" * 100_000)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.name)
def test_every_filter_is_one_that_mqtt_allows(template: Template) -> None:
    assert is_valid_filter(template.filter())
    assert shared("ingest", template.filter()) == f"$share/ingest/{template.filter()}"


def test_names_and_channels_are_unique() -> None:
    assert len({t.name for t in TEMPLATES}) == len(TEMPLATES)
    assert len({t.filter() for t in TEMPLATES}) == len(TEMPLATES)


def test_no_id_of_a_device_is_one_of_an_operator_or_a_service() -> None:
    for kind in (Kind.OPERATORS, Kind.SERVICES):
        assert not is_valid_id(Kind.DEVICES, f"{kind.value[:-1]}.alice")
        assert not is_valid_id(kind, "gw-0001")


def test_a_key_where_there_is_none_is_refused() -> None:
    for template in TEMPLATES:
        topic = parse(example_topic(template))
        with pytest.raises(InvalidTopic):
            template.topic(topic.identity, "" if template.key_name else "key")
