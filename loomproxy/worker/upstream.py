"""One connection to an endpoint: bytes in, bytes out, and who holds it.

It thinks nothing: while an exchange holds it, what arrives is read by the wire and told to the
driver; while it is idle, anything that arrives makes it useless.

In TLS three things are otherwise. An end that was not announced (close_notify) may be anybody's
doing, so it is no orderly one (RFC 9112 §9.8). One direction cannot be ended alone: who has said
all in a tunnel closes it, and what still comes has nobody to hear it. And between the connection
and us stands the TLS of the event loop, with buffers of its own: what it holds has arrived, yet it
would be lost with the connection (`_hold_back`).
"""

import asyncio
import contextlib
import os
import socket
import ssl
from typing import Final, cast

from msgspec import structs

from loomproxy.config.trust import reason_of
from loomproxy.core.endpoint import Endpoint
from loomproxy.core.http1.wire import Limits, ResponseWire
from loomproxy.core.units import NEVER, Instant
from loomproxy.log import log
from loomproxy.worker.keepalive import Keepalive
from loomproxy.worker.ports import Holder

RESPONSE_BYTES_MAX: Final = 1 << 62
"""A bound for the body of an answer, 4 EiB, which nobody meets: answers are streamed, and what ends
one that goes on for ever is its client. The configured limit is of requests.
"""

LAST_BYTES_MAX: Final = 256 << 10
"""How much is read from a connection that broke: as much as the event loop reads at a time."""

TLS_BYTES_MAX: Final = 16 << 10
"""How much TLS may hold before it counts as full: a record. With 0, uvloop's always would; and the
last words of its handshake, which leave after `connection_made`, must not. What the TCP below it
holds does not count, so that one write more is taken than by a connection without TLS.
"""


class Upstream(asyncio.Protocol):
    """One connection to an endpoint."""

    __slots__ = (
        "_ended",
        "_keepalive",
        "_shut",
        "_tls",
        "deadline_at",
        "driver",
        "endpoint",
        "exchanges",
        "paused",
        "scheduled_at",
        "transport",
        "tunnel",
        "wire",
    )

    def __init__(
        self, endpoint: Endpoint, limits: Limits, keepalive: "Keepalive[Upstream]"
    ) -> None:
        self.endpoint = endpoint
        self.wire = ResponseWire(structs.replace(limits, body_bytes_max=RESPONSE_BYTES_MAX))
        self.driver: Holder | None = None  # who holds it; None: nobody
        self.exchanges = 0
        self.tunnel = False
        self.transport: asyncio.Transport = NO_TRANSPORT
        self.deadline_at: Instant = NEVER  # when idle: to be closed then
        self.scheduled_at: Instant = NEVER
        self._keepalive = keepalive
        self._tls = endpoint.tls is not None
        self._ended = False  # it said that it says no more
        self._shut = False  # we did, in the only way that TLS has
        self.paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there. What the kernel does not take at once means: full."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=TLS_BYTES_MAX if self._tls else 0, low=0)

    def data_received(self, data: bytes) -> None:
        """Tell the holder."""
        driver = self.driver
        if driver is None:
            self._useless()
        elif self.tunnel:
            driver.tunnel_data(data, from_downstream=False)
        else:
            self.wire.receive(data)
            driver.read_upstream()

    def eof_received(self) -> bool:
        """The upstream says no more. True keeps our direction open, for tunnels; not in TLS."""
        driver = self.driver
        self._ended = True
        if driver is None:
            self._useless()
        elif self.tunnel:
            driver.fin(from_downstream=False)
            return not self._tls
        else:
            self.wire.receive(b"")
            driver.read_upstream()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """It is over."""
        self._keepalive.lost(self)
        driver = self.driver
        if driver is None:
            return
        if self._tls:
            if isinstance(error, ssl.SSLError):
                self._tell_why(error)
            if self._shut and not self._ended:
                driver.fin(from_downstream=False)
        elif error is not None and not self.tunnel:
            self._hear_last()
        driver.upstream_lost(broken=error is not None or (self._tls and not self._ended))

    def _tell_why(self, error: ssl.SSLError) -> None:
        """An alert that comes after the handshake: mostly, our certificate is not welcome."""
        log("tls failed", level="warning", endpoint=self.endpoint.name, reason=reason_of(error))

    def _hear_last(self) -> None:
        """Read what the kernel still has of a connection that broke under our writing.

        Who refuses a large request answers early, closes, and resets what still comes; then it is
        the next write that fails, while the answer waits to be read.
        """
        sock: socket.socket | None = self.transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                self.wire.receive(os.read(sock.fileno(), LAST_BYTES_MAX))

    def pause_writing(self) -> None:
        """The upstream does not take more now."""
        if self.driver is not None:
            self.driver.upstream_full()

    def resume_writing(self) -> None:
        """The upstream has taken it all."""
        if self.driver is not None:
            self.driver.upstream_taken()

    def hold(self, driver: Holder, method: bytes) -> None:
        """An exchange takes the connection, for a request with `method`."""
        self.driver = driver
        self.deadline_at = NEVER
        self.exchanges += 1
        self.wire.expect(method)

    def read(self, *, paused: bool) -> None:
        """Stop or go on reading; asking twice does nothing."""
        if paused is not self.paused and not self.transport.is_closing():
            self.paused = paused
            if paused:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()
            if self._tls:
                self._hold_back(paused=paused)

    def _hold_back(self, *, paused: bool) -> None:
        """Leave in the kernel what we do not read now, and with it the end that comes behind it.

        uvloop goes on reading until its buffer is full; when it reads the end, it drops what is
        still in there. While we do read, the limit must be above the largest record, which it
        reads in parts; but it is raised only when what was held back has been taken, which is the
        next that uvloop does, or the end could come between.
        """
        if paused:
            self.transport.set_read_buffer_limits(high=1)  # type: ignore[attr-defined] # of TLS alone
        else:
            asyncio.get_running_loop().call_soon(self._raise_limit)

    def _raise_limit(self) -> None:
        if not self.paused and not self.transport.is_closing():
            self.transport.set_read_buffer_limits()  # type: ignore[attr-defined] # of TLS alone

    def write_eof(self) -> None:
        """Say no more, and listen on where that is possible."""
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self._shut = True
            self.transport.close()

    def expire(self) -> None:
        """It has been idle for too long."""
        if self.driver is None:
            self._keepalive.remove(self)
            self.close()

    def close(self) -> None:
        """End it; what the kernel has is still sent."""
        idle, self.driver = self.driver is None, None
        if self._tls and idle and not self.transport.is_closing():
            self.transport.close()  # RFC 9112 §9.8: "Clients MUST send a closure alert" first.
        else:
            self.transport.abort()

    def _useless(self) -> None:
        self._keepalive.remove(self)
        self.transport.abort()


class _NoTransport(asyncio.Transport):
    """Stands for the transport until there is one."""

    def is_closing(self) -> bool:
        """Nothing can be sent on it."""
        return True

    def abort(self) -> None:
        """There is nothing to end."""


NO_TRANSPORT: Final = _NoTransport()
