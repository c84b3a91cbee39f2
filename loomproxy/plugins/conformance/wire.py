"""One call to a plugin, bounded in every way, and what became of it. Judges nothing.

Whatever a plugin does, a call ends within its time with an `Answer` or a `Heard`: what was seen,
or why there was nothing to see. Redirects are not followed, proxies of the environment are not
asked, bodies are not unpacked.
"""

import asyncio
import contextlib
import json
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Final

import httpx
import msgspec

from loomproxy.core.endpoint import Address
from loomproxy.plugins.contract import PluginError

BODY_BYTES_MAX: Final = 8 << 20
"""Of one answer, and of one stream: what the proxy takes of an answer, too. Then it is cut."""

EVENTS_MAX: Final = 20_000
"""Of one stream; no answer to our short questions has so many."""

LINE_BYTES_MAX: Final = 1 << 20
"""Of one line of a stream; a chunk has some hundred bytes."""

EXCERPT_BYTES_MAX: Final = 300
"""Of a body that is shown."""

_HEARD_BYTES: Final = 65536
# Of a body that was no stream of events: an error object, to be read.

DONE: Final = "[DONE]"

_NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
# For addresses without TLS, nearly all of them: making a real one costs more than most calls.

Body = bytes | Mapping[str, object] | None


class Answer(msgspec.Struct, frozen=True):
    """What came back of one call."""

    call: str  # as `GET /health`
    status: int = 0  # 0: there was no answer, and `trouble` says why
    fields: dict[str, str] = {}  # names in lower case
    body: bytes = b""
    trouble: str = ""  # what went wrong with the transport
    late: bool = False  # it did not come in time

    @property
    def ok(self) -> bool:
        """Whether it is a success, wholly there."""
        return 200 <= self.status < 300 and not self.trouble  # noqa: PLR2004 - the class of success

    def json(self) -> Any:
        """The body as JSON; None when it is none."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def error(self) -> PluginError | None:
        """The body as an error object; None when it is none."""
        try:
            return msgspec.json.decode(self.body, type=PluginError)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def __str__(self) -> str:
        """As a verdict shows it."""
        if not self.status:
            return f"{self.call}: {self.trouble}"
        excerpt = self.body[:EXCERPT_BYTES_MAX].decode("utf-8", "backslashreplace")
        more = f"… ({len(self.body)} bytes)" if len(self.body) > EXCERPT_BYTES_MAX else ""
        broken = f" ({self.trouble})" if self.trouble else ""
        return f"{self.call}: {self.status}{broken} {excerpt}{more}".rstrip()


class Event(msgspec.Struct, frozen=True):
    """One event of a stream."""

    data: str
    at: float  # monotonic, when the bytes with its end were read
    read: int  # the number of that read: events of one read came together


class Heard(msgspec.Struct):
    """One stream, as far as it was listened to."""

    call: str
    begun_at: float
    answer: Answer | None = None  # its head; with a body where it was no stream
    events: list[Event] = []
    ended: bool = False  # by the plugin, as HTTP ends an answer
    trouble: str = ""
    late: bool = False  # it did not end in time

    def __str__(self) -> str:
        """As a verdict shows it."""
        if self.answer is None:
            return f"{self.call}: {self.trouble}"
        if not self.events:
            return f"{self.answer}{self._trouble}"
        last = self.events[-1].data[:EXCERPT_BYTES_MAX]
        kind = self.answer.fields.get("content-type", "no Content-Type")
        events = f"{len(self.events)} event{'' if len(self.events) == 1 else 's'}"
        return f"{self.call}: {self.answer.status} {kind}, {events}, the last {last}{self._trouble}"

    @property
    def _trouble(self) -> str:
        return f" ({self.trouble})" if self.trouble else ""


class Where(msgspec.Struct, frozen=True):
    """Where a plugin answers, and what it is shown."""

    base_url: str  # with a base path, without a final slash
    socket: str = ""  # a Unix socket's path; "": TCP
    secrets: tuple[tuple[str, str], ...] = ()  # fields of each request


def where(address: Address, base: str = "", secrets: tuple[tuple[str, str], ...] = ()) -> Where:
    """The place that an address and a base path are."""
    if address.path:
        return Where(f"http://localhost{base}", address.path, secrets)
    return Where(f"{address}{base}", "", secrets)


class Wire:
    """Calls to one place, over connections that are kept between calls. Close it with `aclose`."""

    def __init__(self, place: Where, within_s: float) -> None:
        self.within_s = within_s  # of one call, wholly
        self.connections = 0  # made so far
        self._place = place
        secure = place.base_url.startswith("https:")
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(
                uds=place.socket or None,
                trust_env=False,
                verify=ssl.create_default_context() if secure else _NO_TLS,
            ),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(within_s),
        )

    async def ask(
        self,
        method: str,
        path: str,
        body: Body = None,
        *,
        secrets: tuple[tuple[str, str], ...] | None = None,
        fields: Mapping[str, str] | None = None,
        chunked: bool = False,
    ) -> Answer:
        """One call. `secrets` instead of the place's own; `chunked` without Content-Length."""
        call = f"{method} {path}"
        content = encoded(body)
        request = self._client.build_request(
            method,
            self._place.base_url + path,
            content=_pieces(content) if chunked and content is not None else content,
            headers=self._fields(secrets, fields, body),
            extensions={"trace": self._trace},
        )
        status, known, parts = 0, {}, bytearray()
        try:
            async with asyncio.timeout(self.within_s), self._sent(request) as response:
                status, known = response.status_code, _known(response)
                async for part in response.aiter_raw():
                    parts += part
                    if len(parts) > BODY_BYTES_MAX:
                        trouble = f"its body is above {BODY_BYTES_MAX} bytes"
                        return Answer(call, status, known, bytes(parts), trouble)
        except (TimeoutError, httpx.TimeoutException):
            trouble = f"no whole answer within {self.within_s:g} s"
            return Answer(call, status, known, bytes(parts), trouble, late=True)
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            return Answer(call, status, known, bytes(parts), _words(error))
        return Answer(call, status, known, bytes(parts))

    async def listen(self, path: str, body: Body, *, events_max: int = EVENTS_MAX) -> Heard:
        """One stream, to its end or, with `events_max`, until so many events came; then closed."""
        heard = Heard(f"POST {path}", time.monotonic())
        request = self._client.build_request(
            "POST",
            self._place.base_url + path,
            content=encoded(body),
            headers=self._fields(None, {"Accept": "text/event-stream"}, body),
            extensions={"trace": self._trace},
        )
        try:
            async with asyncio.timeout(self.within_s), self._sent(request) as response:
                await _hear(heard, response, events_max)
        except (TimeoutError, httpx.TimeoutException):
            heard.trouble = f"it did not end within {self.within_s:g} s"
            heard.late = True
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            heard.trouble = _words(error)
        return heard

    async def aclose(self) -> None:
        """Close every connection."""
        with contextlib.suppress(httpx.HTTPError, OSError):
            await self._client.aclose()

    @contextlib.asynccontextmanager
    async def _sent(self, request: httpx.Request) -> AsyncIterator[httpx.Response]:
        response = await self._client.send(request, stream=True)
        try:
            yield response
        finally:
            await response.aclose()

    def _fields(
        self,
        secrets: tuple[tuple[str, str], ...] | None,
        fields: Mapping[str, str] | None,
        body: Body,
    ) -> dict[str, str]:
        number = uuid.uuid4().hex
        result = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "loomproxy",
            "X-Request-ID": number,
            "traceparent": f"00-{number}-{number[:16]}-01",
            **dict(self._place.secrets if secrets is None else secrets),
        }
        if body is not None:
            result["Content-Type"] = "application/json"
        return {**result, **(fields or {})}

    async def _trace(self, name: str, _info: object) -> None:
        if name in {"connection.connect_tcp.complete", "connection.connect_unix_socket.complete"}:
            self.connections += 1


async def _hear(heard: Heard, response: httpx.Response, events_max: int) -> None:
    """Listen until the end, or until there is enough."""
    head = Answer(heard.call, response.status_code, _known(response))
    heard.answer = head
    reader = Events()
    size, reads, raw = 0, 0, bytearray()
    async for part in response.aiter_raw():
        size += len(part)
        reads += 1
        at = time.monotonic()
        heard.events += [Event(data, at, reads) for data in reader.feed(part)]
        if not heard.events and len(raw) < _HEARD_BYTES:
            raw += part
            heard.answer = msgspec.structs.replace(head, body=bytes(raw))
        if len(heard.events) >= events_max:
            return
        if reader.pending > LINE_BYTES_MAX:
            heard.trouble = f"one of its lines is above {LINE_BYTES_MAX} bytes"
            return
        if size > BODY_BYTES_MAX or len(heard.events) >= EVENTS_MAX:
            heard.trouble = f"it is above {BODY_BYTES_MAX} bytes or {EVENTS_MAX} events"
            return
    heard.ended = True


class Events:
    """The data of server-sent events from bytes as they come."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []

    @property
    def pending(self) -> int:
        """Bytes of the line that has not ended yet."""
        return len(self._rest)

    def feed(self, part: bytes) -> Iterator[str]:
        """The events that end within `part`."""
        *lines, self._rest = (self._rest + part).split(b"\n")
        for raw in lines:
            line = raw.removesuffix(b"\r").decode("utf-8", "replace")
            if line.startswith("data:"):
                self._data.append(line.removeprefix("data:").removeprefix(" "))
            elif not line and self._data:
                yield "\n".join(self._data)
                self._data = []


def encoded(body: Body) -> bytes | None:
    """A body as it is sent."""
    if body is None or isinstance(body, bytes):
        return body
    return json.dumps(body).encode()


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    """A body in two pieces, so that it is sent chunked."""
    middle = len(content) // 2
    yield content[:middle]
    yield content[middle:]


def _known(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _words(error: Exception) -> str:
    """What went wrong with a connection."""
    text = str(error) or type(error).__name__
    match error:
        case httpx.ConnectError():
            return f"no connection ({text})"
        case httpx.RemoteProtocolError():
            return f"what came is no whole HTTP answer ({text})"
        case httpx.ReadError() | httpx.WriteError():
            return f"the connection broke ({text})"
        case _:
            return text
