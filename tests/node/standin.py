"""A small real worker for the tests of the node: it speaks the channel, accepts, answers and
drains.

What it serves tells which process answered and with which revision. It can be told by argument to
misbehave; hanging and dying are done to it from outside, with signals.
"""

import argparse
import asyncio
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from loomproxy.channel import (
    AccessLogTrouble,
    Channel,
    Drain,
    Drained,
    Force,
    Ping,
    Pong,
    PoolStatus,
    Publish,
    Published,
    Ready,
    Refused,
    ReopenLogs,
    ServiceAnswer,
    ServiceAsk,
    Start,
    Stats,
    StatsPlease,
    peer_pid,
    worker_end,
)
from loomproxy.core.tally import Series, Tally
from loomproxy.process import die_with_parent

arguments = argparse.ArgumentParser()
arguments.add_argument("--refuse-pool", default="", help="refuse a revision that has this pool")
arguments.add_argument("--silent-pool", default="", help="say nothing to one that has this pool")
arguments.add_argument("--no-start-if", default="", help="leave at once while this file is there")
arguments.add_argument("--ignore-drain", action="store_true")
arguments.add_argument("--channel", type=int, required=True)
options = arguments.parse_args()


class StandIn:
    """One worker."""

    def __init__(self) -> None:
        self.channel: Channel[Any] | None = None
        self.start: Start | None = None
        self.revision = 0
        self.servers: list[asyncio.Server] = []
        self.tally = Tally()
        self.asks: dict[int, asyncio.Future[ServiceAnswer]] = {}
        self.done = asyncio.Event()
        self.opening: set[asyncio.Task[None]] = set()

    def hear(self, message: Any) -> None:
        match message:
            case Start():
                self.start = message
                self.revision = message.revision
                self.opening.add(asyncio.get_running_loop().create_task(self.open(message)))
            case Publish():
                self.publish(message)
            case Ping():
                self.say(Pong(message.number, 0.001, self.tally, 1, 0))
            case StatsPlease():
                pools = tuple(PoolStatus(name, 0, ()) for name in self.start.config.dynamic.pools)
                self.say(Stats(message.number, self.revision, pools))
            case _:
                self.hear_more(message)

    def hear_more(self, message: Any) -> None:
        match message:
            case ReopenLogs():
                self.say(AccessLogTrouble("reopened", 0))
            case ServiceAnswer():
                self.asks.pop(message.ask).set_result(message)
            case Drain() if not options.ignore_drain:
                self.leave()
            case Force():
                self.leave()

    def say(self, message: Any) -> None:
        self.channel.send(message)

    def leave(self) -> None:
        for server in self.servers:
            server.close()
        self.say(Pong(0, 0.0, self.tally, 0, 0))
        self.say(Drained())
        self.done.set()

    def publish(self, message: Publish) -> None:
        if options.refuse_pool in message.dynamic.pools:
            self.say(Refused(message.revision, "no such pool here"))
        elif options.silent_pool not in message.dynamic.pools:
            self.revision = message.revision
            self.say(Published(message.revision))

    async def open(self, start: Start) -> None:
        for listener in start.listeners:
            sock = socket.socket(fileno=listener.fd)
            self.servers.append(await asyncio.start_server(self.answer, sock=sock))
        self.say(Ready(start.slot, os.getpid()))

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split()[1]
        if path.startswith(b"/house"):
            number = len(self.asks) + 1
            answer = self.asks[number] = asyncio.get_running_loop().create_future()
            self.say(ServiceAsk(number, path.removeprefix(b"/house")))
            got = await answer
            body = json.dumps([got.status, got.content_type.decode(), got.body.decode()])
        else:
            self.tally.series.setdefault(("app", "app"), Series()).requests[2] += 1
            body = json.dumps({"pid": os.getpid(), "revision": self.revision})
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + body.encode())
        await writer.drain()
        writer.close()

    def ended(self, _why: str) -> None:
        os._exit(0 if self.done.is_set() else 3)

    async def run(self) -> None:
        sock = socket.socket(fileno=options.channel)
        die_with_parent(peer_pid(sock))
        self.channel = await worker_end(sock, self.hear, self.ended)
        await self.done.wait()
        self.channel.close()
        await asyncio.Event().wait()  # `ended` leaves


if options.no_start_if and Path(options.no_start_if).exists():
    sys.exit("the file is there")
asyncio.run(StandIn().run())
