"""`fleet dead-letters …`: what was refused, and why."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleet_cli.apps import new_app
from fleet_cli.asking import Target, ask, read_window
from fleet_cli.errors import UsageFailed
from fleet_cli.human import ago, size
from fleet_cli.options import (
    DEFAULT_OPERATOR,
    DEFAULT_TIMEOUT_S,
    DEFAULT_URL,
    AllOption,
    BrokerUrl,
    LimitOption,
    OffsetOption,
    OperatorName,
    Output,
    PageOption,
    TimeoutSeconds,
)
from fleet_cli.output import resolve, write_document
from fleet_cli.slug import chosen_id
from fleet_core.contract.operations import (
    OPERATIONS,
    DeadLetterDetail,
    DeadLetterList,
    DeadLetterPage,
    DeadLetterShow,
)
from fleet_core.runtime.clock import now_utc

if TYPE_CHECKING:
    from rich.console import RenderableType

app = new_app("Dead letters: messages that were refused.")


@app.command("list")
def list_dead_letters(
    *,
    reason: Annotated[
        str, typer.Option("--reason", help="Only this reason.", show_default=False)
    ] = "",
    topic: Annotated[
        str, typer.Option("--topic", help="With this in their topic.", show_default=False)
    ] = "",
    device: Annotated[
        str, typer.Option("--device", metavar="ID", help="Of this device.", show_default=False)
    ] = "",
    limit: LimitOption = None,
    offset: OffsetOption = None,
    page: PageOption = None,
    everything: AllOption = False,
    url: BrokerUrl = DEFAULT_URL,
    operator: OperatorName = DEFAULT_OPERATOR,
    timeout: TimeoutSeconds = DEFAULT_TIMEOUT_S,
    output: Output = None,
) -> None:
    """List dead letters, newest first."""
    from fleet_cli.listings import DEAD_LETTERS
    from fleet_cli.paging import write_list

    if device and topic:
        raise UsageFailed("--device and --topic both look in the topic; use one of them")
    part = f"/{chosen_id(device)}/" if device else topic

    async def page_of(session: Any, rows: int, start: int) -> tuple[list[Any], int]:
        params = DeadLetterList(reason=reason, topic=part, limit=rows, offset=start)
        answer: DeadLetterPage = await session.request(
            OPERATIONS["dead-letters.list"], params, timeout
        )
        return answer.dead_letters, answer.total

    window = read_window(limit, offset, page, everything=everything)
    write_list(Target(url, operator, timeout), window, DEAD_LETTERS, resolve(output), page_of)


@app.command()
def show(
    *,
    number: Annotated[int, typer.Argument(metavar="ID", min=0, help="As the list shows it.")],
    url: BrokerUrl = DEFAULT_URL,
    operator: OperatorName = DEFAULT_OPERATOR,
    timeout: TimeoutSeconds = DEFAULT_TIMEOUT_S,
    output: Output = None,
) -> None:
    """Show one dead letter with its payload."""
    params = DeadLetterShow(id=number)
    detail = ask(Target(url, operator, timeout), "dead-letters.show", params)
    write_document(
        detail,
        resolve(output),
        names=[str(detail.dead_letter.id)],
        table=lambda: dead_letter_page(detail, now_utc()),
    )


def dead_letter_page(detail: DeadLetterDetail, now: datetime) -> RenderableType:
    """One dead letter for people. Pure: the present is an argument."""
    from fleet_cli.tables import facts

    letter = detail.dead_letter
    kind = "payload" if detail.payload_text else "payload (base64)"
    return facts(
        (
            ("id", str(letter.id)),
            ("received", ago(letter.received_at, now)),
            ("topic", letter.topic),
            ("reason", letter.reason),
            ("detail", letter.detail),
            ("size", size(letter.size_bytes)),
            (kind, detail.payload_text or detail.payload_base64),
            ("", "only the first part was kept" if detail.truncated else ""),
        )
    )
