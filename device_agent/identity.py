"""Who this device is and which broker it belongs to, settled once and kept in the data directory.

- The device id: the file `device-id`, or else the enrolment code, or else `DEVICE_ID`. Whatever
  contradicts what is kept is refused; so is a `DEVICE_ID` that contradicts the code.
- The broker: `MANAGEMENT_URL`, which is not kept, or else the code's, or else the file
  `management-url`. So a new code for the same device moves it to another broker, and says so.
- Until devices and brokers can prove who they are, only a broker on this machine is accepted.
"""

from __future__ import annotations

import logging

import msgspec

from device_agent.config import Settings
from device_agent.data_directory import ELSEWHERE, DataDirectory
from device_agent.logs import fields
from fleet_core.contract.enrolment import EnrolmentCode, decode_code
from fleet_core.contract.errors import ConfigError, InvalidPayload
from fleet_core.contract.topics import Kind, is_valid_id
from fleet_core.rules.loopback import is_loopback
from fleet_core.runtime.mqtt import Address

logger = logging.getLogger(__name__)

ID_FILE = "device-id"
URL_FILE = "management-url"


class Identity(msgspec.Struct, frozen=True):
    """A device and its broker."""

    device_id: str
    address: Address


def settle(settings: Settings, directory: DataDirectory) -> Identity:
    """Find out, check, and keep what is new. Raises `ConfigError` with what is missing."""
    code = _code(settings.registration_token)
    kept_id, kept_url = directory.read(ID_FILE), directory.read(URL_FILE)
    if code and kept_id and code.device_id != kept_id:
        raise ConfigError(
            f"{directory.path} belongs to the device {kept_id[:80]!r}, but REGISTRATION_TOKEN is "
            f"for {code.device_id!r}: {ELSEWHERE}, or leave REGISTRATION_TOKEN out"
        )
    device_id = _device_id(settings.device_id, kept_id, code)
    url = settings.management_url or (code.url if code else kept_url)
    if not url:
        raise ConfigError("which broker? Set MANAGEMENT_URL=mqtt://host:port or REGISTRATION_TOKEN")
    address = Address.parse(url)
    require_loopback(address)
    if kept_id is None:
        directory.write(ID_FILE, device_id)
    if url != kept_url and not settings.management_url:
        directory.write(URL_FILE, url)
        if kept_url is not None:
            logger.info("agent.moved", extra=fields(device=device_id, broker=url, was=kept_url))
    return Identity(device_id, address)


def require_loopback(address: Address) -> None:
    """Raise `ConfigError` unless the broker is on this machine."""
    if not is_loopback(address.host):
        raise ConfigError(
            f"{address} is not on this machine: as long as connections are neither encrypted nor "
            "authenticated, only brokers on 127.0.0.0/8, ::1 or localhost are accepted"
        )


def _code(text: str) -> EnrolmentCode | None:
    try:
        return decode_code(text) if text else None
    except InvalidPayload as error:
        raise ConfigError(f"REGISTRATION_TOKEN: {error.detail}") from error


def _device_id(told: str, kept: str | None, code: EnrolmentCode | None) -> str:
    settled = kept or (code.device_id if code else None) or told
    if not settled:
        raise ConfigError("which device is this? Set REGISTRATION_TOKEN or DEVICE_ID")
    if told and told != settled:
        source = f"the file {ID_FILE}" if kept else "REGISTRATION_TOKEN"
        raise ConfigError(f"DEVICE_ID is {told[:80]!r} but {source} says {settled[:80]!r}")
    if not is_valid_id(Kind.DEVICES, settled):
        raise ConfigError(f"{settled[:80]!r} is no device id: a-z, 0-9 and '-', 2 to 63 characters")
    return settled
