"""Configuration: defaults < file < environment, every key known, every value checked.

- `config/default.toml` is the list of keys, their units and their defaults; there is no other.
- A section is a struct here; a key that is in neither is refused, in a file and in the environment.
- The environment name of `[section] key` is `FLEET_SECTION_KEY`.

What a rule needs from here is handed to it as a value (`presence.Policy`, `health.Thresholds`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fleet_core.contract.errors import ConfigError

ENVIRONMENT_PREFIX = "FLEET_"
# Names in the environment that belong to the command line and its processes, not to a section.
RESERVED_NAMES = frozenset({"FLEET_CONFIG", "FLEET_OPERATOR"})
RESERVED_PREFIXES = ("FLEET_AGENT_", "FLEET_TEST_")

PositiveInt = Annotated[int, Meta(ge=1)]
Days = Annotated[int, Meta(ge=1, le=36_500)]
PositiveSeconds = Annotated[float, Meta(gt=0, le=86_400 * 400)]
Percent = Annotated[float, Meta(ge=0, le=100)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every table in the configuration file."""


class BrokerSection(Section, frozen=True):
    """How a process reaches the broker."""

    url: str
    keepalive_s: Annotated[int, Meta(ge=5, le=3600)]
    timeout_s: PositiveSeconds
    reconnect_limit_s: PositiveSeconds


class DatabaseSection(Section, frozen=True):
    """How a process reaches PostgreSQL."""

    url: str
    pool_size: Annotated[int, Meta(ge=1, le=100)]
    statement_timeout_s: Annotated[float, Meta(ge=0.001, le=86_400)]
    retry_limit_s: PositiveSeconds


class DataSection(Section, frozen=True):
    """Where `fleet up` keeps what it keeps."""

    directory: str


class LogSection(Section, frozen=True):
    """What a process says on stderr."""

    level: Literal["debug", "info", "warning", "error"]
    format: Literal["console", "json"]


class IngestSection(Section, frozen=True):
    """The high-volume path."""

    batch_size: Annotated[int, Meta(ge=1, le=10_000)]
    shared: bool


class DeadLettersSection(Section, frozen=True):
    """How much of what is refused is kept."""

    payload_limit_bytes: Annotated[int, Meta(ge=0, le=98_304)]
    limit_per_minute: PositiveInt


class PresenceSection(Section, frozen=True):
    """When a silent device is late, and when it is gone."""

    policy: Literal["two-step", "strict"]
    late_after_intervals: PositiveSeconds
    offline_after_intervals: PositiveSeconds
    will_recheck_s: Annotated[float, Meta(ge=0, le=3600)]
    sweep_interval_s: PositiveSeconds
    clock_skew_limit_s: PositiveSeconds


class HistorySection(Section, frozen=True):
    """Which times a history accepts."""

    past_limit_days: Days
    future_limit_s: PositiveSeconds


class RetentionSection(Section, frozen=True):
    """How long each kind of history is kept."""

    heartbeats_days: Days
    events_days: Days
    dead_letters_days: Days
    requests_days: Days
    interval_s: PositiveSeconds


class HealthSection(Section, frozen=True):
    """Thresholds and penalties of the health score."""

    cpu_middle_percent: Percent
    cpu_above_percent: Percent
    cpu_middle_penalty: Percent
    cpu_above_penalty: Percent
    ram_middle_percent: Percent
    ram_above_percent: Percent
    ram_middle_penalty: Percent
    ram_above_penalty: Percent
    disk_middle_percent: Percent
    disk_above_percent: Percent
    disk_middle_penalty: Percent
    disk_above_penalty: Percent
    connectors_penalty: Percent
    warning_below_score: Percent


class ServiceSection(Section, frozen=True):
    """The platform's own processes."""

    heartbeat_interval_s: PositiveInt


class Settings(Section, frozen=True):
    """The whole configuration, complete and checked."""

    broker: BrokerSection
    database: DatabaseSection
    data: DataSection
    log: LogSection
    ingest: IngestSection
    dead_letters: DeadLettersSection
    presence: PresenceSection
    history: HistorySection
    retention: RetentionSection
    health: HealthSection
    service: ServiceSection


def default_path() -> Path:
    """Where `default.toml` lies: inside an installed wheel, or in `config/` of a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "default.toml"
    return installed if installed.exists() else package.parent / "config" / "default.toml"


def load(environment: Mapping[str, str], file: Path | None = None) -> Settings:
    """Read and merge the three layers. Raises `ConfigError` with the path of the offending key."""
    tables = _read(default_path())
    file = file or (Path(environment["FLEET_CONFIG"]) if environment.get("FLEET_CONFIG") else None)
    if file is not None:
        _merge(tables, _read(file), str(file))
    _merge(tables, _from_environment(environment, tables), "the environment")
    try:
        settings = msgspec.convert(tables, Settings, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(f"configuration: {error}") from error
    _check(settings)
    return settings


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _merge(base: dict[str, Any], layer: Mapping[str, Any], source: str) -> None:
    for section, keys in layer.items():
        if section not in base or not isinstance(keys, dict):
            raise ConfigError(f"{source}: there is no section [{section}]")
        for key, value in keys.items():
            if key not in base[section]:
                raise ConfigError(f"{source}: there is no key {key!r} in [{section}]")
            base[section][key] = value


def _from_environment(
    environment: Mapping[str, str], tables: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The `FLEET_*` names, each read as the type its default has."""
    known = {
        f"{ENVIRONMENT_PREFIX}{section}_{key}".upper(): (section, key)
        for section, keys in tables.items()
        for key in keys
    }
    layer: dict[str, dict[str, Any]] = {}
    for name, text in environment.items():
        if not name.startswith(ENVIRONMENT_PREFIX) or _is_reserved(name):
            continue
        if name not in known:
            raise ConfigError(f"the environment: {name} names no key of the configuration")
        section, key = known[name]
        layer.setdefault(section, {})[key] = _typed(name, text, tables[section][key])
    return layer


def _is_reserved(name: str) -> bool:
    return name in RESERVED_NAMES or name.startswith(RESERVED_PREFIXES)


def _typed(name: str, text: str, default: Any) -> Any:
    wanted = int | float if type(default) in (int, float) else type(default)
    try:
        return msgspec.convert(text, wanted, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"the environment: {name}={text!r}: {error}") from error


def _check(settings: Settings) -> None:
    """What one key alone can't tell."""
    presence, health = settings.presence, settings.health
    if presence.late_after_intervals > presence.offline_after_intervals:
        raise ConfigError("presence: late_after_intervals is more than offline_after_intervals")
    for name in ("cpu", "ram", "disk"):
        if getattr(health, f"{name}_middle_percent") > getattr(health, f"{name}_above_percent"):
            raise ConfigError(f"health: {name}_middle_percent is more than {name}_above_percent")
