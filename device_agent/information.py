"""What the machine is: operating system, kernel, architecture, names, addresses, versions.

Every text is cut to what the contract allows; loopback and link-local addresses are left out.
"""

from __future__ import annotations

import importlib.metadata
import ipaddress
import os
import platform
import socket
from functools import cache

import psutil

from fleet_core.contract.messages import DeviceInfo

DISTRIBUTION = "mqtt-fleet"
LINE_LIMIT = 256
ADDRESSES_LIMIT = 32
_FAMILIES = (socket.AF_INET, socket.AF_INET6)


def device_info(stack_version: str) -> DeviceInfo:
    """The present description of this machine."""
    system = os.uname()
    return DeviceInfo(
        hostname=line(system.nodename),
        os=line(operating_system()),
        kernel=line(system.release),
        architecture=line(system.machine),
        addresses=addresses(),
        agent_version=line(agent_version()),
        stack_version=line(stack_version),
    )


@cache
def agent_version() -> str:
    """The version of the installed distribution; `unknown` in a bare source tree."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


@cache
def operating_system() -> str:
    """The name the distribution gives itself (os-release), or else the kernel's."""
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", os.uname().sysname)
    except OSError:
        return os.uname().sysname


def addresses() -> list[str]:
    """The addresses others could reach this machine at, sorted."""
    found = {
        address.address.partition("%")[0]
        for of_interface in psutil.net_if_addrs().values()
        for address in of_interface
        if address.family in _FAMILIES
    }
    return sorted(text for text in found if _is_reachable(text))[:ADDRESSES_LIMIT]


def line(text: str, limit: int = LINE_LIMIT) -> str:
    """`text` as the contract can carry it: without control characters, cut to `limit`."""
    return "".join(c if c.isprintable() else " " for c in text)[:limit]


def _is_reachable(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_link_local)
