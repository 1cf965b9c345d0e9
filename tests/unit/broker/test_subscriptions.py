"""The tree finds what a scan over all filters would find."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.subscriptions import SubscriptionTree
from fleet_core.contract.rights import matches

words = st.sampled_from(["a", "b", "", "$SYS"])
topics = st.lists(words, min_size=1, max_size=4).map("/".join)
filters = st.builds(
    lambda levels, rest: "/".join([*levels, rest]),
    st.lists(st.one_of(words, st.just("+")), max_size=3),
    st.sampled_from(["#", "+", "a", ""]),
)
subscriptions = st.lists(st.tuples(filters, st.sampled_from("xyz"), st.integers(0, 1)))


@given(subscriptions, topics)
def test_matching_is_that_of_the_contract(held: list[tuple[str, str, int]], topic: str) -> None:
    tree, expected = SubscriptionTree(), dict[tuple[str, str], int]()
    for topic_filter, client_id, qos in held:
        tree.add(topic_filter, client_id, qos)
        expected[topic_filter, client_id] = qos
    found = tree.match(topic)
    for client_id in "xyz":
        wanted = [q for (f, c), q in expected.items() if c == client_id and matches(f, topic)]
        assert found.get(client_id) == (max(wanted) if wanted else None)


@given(subscriptions, topics)
def test_removing_everything_leaves_nothing(held: list[tuple[str, str, int]], topic: str) -> None:
    tree = SubscriptionTree()
    for topic_filter, client_id, qos in held:
        tree.add(topic_filter, client_id, qos)
    for topic_filter, client_id, _ in held:
        tree.remove(topic_filter, client_id)
    assert tree.match(topic) == {}
    assert not tree._root.below


def test_removing_what_is_not_held_changes_nothing() -> None:
    tree = SubscriptionTree()
    tree.add("a/b", "x", 1)
    tree.remove("a/b/c", "x")
    tree.remove("a/b", "y")
    tree.remove("a", "x")
    assert tree.match("a/b") == {"x": 1}
