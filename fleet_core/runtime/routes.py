"""Routes: which handler a topic goes to, and what a handler is given and gives back.

- A handler writes through the transaction it is given, and returns what to publish. It can't
  publish by itself, so nothing is ever said that was not committed.
- `handle` takes one message, `handle_batch` many of one topic; a route has exactly one of them.
- `publish` is informative and sent straight after the commit. `owe` goes through the outbox in the
  same transaction and is sent until the broker confirmed it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

from fleet_core.contract.errors import Rejected
from fleet_core.contract.publication import Delivery, Publication
from fleet_core.contract.topics import Template
from fleet_core.registry.store import Transaction
from fleet_core.rules.health import Thresholds
from fleet_core.rules.plausible import Window
from fleet_core.rules.presence import Policy
from fleet_core.runtime.clock import Clock

M = TypeVar("M")


class Inbound(msgspec.Struct, Generic[M], frozen=True, gc=False):
    """A decoded message. `identity` is the `<id>` of its topic, and so who said it."""

    identity: str
    key: str
    message: M
    delivery: Delivery

    @property
    def received_at(self) -> datetime:
        """When this process received it (UTC)."""
        return self.delivery.received_at


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What every handler of a process may know besides its message and the registry."""

    instance: str
    clock: Clock
    presence: Policy
    health: Thresholds
    window: Window


class Outcome(msgspec.Struct, kw_only=True):
    """What a handler decided. `rejected` names messages of a batch that become dead letters."""

    publish: list[Publication] = []
    owe: list[Publication] = []
    rejected: list[tuple[Inbound[Any], Rejected]] = []


Handle = Callable[[Inbound[Any], Transaction, Context], Awaitable[Outcome]]
HandleBatch = Callable[[Sequence[Inbound[Any]], Transaction, Context], Awaitable[Outcome]]


class Route(msgspec.Struct, frozen=True):
    """One row of the table of routes. `apologise` says what to tell a sender whose message
    could not be carried out, where somebody waits for an answer."""

    template: Template
    handle: Handle | None = None
    handle_batch: HandleBatch | None = None
    apologise: Callable[[Inbound[Any]], list[Publication]] | None = None

    def __post_init__(self) -> None:
        if (self.handle is None) == (self.handle_batch is None):
            raise ValueError(f"{self.template.name}: a route has one handler, single or batch")


def in_order(
    messages: Sequence[tuple[Route, Inbound[Any]]],
) -> list[tuple[Route, list[Inbound[Any]]]]:
    """Gather messages into few groups of one route each, keeping the order of every sender.

    Messages of different senders may change places; two messages of one sender never do.
    """
    groups: list[tuple[Route, list[Inbound[Any]]]] = []
    last_group: dict[str, int] = {}
    for route, inbound in messages:
        index = last_group.get(inbound.identity, 0)
        while index < len(groups) and groups[index][0] is not route:
            index += 1
        if index == len(groups):
            groups.append((route, []))
        groups[index][1].append(inbound)
        last_group[inbound.identity] = index
    return groups
