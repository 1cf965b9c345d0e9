"""Every named statement was executed by this suite, on both profiles. Runs last."""

from __future__ import annotations

import pytest

from fleet_core.registry import queries
from fleet_core.registry.migrate import Profile
from tests.integration.registry.conftest import Executed

OF_THE_OTHER_PROFILE = {
    (Profile.PLAIN, "retention", "drop_chunks"),
    (Profile.TIMESCALE, "retention", "delete_heartbeats"),
    (Profile.TIMESCALE, "retention", "delete_device_events"),
}


@pytest.mark.parametrize("profile", Profile)
def test_every_statement_was_executed(profile: Profile, executed: Executed) -> None:
    known = {(profile, noun, name) for noun in queries.nouns() for name in queries.load(noun)}
    assert known - executed.statements - OF_THE_OTHER_PROFILE == set()
