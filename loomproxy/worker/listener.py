"""Accepting: one inherited socket per listener, its connections, and stopping without loss.

The node owns the socket; this worker serves a duplicate of it. To stop for a while (too many
connections) the duplicate is closed and the kernel keeps the queue; to stop for good everything the
kernel has queued is taken first.
"""

import asyncio
import socket
from typing import Final

from loomproxy.config.model import Listener
from loomproxy.core.gate import Gate
from loomproxy.core.http1.wire import Refusal
from loomproxy.core.hygiene import Peer, is_trusted
from loomproxy.core.tally import CLIENT_FULL, LISTENER_FULL, WORKER_FULL
from loomproxy.log import log
from loomproxy.worker.downstream import Downstream
from loomproxy.worker.ports import Teller
from loomproxy.worker.services import Services

ACCEPTS_AT_CLOSE_MAX: Final = 65_536
"""How many queued connections are taken when a listener closes; a backlog is never longer
(listen(2)).
"""

RETRY_S: Final = 1.0
"""After a listener could not be opened again: when to try once more."""

RELIEVE_S: Final = 1.0
"""How often idle connections are hurried where there is no room. nginx closes the oldest of them
when it has no connection left, too.
"""

AGAIN_RATIO: Final = 0.75
"""How empty a full listener must become before its being full is told again: at the bound it opens
and closes with each connection.
"""


def _is_counted(peer: Peer) -> bool:
    """Whether `peer` is one client among many: trusted proxies and local programs speak for all."""
    return not peer.trusted and peer.ip != b""


class ListenerAt:
    """One listener of one worker."""

    def __init__(self, listener: Listener, sock: socket.socket, services: Services) -> None:
        self.listener = listener
        self.services = services
        self.connections: set[Downstream] = set()
        self._sock = sock
        self._server: asyncio.Server | None = None
        self._draining = False
        self._paused = False
        self._relieved_at = -RELIEVE_S
        self._connections_max = listener.connections_max
        self._gate = Gate(listener.connections_per_client_max)
        self._told_full = False
        self._resuming: asyncio.Task[None] | None = None
        self._unix = sock.family == socket.AF_UNIX
        self._port = 0 if self._unix else int(sock.getsockname()[1])
        self.nobody = Peer(b"", 0, trusted=False, local_port=self._port, listener=listener.name)
        services.doors.append(self)

    async def start(self) -> None:
        """Accept."""
        if self._server is None and not self._draining:
            self._server = await self._serve(self._sock.dup())
            self._paused = False
            if self._filled(1.0):  # Others were faster.
                self.pause()

    async def _serve(self, sock: socket.socket) -> asyncio.Server:
        loop, backlog = self.services.loop, self.listener.backlog
        if sock.family == socket.AF_UNIX:
            # The node made the file and removes it: from Python 3.13 on, closing would.
            return await loop.create_unix_server(
                self._accepted,
                sock=sock,
                backlog=backlog,
                cleanup_socket=False,  # type: ignore[call-arg] # uvloop has it on every Python
            )
        return await loop.create_server(self._accepted, sock=sock, backlog=backlog)

    def _accepted(self) -> Downstream:
        return Downstream(self, self.services)

    def pause(self) -> bool:
        """Leave further connections to the kernel's queue; whether this one did accept."""
        server, self._server = self._server, None
        if server is None:
            return False
        server.close()
        self._paused = True
        return True

    def resume(self) -> None:
        """Accept again, if there is room."""
        begun = self._resuming is not None and not self._resuming.done()
        if self._paused and not (begun or self._draining or self._filled(1.0)):
            self._resuming = self.services.spawn(self._restart())

    def _filled(self, ratio: float) -> str:
        """What is filled to this ratio, the worker or this listener; "" when there is room."""
        services = self.services
        if len(services.tellers) >= services.connections_max * ratio:
            return WORKER_FULL
        return LISTENER_FULL if len(self.connections) >= self._connections_max * ratio else ""

    def _tell_full(self, reason: str) -> None:
        self.services.tally.note_limit(self.listener.name, reason)
        if not self._told_full:
            self._told_full = True
            worker = reason == WORKER_FULL
            log(
                "worker full" if worker else "listener full",
                level="warning",
                listener=self.listener.name,
                connections_max=self.services.connections_max if worker else self._connections_max,
            )

    async def _restart(self) -> None:
        try:
            await self.start()
        except OSError as error:  # There is no descriptor free, most likely.
            log(
                "listener cannot accept",
                level="warning",
                listener=self.listener.name,
                error=str(error),
            )
            self.services.loop.call_later(RETRY_S, self.resume)

    async def stop(self) -> None:
        """Accept no more; what the kernel has queued by now is served."""
        self._draining = True
        if self._resuming is not None:
            await self._resuming
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self._sock.settimeout(0.0)
        for _ in range(ACCEPTS_AT_CLOSE_MAX):
            try:
                sock, _address = self._sock.accept()
            except ConnectionError:
                continue  # That client is gone already (accept(2): ECONNABORTED).
            except OSError:
                break
            sock.settimeout(0.0)
            await self.services.loop.connect_accepted_socket(self._accepted, sock)
        self._sock.close()

    def opened(self, client: object, teller: Teller) -> bool:
        """A connection began; False when its client has enough of them.

        Where the worker is full, every listener pauses; when a place becomes free, each may take a
        connection for it before it hears that another has.
        """
        assert isinstance(client, Downstream)
        if _is_counted(client.peer) and not self._gate.enter(client.peer.ip):
            self._turn_away(client.peer)
            return False
        self.connections.add(client)
        self.services.attach(teller)
        reason = self._filled(1.0)
        if reason:
            doors = self.services.doors if reason == WORKER_FULL else (self,)
            paused = [door.pause() for door in doors]
            if any(paused):
                self._tell_full(reason)
                for door in doors:
                    door.relieve()
        return True

    def _turn_away(self, peer: Peer) -> None:
        self.services.tally.note_limit(self.listener.name, CLIENT_FULL)
        log(
            "client has too many connections",
            level="warning",
            listener=self.listener.name,
            client=peer.ip.decode(),
            connections_per_client_max=self.listener.connections_per_client_max,
        )

    def closed(self, client: object, teller: Teller) -> None:
        """A connection is over, if it ever began."""
        assert isinstance(client, Downstream)
        if client not in self.connections:
            return
        self.connections.remove(client)
        if _is_counted(client.peer):
            self._gate.leave(client.peer.ip)
        self.services.forget(teller)
        if not self._filled(AGAIN_RATIO):
            self._told_full = False
        for door in self.services.doors:
            door.resume()

    def relieve(self) -> None:
        """There is no room: who only waits makes some soon, for others who wait to be let in.

        It is not done at each connection: at the bound that would look at all of them all the time.
        """
        now = self.services.now()
        if now >= self._relieved_at + RELIEVE_S:
            self._relieved_at = now
            self.hurry()

    def hurry(self) -> None:
        """Idle connections get a moment for a request, then close."""
        for downstream in self.connections:
            downstream.hurry()

    def abandon(self) -> None:
        """End what is left."""
        for downstream in list(self.connections):
            downstream.reset()

    def peer_of(self, transport: asyncio.BaseTransport) -> Peer:
        """Who is at the other end, and whether the policy of now trusts it."""
        policy = self.services.world.snapshot.policy
        if self._unix:
            trusted = policy.trusts_unix
            return Peer(b"", 0, trusted, local_port=0, listener=self.listener.name)
        name = transport.get_extra_info("peername")
        if not isinstance(name, tuple):
            return self.nobody
        ip = name[0].encode()
        trusted = is_trusted(ip, policy.trusted)
        return Peer(ip, name[1], trusted, local_port=self._port, listener=self.listener.name)

    def refused(self, peer: Peer, refusal: Refusal) -> None:
        """A client sent what cannot be read: a line for the operator, with what it was."""
        log(
            "request refused",
            listener=self.listener.name,
            client=peer.ip.decode(),
            fault=refusal.fault.name,
            detail=refusal.detail,
        )
