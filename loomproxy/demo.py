"""The demo upstream: a small HTTP application to try the proxy with, as a process of its own.

It shows what arrived (method, path, header fields) as JSON, so that one can see what the proxy adds
and takes away, and on `/stream` an event stream, so that one can see that it passes as it comes.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from typing import Final

import orjson

from loomproxy.config.address import listen_address
from loomproxy.core.message import RequestHead, fields
from loomproxy.node.group import Group
from loomproxy.node.http import HttpServer, Reply
from loomproxy.node.sockets import ListenError, listen_tcp
from loomproxy.process import die_with_parent

STREAM_EVENTS: Final = 5
"""How many events `/stream` sends; enough to see them come one by one."""

STREAM_INTERVAL_S: Final = 0.5
"""The pause between two events."""

LISTENS: Final = "listens"
"""What it says on stderr, alone on a line, when it can be asked."""

CONNECTIONS_MAX: Final = 4096
"""More than the keepalive of any number of workers that fits a demo."""

_BACKLOG: Final = 1024


def run(address: str, parent_pid: int) -> None:
    """Serve on `address` until SIGTERM, or until the node is gone."""
    die_with_parent(parent_pid)
    asyncio.run(_serve(address))


async def _serve(address: str) -> None:
    try:
        sock = listen_tcp(listen_address(address), backlog=_BACKLOG, where="node.demo_upstream")
    except ListenError as error:
        sys.exit(str(error))
    group = Group()
    server = HttpServer(answer, group.spawn, connections_max=CONNECTIONS_MAX)
    await server.listen(sock)
    sys.stderr.write(f"{LISTENS}\n")
    sys.stderr.flush()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.close()


async def answer(head: RequestHead, body: bytes) -> Reply:
    """What the demo says to a request."""
    if head.path == b"/stream":
        return Reply(200, content_type=b"text/event-stream", stream=_events())
    headers: dict[str, str] = {}
    for name, value in fields(head.block):
        key, text = name.decode("latin-1"), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    seen = {
        "method": head.method.decode(),
        "path": head.path.decode("latin-1"),
        "query": head.query.decode("latin-1"),
        "headers": headers,
        "body_bytes": len(body),
    }
    return Reply(200, orjson.dumps(seen, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


async def _events() -> AsyncIterator[bytes]:
    for number in range(1, STREAM_EVENTS + 1):
        yield b"id: %d\ndata: event %d of %d\n\n" % (number, number, STREAM_EVENTS)
        await asyncio.sleep(STREAM_INTERVAL_S)  # noqa: TID251 # the demo's own cadence
