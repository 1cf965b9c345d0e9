"""`python -m broker --host H --port P`: the embedded broker as a process of its own.

Ends cleanly on SIGTERM and SIGINT. Exit code 2, with one line on standard error, when the host is
not loopback or the port can't be had. Says nothing else below WARNING.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import logging
import signal
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

from amqtt.errors import BrokerError

from broker.embedded import EmbeddedBroker
from fleet_core.contract.errors import ConfigError
from fleet_core.runtime.parent import end_with_parent

EXIT_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until told to stop; gives the exit code."""
    options = _options(arguments)
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # What happens on a connection is logged by `broker`, and a failed start is told by `main`.
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)
    if options.exit_with_parent:
        end_with_parent()
    try:
        _run(_serve(options.host, options.port))
    except ConfigError as error:
        return _fail(str(error))
    except BrokerError as error:
        return _fail(_explain(error, options.host, options.port))
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m broker", description="The embedded broker.")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="end when the starting process ends"
    )
    return parser.parse_args(arguments)


async def _serve(host: str, port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    broker = EmbeddedBroker(host, port)
    await broker.start()
    await stop.wait()
    await broker.shutdown()


def _run(work: Coroutine[Any, Any, None]) -> None:
    """On uvloop where there is one."""
    if sys.platform == "win32":
        asyncio.run(work)
    else:
        import uvloop

        uvloop.run(work)


def _explain(error: BrokerError, host: str, port: int) -> str:
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is taken by another program"
    return f"can't listen on port {port} of {host}: {cause or error}"


def _fail(sentence: str) -> int:
    sys.stderr.write(f"broker: {sentence}\n")
    return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
