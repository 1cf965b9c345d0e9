"""The table of routes: every topic that is said to the platform is heard by exactly one role."""

from __future__ import annotations

from collections import Counter

from fleet_core.contract.operations import OPERATIONS
from fleet_core.contract.topics import TEMPLATES, Direction
from handlers.operations import IMPLEMENTATIONS
from handlers.roles import ROLES

UP = {template.name for template in TEMPLATES if template.direction is Direction.UP}


def test_the_roles_partition_the_topics_that_are_said_to_the_platform() -> None:
    heard = Counter(route.template.name for role in ROLES.values() for route in role.routes)
    assert heard == Counter(UP)


def test_a_role_is_found_by_its_own_name() -> None:
    assert {name: role.name for name, role in ROLES.items()} == {name: name for name in ROLES}


def test_only_what_hears_devices_tells_their_silence() -> None:
    for role in ROLES.values():
        kinds = {route.template.kind.value for route in role.routes}
        assert role.hears_devices == ("devices" in kinds)


def test_names_of_ticks_are_unique() -> None:
    names = [tick.name for role in ROLES.values() for tick in role.ticks]
    assert len(set(names)) == len(names)


def test_every_operation_of_the_contract_is_implemented_and_no_other() -> None:
    assert set(IMPLEMENTATIONS) == set(OPERATIONS)
