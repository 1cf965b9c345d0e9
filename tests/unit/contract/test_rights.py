"""The rule of rights: the law of filters, and a table of principals and what they try."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_core.contract.examples import IDENTITIES, example_topic
from fleet_core.contract.rights import (
    Principal,
    contains,
    is_valid_filter,
    matches,
    may_publish,
    may_subscribe,
    subscribe_filters,
)
from fleet_core.contract.topics import TEMPLATES, Direction, Kind, Template

DEVICE = Principal(kind=Kind.DEVICES, identity="gw-0001")
OPERATOR = Principal(
    kind=Kind.OPERATORS, identity="operator.alice", tenants=frozenset({"acme", "../x", "+"})
)
SERVICE = Principal(kind=Kind.SERVICES, identity="service.ingest")
ENROLLING = Principal(kind=Kind.ENROLMENTS, identity=IDENTITIES[Kind.ENROLMENTS])
PRETENDERS = [
    Principal(kind=Kind.DEVICES, identity=identity)
    for identity in ("", "+", "#", "gw/0001", "service.ingest", "gw-0001\n", "..", "$SYS")
]
EVERYBODY = [DEVICE, OPERATOR, SERVICE, ENROLLING, *PRETENDERS]

words = st.sampled_from(["a", "b", "", "$SYS", "$share"])
concrete = st.lists(words, min_size=1, max_size=5).map("/".join)
filters = st.builds(
    lambda levels, rest: "/".join([*levels, *rest]),
    st.lists(st.one_of(words, st.just("+")), max_size=4),
    st.sampled_from([["#"], ["a"], ["+"], ["b", "a"]]),
)


def matches_by_the_book(topic_filter: str, topic: str) -> bool:
    """MQTT 3.1.1, section 4.7, written down a second time: level by level, recursively."""
    if topic.startswith("$") and topic_filter[:1] in ("+", "#"):
        return False

    def match(wanted: list[str], given: list[str]) -> bool:
        if wanted == ["#"]:
            return True
        if not wanted or not given:
            return not wanted and not given
        return wanted[0] in ("+", given[0]) and match(wanted[1:], given[1:])

    return match(topic_filter.split("/"), topic.split("/"))


@given(filters, concrete)
def test_matching_follows_the_standard(topic_filter: str, topic: str) -> None:
    assert matches(topic_filter, topic) == matches_by_the_book(topic_filter, topic)


@given(filters, filters, concrete)
def test_a_filter_that_contains_another_matches_all_that_it_matches(
    outer: str, inner: str, topic: str
) -> None:
    if contains(outer, inner) and matches_by_the_book(inner, topic):
        assert matches_by_the_book(outer, topic)


@given(filters, filters, filters)
def test_containing_is_transitive(first: str, second: str, third: str) -> None:
    if contains(first, second) and contains(second, third):
        assert contains(first, third)


@given(filters)
def test_a_filter_contains_itself(topic_filter: str) -> None:
    assert contains(topic_filter, topic_filter)


@pytest.mark.parametrize("principal", EVERYBODY, ids=lambda p: repr(p.identity))
@given(data=st.data())
def test_what_an_allowed_filter_matches_lies_in_the_rights(
    principal: Principal, data: st.DataObject
) -> None:
    levels = st.sampled_from(
        ["fleet", "v1", "devices", "operators", "gw-0001", "gw-0002", "up", "down", "+", "#", "x"]
    )
    topic_filter = data.draw(st.lists(levels, min_size=1, max_size=7).map("/".join))
    topic = topic_filter.replace("+", "x").replace("#", "y/z")
    if may_subscribe(principal, topic_filter):
        assert any(matches_by_the_book(f, topic) for f in subscribe_filters(principal))


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.name)
def test_the_owner_and_the_services_may_say_what_belongs_to_the_template(
    template: Template,
) -> None:
    topic = example_topic(template)
    owner = Principal(kind=template.kind, identity=IDENTITIES[template.kind])
    up = template.direction is Direction.UP
    assert may_publish(owner, topic) == up
    assert may_subscribe(owner, topic) == (not up or template.kind is Kind.SERVICES)
    assert may_publish(SERVICE, topic) == (not up or template.kind is Kind.SERVICES)
    assert may_subscribe(SERVICE, template.filter()) == up


@pytest.mark.parametrize(
    ("principal", "topic", "allowed"),
    [
        (DEVICE, "fleet/v1/devices/gw-0001/up/heartbeat", True),
        (DEVICE, "fleet/v1/devices/gw-0001/up/not/in/the/contract", True),
        (DEVICE, "fleet/v1/devices/gw-0001/up", True),
        (DEVICE, "fleet/v1/devices/gw-0001/down/receipts", False),
        (DEVICE, "fleet/v1/devices/gw-0002/up/heartbeat", False),
        (DEVICE, "fleet/v1/devices/gw-00010/up/heartbeat", False),
        (DEVICE, "fleet/v1/operators/gw-0001/up/requests/r", False),
        (DEVICE, "fleet/v1/tenants/acme/down/devices/gw-0001", False),
        (DEVICE, "fleet/v1/artifacts/firmware/down/x", False),
        (DEVICE, "fleet/v1/devices/gw-0001/up/+", False),
        (DEVICE, "fleet/v1/devices/gw-0001/up/#", False),
        (DEVICE, "fleet/v1/devices/gw-0001/up/\0", False),
        (DEVICE, "$SYS/broker", False),
        (DEVICE, "", False),
        (OPERATOR, "fleet/v1/operators/operator.alice/up/requests/r", True),
        (OPERATOR, "fleet/v1/operators/operator.bob/up/requests/r", False),
        (OPERATOR, "fleet/v1/tenants/acme/down/devices/gw-0001", False),
        (OPERATOR, "fleet/v1/devices/gw-0001/down/receipts", False),
        (SERVICE, "fleet/v1/devices/gw-0001/down/receipts", True),
        (SERVICE, "fleet/v1/tenants/acme/down/devices/gw-0001", True),
        (SERVICE, "fleet/v1/services/service.ingest/up/status", True),
        (SERVICE, "fleet/v1/services/service.other/up/status", False),
        (SERVICE, "fleet/v1/devices/gw-0001/up/heartbeat", False),
        (SERVICE, "$SYS/broker", False),
        (ENROLLING, f"fleet/v1/enrolments/{ENROLLING.identity}/up/request", True),
        (ENROLLING, "fleet/v1/devices/gw-0001/up/heartbeat", False),
    ],
)
def test_who_may_publish(principal: Principal, topic: str, *, allowed: bool) -> None:
    assert may_publish(principal, topic) == allowed


@pytest.mark.parametrize(
    ("principal", "topic_filter", "allowed"),
    [
        (DEVICE, "fleet/v1/devices/gw-0001/down/#", True),
        (DEVICE, "fleet/v1/devices/gw-0001/down/+", True),
        (DEVICE, "fleet/v1/devices/gw-0001/down/receipts", True),
        (DEVICE, "fleet/v1/artifacts/#", True),
        (DEVICE, "fleet/v1/artifacts/+/down/x", True),
        (DEVICE, "fleet/v1/devices/gw-0001/#", False),
        (DEVICE, "fleet/v1/devices/gw-0001/+/receipts", False),
        (DEVICE, "fleet/v1/devices/+/down/receipts", False),
        (DEVICE, "fleet/v1/devices/gw-0002/down/#", False),
        (DEVICE, "fleet/v1/devices/gw-0001/up/#", False),
        (DEVICE, "fleet/#", False),
        (DEVICE, "#", False),
        (DEVICE, "+/#", False),
        (DEVICE, "$SYS/#", False),
        (DEVICE, "$share/g/fleet/v1/devices/gw-0001/down/#", False),
        (DEVICE, "", False),
        (DEVICE, "fleet/v1/devices/gw-0001/down/#/x", False),
        (DEVICE, "fleet/v1/devices/gw-0001/down/x+", False),
        (OPERATOR, "fleet/v1/operators/operator.alice/down/#", True),
        (OPERATOR, "fleet/v1/tenants/acme/down/#", True),
        (OPERATOR, "fleet/v1/tenants/acme/down/devices/+", True),
        (OPERATOR, "fleet/v1/tenants/acme/#", False),
        (OPERATOR, "fleet/v1/tenants/+/down/#", False),
        (OPERATOR, "fleet/v1/tenants/umbrella/down/#", False),
        (OPERATOR, "fleet/v1/tenants/../x/down/#", False),
        (OPERATOR, "fleet/v1/devices/gw-0001/down/#", False),
        (SERVICE, "fleet/v1/+/+/up/#", True),
        (SERVICE, "fleet/v1/devices/+/up/heartbeat", True),
        (SERVICE, "$share/ingest/fleet/v1/devices/+/up/heartbeat", True),
        (SERVICE, "$share/ingest/#", False),
        (SERVICE, "$share/ingest", False),
        (SERVICE, "$share/", False),
        (SERVICE, "$share/ingest/$share/x/fleet/v1/devices/+/up/heartbeat", False),
        (SERVICE, "$share/+/fleet/v1/devices/+/up/heartbeat", False),
        (SERVICE, "$share//fleet/v1/devices/+/up/heartbeat", False),
        (SERVICE, "fleet/v1/devices/+/down/#", False),
        (SERVICE, "#", False),
        (SERVICE, "$SYS/#", False),
        (ENROLLING, f"fleet/v1/enrolments/{ENROLLING.identity}/down/#", True),
        (ENROLLING, "fleet/v1/enrolments/+/down/#", False),
        (ENROLLING, "fleet/v1/artifacts/#", False),
    ],
)
def test_who_may_subscribe(principal: Principal, topic_filter: str, *, allowed: bool) -> None:
    assert may_subscribe(principal, topic_filter) == allowed


@pytest.mark.parametrize("pretender", PRETENDERS, ids=lambda p: repr(p.identity))
def test_an_id_off_the_grammar_has_no_rights(pretender: Principal) -> None:
    for template in TEMPLATES:
        assert not may_publish(pretender, example_topic(template))
        assert not may_subscribe(pretender, template.filter())
    assert not may_publish(pretender, f"fleet/v1/devices/{pretender.identity}/up/heartbeat")
    assert not may_subscribe(pretender, f"fleet/v1/devices/{pretender.identity}/down/#")


@pytest.mark.parametrize("bad", ["", "a#", "#/a", "a/#/b", "a+/b", "++", "a/+b", "a\0b", "a/##"])
def test_an_invalid_filter_is_no_filter(bad: str) -> None:
    assert not is_valid_filter(bad)


@pytest.mark.parametrize("good", ["#", "+", "a", "/", "a//b", "+/+/#", "$SYS/#", "/#"])
def test_a_valid_filter_is_one(good: str) -> None:
    assert is_valid_filter(good)
