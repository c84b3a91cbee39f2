"""What one exchange knows of its chat, from the head of its request to the end of its answer.

It only remembers; what is done about it is the exchange's.
"""

from loomproxy.core.chat import completion
from loomproxy.core.chat.catalogue import Target
from loomproxy.core.chat.completion import Usage
from loomproxy.core.chat.dialect import Dialect
from loomproxy.core.chat.provider import Tongue
from loomproxy.core.chat.request import Asked
from loomproxy.core.chat.request import for_provider as body_for_provider
from loomproxy.core.chat.stream import Stream
from loomproxy.core.outcome import COUNTED, ESTIMATED, UNANSWERED, Spent


class Talk:
    """One chat. `streams`: its path asks for a stream, whatever its body says."""

    __slots__ = (
        "again",
        "answer",
        "body",
        "body_bytes",
        "dialect",
        "held_bytes",
        "lines",
        "ok",
        "refused",
        "retry_after",
        "status",
        "stream",
        "streams",
        "target",
        "usage",
        "wants_stream",
        "wants_usage",
    )

    def __init__(self, dialect: Dialect, *, streams: bool) -> None:
        self.dialect = dialect
        self.streams = streams
        # The request.
        self.body = bytearray()  # what came of it, until it is whole
        self.body_bytes = 0  # of what goes to the provider
        self.held_bytes = 0  # counted for the worker: both bodies, as far as they are kept
        self.target: Target | None = None  # once it is decided
        self.wants_stream = False  # the client does
        self.wants_usage = False
        self.lines = b""  # of the client's head, for the provider
        self.again = False  # the provider was asked again because it said that it may be
        # The answer.
        self.status = 0
        self.ok = False
        self.refused = ""  # the code of what the provider said instead of an answer
        self.retry_after: bytes | None = None
        self.stream: Stream | None = None  # while it comes as one
        self.answer = bytearray()  # what came of it, otherwise
        self.usage: Usage | None = None

    @property
    def asks_stream(self) -> bool:
        """Whether the provider is asked for a stream: one that has none is asked for a whole."""
        target = self.target
        return target is not None and self.wants_stream and target.provider.streaming

    def decide(self, asked: Asked, target: Target) -> bytes:
        """`target` will answer `asked`: the body for it."""
        self.target = target
        self.wants_stream = asked.stream or self.streams
        self.wants_usage = asked.wants_usage
        body = body_for_provider(
            asked,
            target.model,
            stream=self.asks_stream,
            with_usage=target.provider.tongue is Tongue.OPENAI,
        )
        self.body_bytes = len(body)
        return body

    def begin_answer(self, status: int, *, is_stream: bool, retry_after: bytes | None) -> None:
        """An answer begins; what an earlier attempt said is forgotten."""
        target = self.target
        assert target is not None, "an answer before a question"
        self.status = status
        self.ok = 200 <= status < 300  # noqa: PLR2004 - a success (RFC 9110 §15.3)
        self.retry_after = retry_after
        self.answer.clear()
        self.stream = None
        if self.ok and is_stream and self.asks_stream:
            injected = target.provider.tongue is Tongue.OPENAI and not self.wants_usage
            self.stream = Stream(self.dialect, strips_usage=injected)

    def spent(self) -> Spent | None:
        """What it took; None where nobody was asked."""
        target = self.target
        if target is None:
            return None
        usage, source = self.usage, COUNTED
        if self.stream is not None:
            usage = self.stream.usage
        if usage is None:
            usage, source = self._estimate(), ESTIMATED
        if not self.ok:
            usage, source = Usage(0, 0), UNANSWERED
        return Spent(
            target.provider.provider_type,
            target.label,
            usage.prompt_tokens,
            usage.completion_tokens,
            source,
            self.wants_stream,
            self.refused,
        )

    def _estimate(self) -> Usage:
        answered = completion.estimate(len(self.answer))
        chunks = answered if self.stream is None else self.stream.chunks
        return Usage(completion.estimate(self.body_bytes), chunks)
