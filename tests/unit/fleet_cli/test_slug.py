"""Ids made of names."""

from __future__ import annotations

import pytest

from fleet_cli.errors import UsageFailed
from fleet_cli.slug import device_id_of
from fleet_core.contract.topics import Kind, is_valid_id


@pytest.mark.parametrize(
    ("name", "identity"),
    [
        ("Gateway 1", "gateway-1"),
        ("  Köln — Straße #7 ", "koln-strasse-7"),
        ("../../etc", "etc"),
        ("x" * 200, "x" * 63),
        ("a" * 62 + " b", "a" * 62),
    ],
)
def test_a_name_makes_an_id(name: str, identity: str) -> None:
    assert device_id_of(name, "") == identity
    assert is_valid_id(Kind.DEVICES, identity)


@pytest.mark.parametrize("name", ["", "東京", "a", "---", "!"])
def test_a_name_that_makes_none_asks_for_one(name: str) -> None:
    with pytest.raises(UsageFailed) as failure:
        device_id_of(name, "")
    assert "--id" in failure.value.hint
    assert "2 to 63 of a-z, 0-9 and -" in failure.value.hint


@pytest.mark.parametrize("chosen", ["A1", "a", "-ab", "a/b", "a+", "x" * 64, "service.ingest"])
def test_a_chosen_id_is_checked_and_never_changed(chosen: str) -> None:
    with pytest.raises(UsageFailed):
        device_id_of("Gateway", chosen)
