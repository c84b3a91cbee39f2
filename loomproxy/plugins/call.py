"""What the node asks of a plugin over HTTP: the control calls, one at a time, each bounded.

Metadata, initialise, health, models and cleanup; never a chat completion, which is the workers'. An
answer comes back as a struct of the contract, and everything else as one exception, `CallError`,
whose `PluginError` is kept as the plugin said it, code and transient flag included. What went wrong
before there was an answer is said in the same terms, so that nobody needs to know httpx but us.

A plugin is not trusted: every phase has a timeout, every body a bound, redirects are not followed,
a body that is no JSON or no such struct is an error like others, and nothing of the environment (a
proxy's address, say) is obeyed.

httpx is imported when the first Caller is made, not before: it costs a tenth of a second, and
workers and most commands never need it. Who must not stand still for that calls `prepare` in a
thread first.
"""

import asyncio
import contextlib
import functools
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from secrets import token_hex
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

import loomproxy
from loomproxy.config.problem import Problems
from loomproxy.core.endpoint import Address
from loomproxy.plugins import wire
from loomproxy.plugins.contract import ErrorCode, HealthStatus, Metadata, ModelInfo, PluginError

if TYPE_CHECKING:
    import httpx

CONNECTIONS_MAX: Final = 4
"""At once to one plugin: a probe, an operator's question, and a cleanup do not wait in a row."""

ANSWER_BYTES_MAX: Final = 4 << 20
"""Of one body, whatever it is; a long list of models is the longest. `wire` has bounds of each."""

_IDLE_CONNECTION_S: Final = 4.0
# Below node.js's 5 s, after which it closes an idle connection while we may be writing.

_REDIRECTS: Final = range(300, 400)
_SUCCESSES: Final = range(200, 300)

_AnswerT = TypeVar("_AnswerT")


class CallError(Exception):
    """A call that did not succeed: what the plugin said of it, or what we have to say.

    As text it says which call, where to, and what happened. `status` is the answer's; 0 when there
    was none.
    """

    def __init__(self, call: str, error: PluginError, status: int = 0) -> None:
        super().__init__(f"{call}: {error.code}: {error.message}")
        self.call = call
        self.error = error
        self.status = status


class CallTimeouts(msgspec.Struct, frozen=True):
    """How long each phase of a call may take."""

    connect_s: float = 2.0  # on loopback it takes less than a millisecond, or never happens
    first_byte_s: float = 10.0  # from the call, its connection included, to the answer's head
    idle_s: float = 10.0  # between two pieces of the body
    total_s: float = 30.0  # for all of it: a body that drips does not end otherwise


class Caller:
    """Calls one plugin, or one replica of it, over connections that it keeps. Close it at the end.

    `base` is put before each path. `token` becomes `Authorization: Bearer`; without one there is no
    such field. `fields` go with each call as they are: what an `endpoint` of somebody else is
    shown. `trust` is for an `https` address; absent: the machine's authorities.
    """

    def __init__(
        self,
        address: Address,
        token: str,
        *,
        base: str = "",
        secrets: tuple[tuple[bytes, bytes], ...] = (),
        timeouts: CallTimeouts = CallTimeouts(),  # noqa: B008 # it is frozen, so one for all does no harm
        trust: ssl.SSLContext | None = None,
    ) -> None:
        import httpx  # noqa: PLC0415 # see above: a tenth of a second

        where = str(address)
        self._httpx = httpx
        self._where = where
        self._url = ("http://localhost" if address.path else where) + base.rstrip("/")
        self._timeouts = timeouts
        if trust is None:
            secure = where.startswith("https:")
            # The bare one has no authorities, and is never used; making a real one takes 20 ms.
            trust = ssl.create_default_context() if secure else ssl.SSLContext(_CLIENT)
        self._transport = httpx.AsyncHTTPTransport(
            verify=trust,
            trust_env=False,
            limits=httpx.Limits(
                max_connections=CONNECTIONS_MAX, keepalive_expiry=_IDLE_CONNECTION_S
            ),
            uds=address.path or None,
            retries=0,
        )
        self._fields: list[tuple[bytes, bytes]] = [
            (b"Accept", b"application/json"),
            (b"Accept-Encoding", b"identity"),
            (b"User-Agent", f"loomproxy/{loomproxy.__version__}".encode()),
            *([(b"Authorization", f"Bearer {token}".encode())] if token else ()),
            *secrets,
        ]

    async def metadata(self) -> Metadata:
        """GET /metadata."""
        return await self._ask("GET", "/metadata", wire.metadata_of)

    async def initialize(self, config: Mapping[str, object]) -> None:
        """POST /initialize with the whole configuration, secrets included."""
        await self._call("POST", "/initialize", msgspec.json.encode(config))

    async def health(self) -> HealthStatus:
        """GET /health. A plugin that is not healthy says so in its answer; that is no CallError."""
        return await self._ask("GET", "/health", wire.health_of)

    async def models(self) -> tuple[ModelInfo, ...]:
        """GET /models."""
        return await self._ask("GET", "/models", wire.models_of)

    async def openai_models(self, path: str) -> tuple[ModelInfo, ...]:
        """GET the list of models of an upstream that speaks the OpenAI dialect itself."""
        return await self._ask("GET", path, wire.openai_models_of)

    async def cleanup(self) -> None:
        """POST /cleanup."""
        await self._call("POST", "/cleanup", b"{}")

    async def aclose(self) -> None:
        """Close the connections; calls that still wait fail."""
        await self._transport.aclose()

    async def _ask(
        self, method: str, path: str, read: Callable[[bytes], _AnswerT | Problems]
    ) -> _AnswerT:
        """Call, and understand the answer."""
        status, data = await self._call(method, path)
        answer = read(data)
        if isinstance(answer, Problems):
            said = " ".join(str(problem) for problem in answer.items)
            raise self._failed(method, path, "internal_error", said, status=status)
        return answer

    async def _call(self, method: str, path: str, content: bytes = b"") -> tuple[int, bytes]:
        """One call; the status and body of a success. CallError otherwise."""
        httpx = self._httpx
        fail = functools.partial(self._failed, method, path)
        try:
            async with _within(self._timeouts.total_s, "the answer was not complete"):
                status, location, data = await self._exchange(method, path, content)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise fail("timeout", str(error) or self._no_connection) from error
        except _TooLargeError as error:
            raise fail("internal_error", str(error)) from error
        except (httpx.TransportError, OSError) as error:
            claim = _CLAIMS.get(type(error).__name__, "the connection broke")
            raise fail("provider_unavailable", f"{claim} ({error})") from error
        if status in _SUCCESSES:
            return status, data
        if status in _REDIRECTS:
            said = f"it answered {status} and sends us to {location!r}; redirects are not followed"
            raise fail("internal_error", said, status=status)
        raise CallError(self._name(method, path), wire.error_of(status, data), status)

    async def _exchange(self, method: str, path: str, content: bytes) -> tuple[int, str, bytes]:
        """One request and its answer: status, Location, body."""
        timeouts = self._timeouts
        request = self._request(method, path, content)
        async with _within(timeouts.first_byte_s, "no answer"):
            response = await self._transport.handle_async_request(request)
        try:
            data = bytearray()
            pieces = response.aiter_raw()
            piece = b"begin"
            while piece:
                async with _within(timeouts.idle_s, "the body went on no further"):
                    piece = await anext(pieces, b"")
                data += piece
                if len(data) > ANSWER_BYTES_MAX:
                    raise _TooLargeError(f"a body of more than {ANSWER_BYTES_MAX} bytes")
        finally:
            await response.aclose()
        return response.status_code, response.headers.get("location", ""), bytes(data)

    def _request(self, method: str, path: str, content: bytes) -> "httpx.Request":
        """A request with an identity of its own, for the plugin's log and its own calls."""
        trace = token_hex(16)
        fields = [
            *self._fields,
            (b"X-Request-ID", trace.encode()),
            (b"traceparent", f"00-{trace}-{token_hex(8)}-01".encode()),
        ]
        if content:
            fields.append((b"Content-Type", b"application/json"))
        return self._httpx.Request(
            method,
            self._url + path,
            headers=fields,
            content=content or None,
            extensions={"timeout": {"connect": self._timeouts.connect_s}},
        )

    def _name(self, method: str, path: str) -> str:
        return f"{method} {path} at {self._where}"

    @property
    def _no_connection(self) -> str:
        return f"no connection within {self._timeouts.connect_s:g} s"

    def _failed(
        self, method: str, path: str, code: ErrorCode, said: str, *, status: int = 0
    ) -> CallError:
        """What we have to say of a call; without an answer another try may have one."""
        error = PluginError(code=code, message=said, transient=code in _PASSING)
        return CallError(self._name(method, path), error, status)


@functools.cache
def prepare() -> None:
    """Import all that a Caller needs, in a thread: a third of a second the first time.

    httpx imports half of it with the first call, so the first one is made here, to nobody.
    """

    async def call() -> None:
        async with contextlib.aclosing(Caller(Address(path="/dev/null"), "")) as caller:
            with contextlib.suppress(CallError):
                await caller.cleanup()

    asyncio.run(call())


_PASSING: Final = frozenset(("timeout", "provider_unavailable"))

_CLIENT: Final = ssl.PROTOCOL_TLS_CLIENT

_CLAIMS: Final = {
    "ConnectError": "nobody takes the connection",
    "RemoteProtocolError": "what came is no HTTP answer, or not all of one",
    "LocalProtocolError": "the call cannot be written as HTTP",
    "UnsupportedProtocol": "the call cannot be written as HTTP",
}
"""What an exception of httpx says in plain words."""


class _TooLargeError(Exception):
    """A body beyond its bound."""


@contextlib.asynccontextmanager
async def _within(seconds: float, otherwise: str) -> AsyncIterator[None]:
    """A phase; TimeoutError that says what did not happen."""
    timeout = asyncio.timeout(seconds)
    try:
        async with timeout:
            yield
    except TimeoutError as error:
        if timeout.expired():
            raise TimeoutError(f"{otherwise} within {seconds:g} s") from error
        raise
