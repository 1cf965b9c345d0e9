"""What the platform's own processes say of themselves."""

from __future__ import annotations

from fleet_core.contract.messages import ServiceStatus
from fleet_core.registry.store import Transaction
from fleet_core.runtime.routes import Context, Inbound, Outcome


async def handle(inbound: Inbound[ServiceStatus], tx: Transaction, _context: Context) -> Outcome:
    """Keep the last word of a process."""
    await tx.services.save(inbound.identity, inbound.message, inbound.received_at)
    return Outcome()
