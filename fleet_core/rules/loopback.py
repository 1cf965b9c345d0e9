"""Whether a host is this machine talking to itself: until identities arrive, nothing else may.

- `localhost`, `127.0.0.0/8` and `::1` are loopback. Nothing is resolved: a rule does no I/O.
- An empty host is not loopback, because sockets read it as every address there is.
- An address with a zone (`::1%eth0`) is refused: the zone may hold any character.
"""

from __future__ import annotations

from ipaddress import ip_address

from fleet_core.contract.errors import ConfigError


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine only.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host.lower() == "localhost":
        return True
    if "%" in host:
        return False
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def require_loopback(host: str) -> None:
    """Raise `ConfigError` unless `host` is loopback."""
    if not is_loopback(host):
        raise ConfigError(
            f"the broker listens on this machine only until clients prove who they are with "
            f"certificates; {host[:80]!r} is not loopback, use 127.0.0.1, ::1 or localhost"
        )
