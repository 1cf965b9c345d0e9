"""Who may say and hear what: one rule, and the arithmetic of filters it needs.

Every principal publishes to its own `up/#` and subscribes to its own `down/#`. Three additions
complete the table: services publish to any `down/#` and subscribe to any `up/#`; an operator
subscribes to `down/#` of its tenants; a device subscribes to the artifacts. Nothing else is
allowed to anyone. The law that makes this safe for filters with wildcards: if a filter is allowed,
every topic it matches is allowed (`contains`).

Matching follows MQTT 3.1.1, section 4.7: `+` is one level, `#` is this level and all below, and a
wildcard at the first level never matches a topic that begins with `$`.
"""

from __future__ import annotations

import msgspec

from fleet_core.contract.topics import ROOT, SHARE_PREFIX, Kind, is_valid_id, is_valid_key


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who proved who they are. `tenants` matters for operators only."""

    kind: Kind
    identity: str
    tenants: frozenset[str] = frozenset()


def publish_filters(principal: Principal) -> tuple[str, ...]:
    """The filters that contain every topic `principal` may publish to."""
    if not is_valid_id(principal.kind, principal.identity):
        return ()
    own = f"{ROOT}/{principal.kind.value}/{principal.identity}/up/#"
    if principal.kind is Kind.SERVICES:
        return (own, f"{ROOT}/+/+/down/#")
    return (own,)


def subscribe_filters(principal: Principal) -> tuple[str, ...]:
    """The filters that contain every filter `principal` may subscribe to."""
    if not is_valid_id(principal.kind, principal.identity):
        return ()
    own = f"{ROOT}/{principal.kind.value}/{principal.identity}/down/#"
    match principal.kind:
        case Kind.SERVICES:
            return (own, f"{ROOT}/+/+/up/#")
        case Kind.DEVICES:
            return (own, f"{ROOT}/{Kind.ARTIFACTS.value}/#")
        case Kind.OPERATORS:
            tenants = sorted(t for t in principal.tenants if is_valid_id(Kind.TENANTS, t))
            return (own, *(f"{ROOT}/{Kind.TENANTS.value}/{t}/down/#" for t in tenants))
        case _:
            return (own,)


def may_publish(principal: Principal, topic: str) -> bool:
    """Whether `principal` may publish to the concrete `topic`; the same for a will."""
    if not topic or "+" in topic or "#" in topic or "\0" in topic:
        return False
    return any(matches(allowed, topic) for allowed in publish_filters(principal))


def may_subscribe(principal: Principal, topic_filter: str) -> bool:
    """Whether `principal` may hold `topic_filter`; a shared subscription counts as its filter."""
    if topic_filter.startswith(f"{SHARE_PREFIX}/"):
        _, _, shared = topic_filter.partition("/")
        group, _, topic_filter = shared.partition("/")
        if principal.kind is not Kind.SERVICES or not is_valid_key(group):
            return False
    if not is_valid_filter(topic_filter):
        return False
    return any(contains(allowed, topic_filter) for allowed in subscribe_filters(principal))


def is_valid_filter(topic_filter: str) -> bool:
    """Whether MQTT allows this filter at all: wildcards alone in their level, `#` only last."""
    levels = topic_filter.split("/")
    if not topic_filter or "\0" in topic_filter or "#" in levels[:-1]:
        return False
    return all(level in ("+", "#") or not set(level) & {"+", "#"} for level in levels)


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a concrete topic lies in a filter.

    >>> matches("a/+/#", "a/b"), matches("#", "$SYS/x"), matches("a/#", "a")
    (True, False, True)
    """
    return contains(topic_filter, topic)


def contains(outer: str, inner: str) -> bool:
    """Whether every topic that `inner` matches is matched by `outer`; both may be filters.

    >>> contains("fleet/+/x", "fleet/+/x"), contains("fleet/+", "fleet/#")
    (True, False)
    """
    outer_levels, inner_levels = outer.split("/"), inner.split("/")
    if inner_levels[0].startswith("$") != outer_levels[0].startswith("$"):
        return False
    for index, outer_level in enumerate(outer_levels):
        if outer_level == "#":
            return True
        if index == len(inner_levels) or inner_levels[index] == "#":
            return False
        if outer_level not in ("+", inner_levels[index]):
            return False
    return len(outer_levels) == len(inner_levels)
