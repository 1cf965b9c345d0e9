"""Configuration: defaults < file < environment; what is unknown or senseless is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fleet_core.contract.errors import ConfigError
from fleet_core.rules import health, plausible, presence
from fleet_core.runtime.config import Settings, default_path, load
from handlers.__main__ import context_of

DEFAULTS: dict[str, dict[str, Any]] = tomllib.loads(default_path().read_text("utf-8"))
KEYS = [(section, key) for section, keys in DEFAULTS.items() for key in keys]
UNITS = ("_s", "_days", "_bytes", "_percent", "_intervals", "_score", "_penalty", "_minute")
UNITLESS_NUMBERS = {("database", "pool_size"), ("ingest", "batch_size")}


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "fleet.toml"
    file.write_text(text, "utf-8")
    return file


def refusal(environment: dict[str, str], file: Path | None = None) -> str:
    with pytest.raises(ConfigError) as error:
        load(environment, file)
    return str(error.value)


def test_the_defaults_alone_are_a_configuration() -> None:
    assert msgspec.to_builtins(load({})) == DEFAULTS


def test_the_structs_have_exactly_the_keys_of_the_file() -> None:
    fields = {f.name: set(f.type.__struct_fields__) for f in msgspec.structs.fields(Settings)}
    assert fields == {section: set(keys) for section, keys in DEFAULTS.items()}


def test_every_key_stands_below_a_comment() -> None:
    """Keys without an empty line between them may share one."""
    commented, bare = False, []
    for line in default_path().read_text("utf-8").splitlines():
        if line.startswith("#"):
            commented = True
        elif not line or line.startswith("["):
            commented = False
        elif not commented:
            bare.append(line)
    assert bare == []


@pytest.mark.parametrize(("section", "key"), KEYS, ids=".".join)
def test_a_number_has_its_unit_in_its_name(section: str, key: str) -> None:
    value = DEFAULTS[section][key]
    if isinstance(value, int | float) and not isinstance(value, bool):
        assert key.endswith(UNITS) or (section, key) in UNITLESS_NUMBERS


def test_the_defaults_of_the_rules_are_those_of_the_file() -> None:
    context = context_of(load({}), "x")
    assert context.presence == presence.Policy()
    assert context.health == health.Thresholds()
    assert context.window == plausible.Window()


def test_the_environment_outranks_the_file_and_the_file_the_defaults(tmp_path: Path) -> None:
    file = written(tmp_path, "[ingest]\nbatch_size = 10\nshared = true\n[log]\nlevel='debug'\n")
    settings = load({"FLEET_INGEST_BATCH_SIZE": "20"}, file)
    assert (settings.ingest.batch_size, settings.ingest.shared) == (20, True)
    assert settings.log.level == "debug"
    assert settings.log.format == "console"


def test_the_file_may_be_named_by_the_environment_and_an_argument_outranks_it(
    tmp_path: Path,
) -> None:
    file = written(tmp_path, "[ingest]\nbatch_size = 10\n")
    environment = {"FLEET_CONFIG": str(file)}
    assert load(environment).ingest.batch_size == 10
    other = tmp_path / "other.toml"
    other.write_text("")
    assert load(environment, other).ingest.batch_size == 1000
    assert load({"FLEET_CONFIG": ""}).ingest.batch_size == 1000


@pytest.mark.parametrize(("section", "key"), KEYS, ids=".".join)
def test_every_key_can_be_set_by_the_environment(section: str, key: str) -> None:
    default = DEFAULTS[section][key]
    name = f"FLEET_{section}_{key}".upper()
    text = str(default).lower() if isinstance(default, bool) else str(default)
    assert load({name: text}) == load({})


@pytest.mark.parametrize(
    "text",
    [
        "[nonsense]\na = 1",
        "nonsense = 1",
        "presence = 1",
        "[presence]\nlate_after_interval = 1",
        "[presence.late_after_intervals]\na = 1",
        "[[presence]]\nlate_after_intervals = 1",
        "[presence",
        "[ingest]\nbatch_size = '10'",
        "[ingest]\nbatch_size = 10.5",
        "[ingest]\nbatch_size = true",
        "[ingest]\nshared = 1",
        "[ingest]\nshared = 'true'",
        "[broker]\nurl = 1",
        "[broker]\nurl = 2026-03-02T09:30:00Z",
    ],
)
def test_a_file_with_an_unknown_key_or_a_wrong_type_is_refused(tmp_path: Path, text: str) -> None:
    assert refusal({}, written(tmp_path, text))


def test_a_file_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    assert "nowhere.toml" in refusal({"FLEET_CONFIG": str(tmp_path / "nowhere.toml")})
    file = tmp_path / "binary.toml"
    file.write_bytes(b"\xff\xfe")
    assert "binary.toml" in refusal({}, file)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("FLEET_PRESENCE_POLICIES", "strict"),
        ("FLEET_PRESENCE", "strict"),
        ("FLEET_", ""),
        ("FLEET_presence_policy", "strict"),
    ],
)
def test_an_unknown_name_in_the_environment_is_refused(name: str, text: str) -> None:
    assert name in refusal({name: text})


def test_names_of_others_in_the_environment_are_left_alone() -> None:
    environment = {"FLEET_OPERATOR": "a", "FLEET_AGENT_X": "b", "FLEET_TEST_Y": "c", "FLEETING": ""}
    assert load(environment) == load({})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("FLEET_INGEST_BATCH_SIZE", "ten"),
        ("FLEET_INGEST_BATCH_SIZE", ""),
        ("FLEET_INGEST_BATCH_SIZE", "0"),
        ("FLEET_INGEST_BATCH_SIZE", "10001"),
        ("FLEET_INGEST_SHARED", "maybe"),
        ("FLEET_BROKER_KEEPALIVE_S", "4"),
        ("FLEET_BROKER_KEEPALIVE_S", "30.5"),
        ("FLEET_BROKER_TIMEOUT_S", "nan"),
        ("FLEET_BROKER_TIMEOUT_S", "inf"),
        ("FLEET_BROKER_TIMEOUT_S", "0"),
        ("FLEET_PRESENCE_POLICY", "lenient"),
        ("FLEET_PRESENCE_LATE_AFTER_INTERVALS", "-1"),
        ("FLEET_HEALTH_CPU_MIDDLE_PERCENT", "101"),
        ("FLEET_LOG_LEVEL", "LOUD"),
        ("FLEET_DEAD_LETTERS_PAYLOAD_LIMIT_BYTES", "98305"),
    ],
)
def test_a_value_of_the_wrong_type_or_out_of_bounds_is_refused_by_name(
    name: str, text: str
) -> None:
    words = refusal({name: text}).upper().replace(".", "_")
    assert name.removeprefix("FLEET_") in words


@pytest.mark.parametrize(
    "name",
    [f"FLEET_{section}_{key}".upper() for section, key in KEYS if key.endswith("_days")],
)
def test_more_days_than_the_calendar_has_are_refused(name: str) -> None:
    """A million days made every heartbeat an OverflowError, and so a dead letter."""
    load({name: "36500"})
    assert "36500" in refusal({name: "1000000"})


def test_a_statement_timeout_that_rounds_to_none_or_to_beyond_an_integer_is_refused() -> None:
    """PostgreSQL takes whole milliseconds up to 2**31 - 1, and 0 for no limit at all."""
    for text in ("0.0001", "30000000"):
        refusal({"FLEET_DATABASE_STATEMENT_TIMEOUT_S": text})


def test_what_one_key_alone_can_not_tell() -> None:
    environment = {"FLEET_PRESENCE_LATE_AFTER_INTERVALS": "11"}
    assert "late_after_intervals" in refusal(environment)
    load(environment | {"FLEET_PRESENCE_OFFLINE_AFTER_INTERVALS": "11"})
    for name in ("cpu", "ram", "disk"):
        assert f"{name}_middle" in refusal({f"FLEET_HEALTH_{name.upper()}_MIDDLE_PERCENT": "91"})
