"""Who wants a topic: a tree of filter levels, so that a publish costs its own levels only.

amqtt compares each publish with every filter of every client; a fleet has several filters for each
device. Matching follows MQTT 3.1.1, section 4.7. Filters are valid when they get here.
"""

from __future__ import annotations

from collections.abc import Iterator


class _Node:
    """One level of a filter. `holders` are those whose filter ends here, with their QoS."""

    __slots__ = ("below", "holders")

    def __init__(self) -> None:
        self.below: dict[str, _Node] = {}
        self.holders: dict[str, int] = {}


class SubscriptionTree:
    """Filters by level, each with the client ids that hold it and the QoS they were granted.

    >>> tree = SubscriptionTree()
    >>> tree.add("a/+", "reader", 1)
    >>> tree.match("a/b")
    {'reader': 1}
    """

    def __init__(self) -> None:
        self._root = _Node()

    def add(self, topic_filter: str, client_id: str, qos: int) -> None:
        """Hold `topic_filter` for `client_id`; a second time replaces the QoS."""
        node = self._root
        for level in topic_filter.split("/"):
            node = node.below.setdefault(level, _Node())
        node.holders[client_id] = qos

    def remove(self, topic_filter: str, client_id: str) -> None:
        """Let go of it; nothing happens if it was not held. Empty branches disappear."""
        path = [(self._root, "")]
        for level in topic_filter.split("/"):
            node = path[-1][0].below.get(level)
            if node is None:
                return
            path.append((node, level))
        path[-1][0].holders.pop(client_id, None)
        for (parent, _), (node, level) in zip(reversed(path[:-1]), reversed(path), strict=False):
            if node.holders or node.below:
                return
            del parent.below[level]

    def match(self, topic: str) -> dict[str, int]:
        """The client ids that want `topic`, each once, with the highest QoS of its filters."""
        found: dict[str, int] = {}
        for holders in self._matching(topic.split("/"), hidden=topic.startswith("$")):
            for client_id, qos in holders.items():
                found[client_id] = max(qos, found.get(client_id, 0))
        return found

    def _matching(self, levels: list[str], *, hidden: bool) -> Iterator[dict[str, int]]:
        """Holders level by level; `hidden` keeps first-level wildcards off `$` topics (4.7.2)."""
        nodes = [self._root]
        for depth, level in enumerate(levels):
            following: list[_Node] = []
            for node in nodes:
                wildcards = not (hidden and depth == 0)
                if wildcards and (everything := node.below.get("#")) is not None:
                    yield everything.holders
                if wildcards and (any_level := node.below.get("+")) is not None:
                    following.append(any_level)
                if (exact := node.below.get(level)) is not None:
                    following.append(exact)
            nodes = following
        for node in nodes:
            yield node.holders
            if (everything := node.below.get("#")) is not None:
                yield everything.holders
