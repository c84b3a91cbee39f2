"""Performs what exchanges ask for, and tells them what happened.

A driver belongs to one downstream connection and lives as long; its exchanges come one after the
other. What happens while commands are being performed (a write that fills a buffer, an idle
connection that is there at once) is put into the inbox and told after them, so that an exchange is
never asked while it is answering. What is sent in one turn leaves in one write for each side.
"""

import asyncio
import errno
from collections import deque
from typing import Any, Final

from loomproxy.core import command as c
from loomproxy.core import event as e
from loomproxy.core import fault as faults
from loomproxy.core.endpoint import Endpoint
from loomproxy.core.exchange import Exchange, Phase
from loomproxy.core.http1.wire import Refusal
from loomproxy.core.message import RequestHead
from loomproxy.core.pool import Ticket
from loomproxy.log import Traceback, log
from loomproxy.worker.ports import Client
from loomproxy.worker.services import Services
from loomproxy.worker.upstream import Upstream

OUR_OWN_LACK: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
"""Why a connection cannot be had to any endpoint, well as they may be: no descriptor, no memory."""


class Driver:
    """Hands and ears of the exchanges of one downstream connection."""

    __slots__ = (
        "_busy",
        "_down_out",
        "_down_waits",
        "_downstream",
        "_inbox",
        "_opening",
        "_services",
        "_settled",
        "_up_out",
        "_up_waits",
        "_upstream",
        "exchange",
        "request_read",
        "tunnel",
    )

    def __init__(self, services: Services, downstream: Client) -> None:
        self._services = services
        self._downstream = downstream
        self.exchange: Exchange | None = None
        self.tunnel = False
        self.request_read = False  # of the exchange that finished last: to its end
        self._upstream: Upstream | None = None
        self._opening: asyncio.Task[None] | None = None
        self._inbox: deque[e.Event] = deque()
        self._busy = False
        self._down_out: list[bytes] = []
        self._up_out: list[bytes] = []
        self._down_waits = False  # a wire was given bytes and not read to their end yet
        self._up_waits = False
        self._settled: c.Fate | None = None

    # --- what happens -----------------------------------------------------------------------------

    def begin(self, event: "RequestHead | e.RequestBroken", *, may_keep: bool) -> None:
        """A request came, or what should have been one."""
        services = self._services
        services.in_flight += 1
        self.exchange = exchange = Exchange(
            services.world, self._downstream.peer, fresh_id=services.fresh_id(), may_keep=may_keep
        )
        exchange.owner = self
        self._down_waits = True  # Some of the body may have come with the head.
        self.tell(event)

    def tell(self, event: e.Event) -> None:
        """Let the exchange know, and do what it asks for."""
        self._inbox.append(event)
        if not self._busy:
            self._work()

    def read_downstream(self) -> None:
        """The client's wire has something to read: the rest of the request."""
        self._down_waits = True
        if not self._busy:
            self._work()

    def read_upstream(self) -> None:
        """The upstream's wire has something to read: the answer."""
        self._up_waits = True
        if not self._busy:
            self._work()

    def upstream_lost(self, *, broken: bool) -> None:
        """The upstream connection is gone; `broken`: it was not closed in order."""
        upstream = self._upstream
        if upstream is None:
            return
        if not self.tunnel:
            if broken:
                upstream.wire.break_off()
            else:
                upstream.wire.receive(b"")
            self.read_upstream()
        if self._upstream is upstream:
            self.tell(
                e.UpstreamGone(faults.UPSTREAM_CUT if self.tunnel else faults.UPSTREAM_CLOSED)
            )

    def tunnel_data(self, data: bytes, *, from_downstream: bool) -> None:
        """Bytes of a tunnel."""
        self.tell(e.TunnelData(data, from_downstream))

    def fin(self, *, from_downstream: bool) -> None:
        """One side says no more, yet listens."""
        self.tell(e.HalfClosed(from_downstream))

    def upstream_full(self) -> None:
        """The upstream connection does not take more."""
        self.tell(UPSTREAM_FULL)

    def upstream_taken(self) -> None:
        """The upstream connection has taken everything."""
        self.tell(UPSTREAM_TAKEN)

    # --- one turn ---------------------------------------------------------------------------------

    def _work(self) -> None:
        self._busy = True
        try:
            self._turn()
        except Exception as error:  # noqa: BLE001 - a bug of ours shall cost one client only
            # Its connection is closed, and nothing else.
            log("internal error in an exchange", level="error", traceback=Traceback(error))
            self._give_up()
        finally:
            self._busy = False
        settled = self._settled
        if settled is not None:
            self._settled = None
            self._downstream.settle(settled)

    def _turn(self) -> None:
        now = self._services.now()
        inbox = self._inbox
        while True:
            event = inbox.popleft() if inbox else self._read()
            exchange = self.exchange
            if event is not None:
                if exchange is not None:  # Else it is over, and this came late.
                    for command in exchange.handle(event, now):
                        PERFORM[type(command)](self, command)
                continue
            self._flush()
            if exchange is not None and exchange.phase is Phase.LAST and not self._downstream.full:
                inbox.append(DOWNSTREAM_TAKEN)
            if not inbox:
                return

    def _read(self) -> e.Event | None:
        """What the wires have next; None when both have been read as far as they go."""
        if self.exchange is None or self.tunnel:
            return None
        if self._up_waits:
            event = self._read_up()
            if event is not None:
                return event
        if self._down_waits:
            event = self._downstream.read_part()
            if event is not None:
                return event
            self._down_waits = False
        return None

    def _read_up(self) -> e.Event | None:
        upstream = self._upstream
        thing = upstream.wire.poll() if upstream is not None else None
        if upstream is None or thing is None:
            self._up_waits = False
            return None
        if isinstance(thing, Refusal):
            log("upstream refused", endpoint=upstream.endpoint.name, detail=thing.detail)
            return e.UpstreamGone(thing.fault)
        return thing

    def _flush(self) -> None:
        """Write what this turn sends: one write for each side."""
        if self._up_out:
            upstream = self._upstream
            if upstream is not None:
                upstream.transport.write(b"".join(self._up_out))
            self._up_out.clear()
        if self._down_out:
            self._downstream.write(b"".join(self._down_out))
            self._down_out.clear()

    def _give_up(self) -> None:
        """Our own bug: leave nothing held, and let the client see that its answer is cut."""
        self._inbox.clear()
        self._down_out.clear()
        self.tunnel = False
        self._settled = c.Fate.ABORT
        exchange, self.exchange = self.exchange, None
        self.perform_release(c.Release(reusable=False))
        if exchange is None:
            return
        now = self._services.now()
        exchange.out = []
        exchange.blame(faults.INTERNAL_ERROR, now)
        exchange.let_go()
        exchange.outcome.begun_at = exchange.outcome.begun_at or now
        exchange.outcome.ended_at = now
        self._services.record(exchange.outcome)
        for command in exchange.out:
            if type(command) is c.Wake:  # Who waits for the slot shall not pay for our bug.
                self.perform_wake(command)

    # --- what is asked for ------------------------------------------------------------------------

    def perform_open(self, command: c.Open) -> None:
        """Take an idle connection, or open one."""
        if not command.fresh:
            upstream = self._services.keepalive.take(command.endpoint)
            if upstream is not None:
                self._hold(upstream)
                self._inbox.append(e.Opened(command.ask, reused=True))
                return
        self._opening = self._services.spawn(self._connect(command.ask, command.endpoint))

    async def _connect(self, ask: int, endpoint: Endpoint) -> None:
        upstream = Upstream(
            endpoint, self._services.world.snapshot.limits, self._services.keepalive
        )
        address, loop = endpoint.spec.address, self._services.loop
        try:
            if address.path:
                await loop.create_unix_connection(lambda: upstream, address.path)
            else:
                await loop.create_connection(lambda: upstream, address.host, address.port)
            if upstream.transport.is_closing():
                raise ConnectionError("it was closed at once")
        except (OSError, UnicodeError) as error:  # UnicodeError: a host that no name can be.
            log("connect failed", endpoint=endpoint.name, error=str(error))
            self._opening = None
            ours = isinstance(error, OSError) and error.errno in OUR_OWN_LACK
            fault = faults.CONNECTION_UNAFFORDABLE if ours else faults.CONNECT_FAILED
            self.tell(e.OpenFailed(ask, fault))
            return
        except asyncio.CancelledError:
            upstream.close()
            raise
        self._opening = None
        self._hold(upstream)
        self.tell(e.Opened(ask, reused=False))

    def _hold(self, upstream: Upstream) -> None:
        assert self._upstream is None, "two upstreams held"
        assert self.exchange is not None, "an upstream for nobody"
        self._upstream = upstream
        upstream.hold(self)
        upstream.wire.expect(self.exchange.request.method)

    def perform_release(self, command: c.Release) -> None:
        """Give the upstream connection back, or abandon its opening."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        upstream, self._upstream = self._upstream, None
        if upstream is None:
            return
        if not command.reusable:
            self._up_out.clear()
            upstream.close()
            return
        assert not self._up_out, "an upstream is given back that has not been sent its request"
        upstream.driver = None
        upstream.read(paused=False)
        if not self._keep(upstream):
            upstream.close()

    def _keep(self, upstream: Upstream) -> bool:
        """Hold `upstream` for reuse, if nothing speaks against it."""
        services = self._services
        pool = services.world.pools.get(self.exchange.outcome.pool) if self.exchange else None
        return (
            pool is not None
            and upstream.wire.clean
            and not upstream.transport.is_closing()
            and upstream.endpoint in pool.members
            and services.keepalive.put(upstream, pool.spec.keepalive, self._services.now())
        )

    def perform_serve(self, command: c.Serve) -> None:
        """Have the node answer."""
        self._services.serve(self, command.ask, command.path)

    def perform_send_up(self, command: c.SendUp) -> None:
        """Bytes for the upstream, at the end of the turn."""
        self._up_out.append(command.data)

    def perform_send_down(self, command: "c.SendDown | c.HeadDown") -> None:
        """Bytes for the client, at the end of the turn."""
        self._down_out.append(command.data)

    def perform_shut_up(self, _command: c.ShutUp) -> None:
        """FIN to the upstream."""
        self._flush()
        if self._upstream is not None and not self._upstream.transport.is_closing():
            self._upstream.transport.write_eof()

    def perform_shut_down(self, _command: c.ShutDown) -> None:
        """FIN to the client."""
        self._flush()
        self._downstream.write_eof()

    def perform_pause_down(self, _command: c.PauseDown) -> None:
        """Read no more from the client."""
        self._downstream.read(paused=True)

    def perform_resume_down(self, _command: c.ResumeDown) -> None:
        """Read from the client again."""
        self._downstream.read(paused=False)

    def perform_pause_up(self, _command: c.PauseUp) -> None:
        """Read no more from the upstream."""
        if self._upstream is not None:
            self._upstream.read(paused=True)

    def perform_resume_up(self, _command: c.ResumeUp) -> None:
        """Read from the upstream again."""
        if self._upstream is not None:
            self._upstream.read(paused=False)

    def perform_begin_tunnel(self, _command: c.BeginTunnel) -> None:
        """From here on both connections carry bytes; some may have come already."""
        upstream = self._upstream
        assert upstream is not None, "a tunnel to nobody"
        self.tunnel = upstream.tunnel = True
        for data, from_downstream in (
            (upstream.wire.take_rest(), False),
            (self._downstream.take_rest(), True),
        ):
            if data:
                self._inbox.append(e.TunnelData(data, from_downstream))
        if self._downstream.ended:  # It said so while this was HTTP; the upstream shall know.
            self._inbox.append(e.HalfClosed(from_downstream=True))

    def perform_set_deadline(self, command: c.SetDeadline) -> None:
        """One deadline at a time."""
        self._downstream.set_deadline(command.at)

    def perform_wake(self, command: c.Wake) -> None:
        """Tell who waits for a slot."""
        wake(command.ticket)

    def perform_finish(self, command: c.Finish) -> None:
        """The exchange is over; what becomes of the connection follows this turn."""
        self._flush()  # Also before an abort: what the client has by then is not less true.
        assert self.exchange is not None
        self.request_read = self.exchange.client_body_ended
        self.exchange = None
        self.tunnel = False
        self._services.record(command.outcome)
        self._settled = command.fate


def wake(ticket: Ticket) -> None:
    """Tell the exchange that waits with `ticket` that a slot is free."""
    exchange = ticket.owner
    assert isinstance(exchange, Exchange)
    assert isinstance(exchange.owner, Driver)
    assert exchange.owner.exchange is exchange, "an exchange left the queue without its ticket"
    exchange.owner.tell(e.SlotFreed(ticket.ask))


PERFORM: Final[dict[type, Any]] = {
    c.Open: Driver.perform_open,
    c.Serve: Driver.perform_serve,
    c.SendUp: Driver.perform_send_up,
    c.HeadDown: Driver.perform_send_down,
    c.SendDown: Driver.perform_send_down,
    c.ShutUp: Driver.perform_shut_up,
    c.ShutDown: Driver.perform_shut_down,
    c.PauseDown: Driver.perform_pause_down,
    c.ResumeDown: Driver.perform_resume_down,
    c.PauseUp: Driver.perform_pause_up,
    c.ResumeUp: Driver.perform_resume_up,
    c.BeginTunnel: Driver.perform_begin_tunnel,
    c.SetDeadline: Driver.perform_set_deadline,
    c.Release: Driver.perform_release,
    c.Wake: Driver.perform_wake,
    c.Finish: Driver.perform_finish,
}
"""How each command is performed."""

DOWNSTREAM_TAKEN: Final = e.DownstreamTaken()
UPSTREAM_FULL: Final = e.UpstreamFull()
UPSTREAM_TAKEN: Final = e.UpstreamTaken()
