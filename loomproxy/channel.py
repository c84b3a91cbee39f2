"""What node and workers say to one another, and how it travels: framed msgpack over a socket pair.

Each message is a tagged Struct; `ToWorker` and `ToNode` list them. The two ends are versions of the
same file, so there is no negotiation: a message that cannot be read is a bug, and ends the channel.
The end of the channel is the end of the worker, whichever side it came from.

The conversation: the node says `Start` once; the worker answers `Ready` when every listener
accepts. Then the node pings each second, publishes revisions, asks for statistics, and at last says
`Drain`, which the worker answers with `Drained` when its last exchange is over, and leaves.
Questions carry a number; the answer has the same one.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar, cast

import msgspec

from loomproxy.config.model import Config, Dynamic
from loomproxy.core.chat.provider import Provider
from loomproxy.core.frame import FrameError, Frames, frame
from loomproxy.core.tally import Tally

UNSENT_BYTES_MAX: Final = 32 << 20
"""What may wait for a peer that does not read, 32 MiB.

A peer this far behind hangs: the channel is cut.
"""


class Message(msgspec.Struct, frozen=True, tag=True):
    """Anything that is said over a channel; its name is its tag."""


class ListenerSocket(msgspec.Struct, frozen=True):
    """A bound and listening socket that the worker inherited."""

    name: str  # the listener's, as configured
    fd: int


# The node speaks.


class Start(Message, frozen=True):
    """The first message: who the worker is and what it serves. Answer: `Ready`, or `Refused`."""

    slot: int
    listeners: tuple[ListenerSocket, ...]
    config: Config
    revision: int
    providers: tuple[Provider, ...] = ()


class Publish(Message, frozen=True):
    """A new revision: of the configuration, of the providers, or of both.

    Answer: `Published` once new exchanges use it, or `Refused` and the old one stays.
    """

    dynamic: Dynamic
    revision: int
    providers: tuple[Provider, ...] = ()


class Drain(Message, frozen=True):
    """Stop accepting, say `Connection: close`, finish; end what is left `deadline_s` from now.

    Answer: `Drained`.
    """

    deadline_s: float


class Force(Message, frozen=True):
    """End everything now, and leave."""


class Ping(Message, frozen=True):
    """Are you there? Answer: `Pong` at once."""

    number: int


class StatsPlease(Message, frozen=True):
    """How are your pools? Answer: `Stats`."""

    number: int


class ReopenLogs(Message, frozen=True):
    """The access log was renamed: open it again."""


class ServiceAnswer(Message, frozen=True):
    """The answer to a `ServiceAsk`."""

    ask: int
    status: int
    content_type: bytes
    body: bytes


# The worker speaks.


class Ready(Message, frozen=True):
    """Every listener accepts, with the revision of `Start`."""

    slot: int
    pid: int


class Published(Message, frozen=True):
    """New exchanges are born into this revision."""

    revision: int


class Refused(Message, frozen=True):
    """This revision cannot be used, and why; what was current stays so."""

    revision: int
    reason: str


class Pong(Message, frozen=True):
    """I am here, and this is what I have done since I was started."""

    number: int
    loop_lag_s: float  # the worst delay of the event loop since the last pong
    tally: Tally
    connections: int  # downstream, now
    in_flight: int  # exchanges, now
    tasks: int = 0  # of the event loop, now


class EndpointStatus(msgspec.Struct, frozen=True):
    """One endpoint as one worker sees it."""

    address: str
    weight: int
    enabled: bool
    healthy: bool
    ejected_for_s: float  # 0: not ejected
    in_flight: int
    keepalive: int  # idle connections held


class PoolStatus(msgspec.Struct, frozen=True):
    """One pool as one worker sees it."""

    name: str
    waiting: int  # exchanges in its queue
    endpoints: tuple[EndpointStatus, ...]


class Stats(Message, frozen=True):
    """The answer to `StatsPlease`."""

    number: int
    revision: int
    pools: tuple[PoolStatus, ...]
    tally: Tally | None = None  # fresher than the last pong's, for who asks right after a request


class ServiceAsk(Message, frozen=True):
    """A client asked for a page of the house (health, metrics) on a public listener."""

    ask: int
    path: bytes


class Drained(Message, frozen=True):
    """The last exchange is over; the worker leaves."""


class AccessLogTrouble(Message, frozen=True):
    """The access log cannot be written; said once per trouble, not once per line."""

    reason: str
    lines_lost: int


ToWorker = Start | Publish | Drain | Force | Ping | StatsPlease | ReopenLogs | ServiceAnswer
ToNode = Ready | Published | Refused | Pong | Stats | ServiceAsk | Drained | AccessLogTrouble

Heard = TypeVar("Heard", bound=Message)
_PEER: Final = struct.Struct("3i")  # pid, uid, gid: struct ucred of socket(7)


class Channel(asyncio.Protocol, Generic[Heard]):
    """One end of a channel.

    `hear` is called with each message, in order. `ended` is called exactly once, last, with why: ""
    when the peer closed in order. Neither may raise.
    """

    def __init__(
        self,
        decoder: "msgspec.msgpack.Decoder[Heard]",
        hear: Callable[[Heard], None],
        ended: Callable[[str], None],
    ) -> None:
        self._decoder = decoder
        self._hear = hear
        self._ended = ended
        self._frames = Frames()
        self._transport: asyncio.WriteTransport | None = None
        self._trouble = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is ours."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Hear every message that is whole now."""
        try:
            messages = [self._decoder.decode(payload) for payload in self._frames.receive(data)]
        except (FrameError, msgspec.MsgspecError) as error:
            self._cut(f"the peer cannot be understood: {error}")
            return
        for message in messages:
            self._hear(message)

    def connection_lost(self, error: Exception | None) -> None:
        """Say that it is over."""
        self._transport = None
        if not self._trouble and error is not None:
            self._trouble = str(error)
        if not self._trouble and not self._frames.clean:
            self._trouble = "the peer left in the middle of a message"
        self._ended(self._trouble)

    def send(self, message: Message) -> None:
        """Say `message`; after the end, nothing happens: `ended` has told or will tell."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            self._cut("the peer does not read")
            return
        transport.write(frame(msgspec.msgpack.encode(message)))

    def close(self) -> None:
        """End the channel once what was said has left."""
        if self._transport is not None:
            self._transport.close()

    def _cut(self, why: str) -> None:
        self._trouble = why
        if self._transport is not None:
            self._transport.abort()


TO_NODE: Final = msgspec.msgpack.Decoder(cast("type[ToNode]", ToNode))
TO_WORKER: Final = msgspec.msgpack.Decoder(cast("type[ToWorker]", ToWorker))


async def node_end(
    sock: socket.socket, hear: Callable[[ToNode], None], ended: Callable[[str], None]
) -> Channel[Any]:
    """The node's end over `sock`, which must be non-blocking."""
    return await _opened(Channel(TO_NODE, hear, ended), sock)


async def worker_end(
    sock: socket.socket, hear: Callable[[ToWorker], None], ended: Callable[[str], None]
) -> Channel[Any]:
    """The worker's end over `sock`, which must be non-blocking."""
    return await _opened(Channel(TO_WORKER, hear, ended), sock)


async def _opened(channel: Channel[Any], sock: socket.socket) -> Channel[Any]:
    loop = asyncio.get_running_loop()
    await loop.create_unix_connection(lambda: channel, sock=sock)
    return channel


def peer_pid(sock: socket.socket) -> int:
    """The process that made the socket pair.

    To a worker, the node that started it (SO_PEERCRED, unix(7)).
    """
    ucred = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    return int(_PEER.unpack(ucred)[0])
