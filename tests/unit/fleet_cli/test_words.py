"""What people type about a device: a sentence for what is wrong, and the contract's own limits."""

from __future__ import annotations

import msgspec
import pytest

from fleet_cli.errors import UsageFailed
from fleet_cli.words import (
    MAX_LINE_CHARACTERS,
    MAX_NAME_CHARACTERS,
    MAX_SITE_CHARACTERS,
    MAX_TAG_KEY_CHARACTERS,
    MAX_TAG_VALUE_CHARACTERS,
    line_of,
    tag_of,
)
from fleet_core.contract.operations import NewDevice


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the site is empty"),
        (" \t", "the site is blank"),
        ("x" * 65, "the site has 65 characters"),
        ("a\x1bb", "the site 'a\\x1bb' has control characters"),
        ("a\nb", "the site 'a\\nb' has control characters"),
        ("a\udc80", "the site 'a\\udc80' has control characters"),
    ],
)
def test_a_bad_site_is_told_in_words(text: str, message: str) -> None:
    with pytest.raises(UsageFailed) as failure:
        line_of("site", text, MAX_SITE_CHARACTERS)
    assert failure.value.message == message
    assert failure.value.hint == "a site is one line of 1 to 64 characters"


@pytest.mark.parametrize("pair", ["é=1", "-a=1", "a b=1", "x" * 64 + "=1"])
def test_a_bad_tag_key_is_told_in_words(pair: str) -> None:
    with pytest.raises(UsageFailed) as failure:
        tag_of(pair)
    assert "can't be the key of a tag" in failure.value.message
    assert "letters, digits" in failure.value.hint


@pytest.mark.parametrize("pair", ["a=" + "x" * 129, "a=\x07"])
def test_a_bad_tag_value_is_told_in_words(pair: str) -> None:
    with pytest.raises(UsageFailed, match="tag's value"):
        tag_of(pair)


def test_the_limits_are_those_of_the_contract() -> None:
    longest = {
        "device_id": "gw-1",
        "name": "n" * MAX_NAME_CHARACTERS,
        "site": "s" * MAX_SITE_CHARACTERS,
        "tags": {"k" * MAX_TAG_KEY_CHARACTERS: "v" * MAX_TAG_VALUE_CHARACTERS},
        "owner": "o" * MAX_LINE_CHARACTERS,
    }
    msgspec.convert(longest, NewDevice)
    too_long = {
        "name": "n" * (MAX_NAME_CHARACTERS + 1),
        "site": "s" * (MAX_SITE_CHARACTERS + 1),
        "tags": {"k" * (MAX_TAG_KEY_CHARACTERS + 1): ""},
        "owner": "o" * (MAX_LINE_CHARACTERS + 1),
    }
    for word, value in too_long.items():
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({**longest, word: value}, NewDevice)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**longest, "tags": {"k": "v" * (MAX_TAG_VALUE_CHARACTERS + 1)}}, NewDevice)
