"""The hands of exchanges: does what they ask for, and tells them what happened.

A driver belongs to one downstream connection and lives as long; its exchanges come one after the
other. What happens while an exchange handles an event (a write that fills a buffer, a slot that
somebody woken gave back) is put into the inbox and told after it, so that an exchange is never told
anything while it is asking. What is sent in one turn leaves in one write for each side.
"""

import asyncio
import errno
import ssl
from collections import deque
from typing import Final

from loomproxy.config.trust import reason_of
from loomproxy.core import event as e
from loomproxy.core import fault as faults
from loomproxy.core.command import Fate
from loomproxy.core.endpoint import Endpoint
from loomproxy.core.exchange import Exchange
from loomproxy.core.fault import Fault
from loomproxy.core.http1.wire import Refusal
from loomproxy.core.message import NONE, RequestHead
from loomproxy.core.outcome import Outcome
from loomproxy.core.pool import Ticket
from loomproxy.core.units import NEVER, Instant
from loomproxy.log import Traceback, log
from loomproxy.worker.ports import Client
from loomproxy.worker.services import Services
from loomproxy.worker.upstream import Upstream

OUR_OWN_LACK: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
"""Why a connection cannot be had to any endpoint, well as they may be: no descriptor, no memory."""

CUT_SHORT: Final = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
"""How a connection that was there ends: within a handshake, when it is being opened."""


class Driver:
    """Hands and ears of the exchanges of one downstream connection."""

    __slots__ = (
        "_busy",
        "_down_out",
        "_down_waits",
        "_downstream",
        "_inbox",
        "_now",
        "_opening",
        "_services",
        "_settled",
        "_up_out",
        "_up_waits",
        "_upstream",
        "_woken",
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
        self._now: Instant = NEVER  # when the present turn began
        self._down_out: list[bytes] = []
        self._up_out: list[bytes] = []
        self._down_waits = False  # a wire was given bytes and not read to their end yet
        self._up_waits = False
        self._woken: list[Ticket] = []  # others, to be told of a free slot in this turn
        self._settled: Fate | None = None

    # --- what happens -----------------------------------------------------------------------------

    def begin(self, event: RequestHead | e.RequestBroken, *, may_keep: bool) -> None:
        """A request came, or what should have been one."""
        services = self._services
        services.in_flight += 1
        self.exchange = Exchange(
            services.world,
            self._downstream.peer,
            self,
            fresh_id=services.fresh_id(),
            may_keep=may_keep,
        )
        # Some of a body may have come with its head.
        self._down_waits = type(event) is RequestHead and event.framing is not NONE
        self._work(event)

    def tell(self, event: e.Event) -> None:
        """Let the exchange know, and do what it asks for."""
        if self._busy:
            self._inbox.append(event)
        else:
            self._work(event)

    def read_downstream(self) -> None:
        """The client's wire has something to read: the rest of the request."""
        self._down_waits = True
        if not self._busy:
            self._work(None)

    def read_upstream(self) -> None:
        """The upstream's wire has something to read: the answer."""
        self._up_waits = True
        if not self._busy:
            self._work(None)

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

    def _work(self, event: e.Event | None) -> None:
        """One turn that begins with `event`, or with what the wires have."""
        self._busy = True
        try:
            self._turn(event)
        except Exception as error:  # noqa: BLE001 - a bug of ours shall cost one client only
            # Its connection is closed, and nothing else.
            log("internal error in an exchange", level="error", traceback=Traceback(error))
            self._give_up()
        finally:
            self._busy = False
        settled = self._settled
        if settled is not None:
            self._settled = None
            self._downstream.settle(settled, self._now)
        elif self.exchange is not None:
            self._downstream.set_deadline(self.exchange.deadline_at)

    def _turn(self, event: e.Event | None) -> None:
        """Tell the exchange all there is to tell, then send what it says; until nothing is left."""
        self._now = now = self._services.now()
        inbox = self._inbox
        while True:
            if event is not None and self.exchange is not None:  # Else it is over; this came late.
                self.exchange.handle(event, now)
            if inbox:
                event = inbox.popleft()
            elif self._up_waits:
                event = self._read_up()
            elif self._down_waits:
                event = self._read_down()
            else:
                event = None
                self._flush()
                if self._woken:
                    self._wake_others()
                if not inbox:
                    return

    def _read_down(self) -> e.Event | None:
        """What the client's wire has next; None when it was read as far as it goes."""
        thing = self._downstream.read_part()
        if thing is None:
            self._down_waits = False
        return thing

    def _read_up(self) -> e.Event | None:
        """What the upstream's wire has next; None when it was read as far as it goes."""
        upstream = self._upstream
        assert upstream is not None, "nobody is held who could say anything"
        wire = upstream.wire
        thing = wire.poll()
        if thing is None or wire.exhausted:
            self._up_waits = False
        if isinstance(thing, Refusal):
            log("upstream refused", endpoint=upstream.endpoint.name, detail=thing.detail)
            return e.UpstreamGone(thing.fault)
        return thing

    def _flush(self) -> None:
        """Write what this turn sends: one write for each side."""
        out = self._up_out
        if out:
            upstream = self._upstream
            if upstream is not None:
                upstream.transport.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()
        out = self._down_out
        if out:
            self._downstream.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()

    def _wake_others(self) -> None:
        """Tell who waits for the slots that this exchange gave back."""
        while self._woken:
            wake(self._woken.pop(0))

    def _give_up(self) -> None:
        """Our own bug: leave nothing held, and let the client see that its answer is cut."""
        self._inbox.clear()
        self._down_out.clear()
        self.tunnel = self._down_waits = False
        self._settled = Fate.ABORT
        exchange, self.exchange = self.exchange, None
        self.release(reusable=False)
        if exchange is not None:
            now = self._services.now()
            exchange.blame(faults.INTERNAL_ERROR, now)
            exchange.let_go()
            exchange.forget_chat()
            exchange.outcome.begun_at = exchange.outcome.begun_at or now
            exchange.outcome.ended_at = now
            self._services.record(exchange.outcome)
        self._wake_others()  # Who waits for the slot shall not pay for our bug.

    # --- what is asked for (core.command.Hands) ---------------------------------------------------

    def open(self, ask: int, endpoint: Endpoint, *, fresh: bool) -> bool:
        """Take an idle connection, or open one."""
        if not fresh:
            upstream = self._services.keepalive.take(endpoint)
            if upstream is not None:
                self._hold(upstream)
                return True
        self._opening = self._services.spawn(self._connect(ask, endpoint))
        return False

    async def _connect(self, ask: int, endpoint: Endpoint) -> None:
        upstream = Upstream(
            endpoint, self._services.world.snapshot.limits, self._services.keepalive
        )
        address, loop = endpoint.spec.address, self._services.loop
        try:
            if address.path:
                await loop.create_unix_connection(lambda: upstream, address.path)
            else:
                secured = self._services.secure.towards(endpoint)
                await loop.create_connection(
                    lambda: upstream, address.host, address.port, **secured
                )
            if upstream.transport.is_closing():
                raise ConnectionError("it was closed at once")
        except (OSError, UnicodeError) as error:  # UnicodeError: a host that no name can be.
            self._opening = None
            self.tell(e.OpenFailed(ask, _why_not(error, endpoint)))
            return
        except asyncio.CancelledError:
            upstream.close()
            raise
        self._opening = None
        self._hold(upstream)
        self.tell(e.Opened(ask))

    def _hold(self, upstream: Upstream) -> None:
        assert self._upstream is None, "two upstreams held"
        assert self.exchange is not None, "an upstream for nobody"
        self._upstream = upstream
        upstream.hold(self, self.exchange.request.method)

    def release(self, *, reusable: bool) -> None:
        """Give the upstream connection back, or abandon its opening."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        upstream, self._upstream = self._upstream, None
        if upstream is None:
            return
        self._up_waits = False
        if not reusable:
            self._up_out.clear()
            upstream.close()
            return
        assert not self._up_out, "an upstream is given back that has not been sent its request"
        upstream.driver = None
        if upstream.paused:
            upstream.read(paused=False)
        if not self._keep(upstream):
            upstream.close()

    def _keep(self, upstream: Upstream) -> bool:
        """Hold `upstream` for reuse, if nothing speaks against it."""
        spec = upstream.endpoint.keepalive
        return (
            spec is not None
            and upstream.wire.clean
            and not upstream.transport.is_closing()
            and self._services.keepalive.put(upstream, spec, self._now)
        )

    def serve(self, ask: int, path: bytes) -> None:
        """Have the node answer."""
        self._services.serve(self, ask, path)

    def send_up(self, data: bytes) -> None:
        """Bytes for the upstream, at the end of the turn."""
        self._up_out.append(data)

    def head_down(self, _status: int, data: bytes) -> None:
        """Bytes for the client, at the end of the turn."""
        self._down_out.append(data)

    def send_down(self, data: bytes) -> None:
        """Bytes for the client, at the end of the turn."""
        self._down_out.append(data)

    def all_taken(self) -> bool:
        """Write; a client that does not take it all says so from within."""
        self._flush()
        return not self._downstream.full

    def shut_up(self) -> None:
        """FIN to the upstream."""
        self._flush()
        if self._upstream is not None and not self._upstream.transport.is_closing():
            self._upstream.write_eof()

    def shut_down(self) -> None:
        """FIN to the client."""
        self._flush()
        self._downstream.write_eof()

    def pause_down(self) -> None:
        """Read no more from the client."""
        self._downstream.read(paused=True)

    def resume_down(self) -> None:
        """Read from the client again."""
        self._downstream.read(paused=False)

    def pause_up(self) -> None:
        """Read no more from the upstream."""
        if self._upstream is not None:
            self._upstream.read(paused=True)

    def resume_up(self) -> None:
        """Read from the upstream again."""
        if self._upstream is not None:
            self._upstream.read(paused=False)

    def begin_tunnel(self) -> None:
        """From here on both connections carry bytes; some may have come already."""
        upstream = self._upstream
        assert upstream is not None, "a tunnel to nobody"
        self.tunnel = upstream.tunnel = True
        self._up_waits = self._down_waits = False
        for data, from_downstream in (
            (upstream.wire.take_rest(), False),
            (self._downstream.take_rest(), True),
        ):
            if data:
                self._inbox.append(e.TunnelData(data, from_downstream))
        if self._downstream.ended:  # It said so while this was HTTP; the upstream shall know.
            self._inbox.append(e.HalfClosed(from_downstream=True))

    def wake(self, ticket: Ticket) -> None:
        """Tell who waits for a slot, when this exchange has done with its event."""
        self._woken.append(ticket)

    def finish(self, outcome: Outcome, fate: Fate) -> None:
        """The exchange is over; what becomes of the connection follows this turn."""
        if self._down_out:  # Also before an abort: what the client has by then is not less true.
            self._flush()
        assert self.exchange is not None
        self.request_read = self.exchange.client_body_ended
        self.exchange = None
        self.tunnel = self._down_waits = False
        self._services.record(outcome)
        self._settled = fate


def _why_not(error: OSError | UnicodeError, endpoint: Endpoint) -> Fault:
    """Log why there is no connection to `endpoint`, and say whose fault that is."""
    cut = endpoint.tls is not None and isinstance(error, CUT_SHORT)
    if cut or isinstance(error, ssl.SSLError):
        reason = "it ended the connection in the handshake" if cut else reason_of(error)
        log("tls failed", level="warning", endpoint=endpoint.name, reason=reason)
        return faults.TLS_FAILED
    log("connect failed", endpoint=endpoint.name, error=str(error))
    ours = isinstance(error, OSError) and error.errno in OUR_OWN_LACK
    return faults.CONNECTION_UNAFFORDABLE if ours else faults.CONNECT_FAILED


def wake(ticket: Ticket) -> None:
    """Tell the exchange that waits with `ticket` that a slot is free."""
    exchange = ticket.owner
    assert isinstance(exchange, Exchange)
    assert isinstance(exchange.hands, Driver)
    assert exchange.hands.exchange is exchange, "an exchange left the queue without its ticket"
    exchange.hands.tell(e.SlotFreed(ticket.ask))


UPSTREAM_FULL: Final = e.UpstreamFull()
UPSTREAM_TAKEN: Final = e.UpstreamTaken()
