"""A provider's answer on its way down: whole, as a stream, or an error.

    2xx ─┬─ a stream, as asked ─► each event goes on when it is whole ─► [DONE], and the last chunk
         └─ anything else ─► kept until it is whole ─► a JSON object goes on as it came
    else ─► kept until it is whole ─► an error in the client's dialect, or one more attempt

The head of a stream goes down with its first event, so a provider that fails before it has said
anything is answered as one that was asked for no stream. A stream that breaks after that ends with
an event that says why, and without the last chunk of its framing: nobody takes it for complete.
"""

from typing import Final

from loomproxy.core import answer
from loomproxy.core import fault as faults
from loomproxy.core.chat import complaint as complaints
from loomproxy.core.chat import completion
from loomproxy.core.chat.complaint import Complaint
from loomproxy.core.chat.completion import Completion
from loomproxy.core.chat.stream import Stream
from loomproxy.core.chat.talk import Talk
from loomproxy.core.endpoint import Endpoint
from loomproxy.core.event import DeadlineExpired, DownstreamFull, DownstreamTaken, UpstreamGone
from loomproxy.core.exchange import answering
from loomproxy.core.exchange.attempt import attempt
from loomproxy.core.exchange.chat_asking import holds
from loomproxy.core.exchange.state import DATA, HEAD, LAST, State
from loomproxy.core.fault import Fault
from loomproxy.core.http1.framing import LAST_CHUNK, chunk
from loomproxy.core.message import (
    CHUNKED,
    CLOSE,
    NONE,
    OK,
    SWITCHING_PROTOCOLS,
    Response,
    ResponseHead,
    ResponsePart,
    field,
)
from loomproxy.core.units import Instant

ANSWER_BYTES_MAX: Final = 16 << 20
"""Of an answer that is kept until it is whole. The longest completions have some hundred KiB."""

ERROR_BYTES_MAX: Final = 64 << 10
"""Of an error, which is a sentence; what is larger is none that can be read."""

AFTER_DONE_S: Final = 1.0
"""How long a provider may take to end what it has said to be done; its connection is given up then.
Its client has had the end already."""

STREAM_HEAD: Final = ResponseHead(
    status=OK,
    reason=b"OK",
    minor_version=1,
    framing=CHUNKED,
    body_bytes=0,
    keep_alive=True,
    upgrade=b"",
    nominated=(),
    block=b"Content-Type: %b\r\n%b" % (answer.EVENT_STREAM, answer.UNBUFFERED),
)
"""The head of every stream. A provider's own fields say nothing that a client could need."""


def on_response(x: State, response: Response, now: Instant) -> None:
    """The provider's whole answer."""
    _begin(x, response.head, now)
    _take(x, response.data, ended=True, now=now)


def on_response_head(x: State, head: ResponseHead, now: Instant) -> None:
    """The provider speaks."""
    if head.status >= OK:
        _begin(x, head, now)
        if head.framing is NONE:
            _take(x, b"", ended=True, now=now)
        else:
            x.enter(DATA, now + x.patience_s(DATA))
        return
    x.interims += (
        1  # What it says before its answer is of no use to a client that was told to go on.
    )
    if head.status == SWITCHING_PROTOCOLS or x.interims > answering.INTERIM_RESPONSES_MAX:
        x.refuse(faults.UPSTREAM_MALFORMED, now)


def on_response_part(x: State, part: ResponsePart, now: Instant) -> None:
    """Some of the answer."""
    chat = x.chat
    assert chat is not None
    if chat.stream is None or not chat.stream.done:
        x.deadline_at = now + x.patience_s(DATA)
    _take(x, part.data, ended=part.ended, now=now)


def _begin(x: State, head: ResponseHead, now: Instant) -> None:
    chat = x.chat
    assert chat is not None
    x.outcome.answered_at = now
    x.upstream_keeps = head.keep_alive
    kind = (field(head.block, b"content-type") or b"").lower()
    # Nobody was asked to compress. What is nevertheless is kept whole, and found to be no answer.
    plain = (field(head.block, b"content-encoding") or b"identity").lower() == b"identity"
    chat.begin_answer(
        head.status,
        is_stream=plain and kind.startswith(answer.EVENT_STREAM),
        retry_after=field(head.block, b"retry-after"),
    )


def _take(x: State, data: bytes, *, ended: bool, now: Instant) -> None:
    chat = x.chat
    assert chat is not None
    if chat.stream is None:
        _keep(x, chat, data, ended=ended, now=now)
    else:
        _pass(x, chat.stream, data, ended=ended, now=now)


# --- an answer that is kept until it is whole -----------------------------------------------------


def _keep(x: State, chat: Talk, data: bytes, *, ended: bool, now: Instant) -> None:
    chat.answer += data
    size = len(chat.answer)
    if not holds(x, chat, len(data)):
        x.refuse(faults.BODY_UNAFFORDABLE, now)
    elif not chat.ok and (ended or size > ERROR_BYTES_MAX):
        x.upstream_keeps = x.upstream_keeps and ended
        _error(x, chat, now)
    elif size > ANSWER_BYTES_MAX:
        x.refuse(faults.UPSTREAM_MALFORMED, now)
    elif ended:
        _whole(x, chat, now)


def _whole(x: State, chat: Talk, now: Instant) -> None:
    body = bytes(chat.answer)
    whole = completion.read(body)
    if whole is not None and whole.is_error:
        _break_off(x, complaints.read_event(bytes(whole.error)), now)
        return
    given = None if whole is None else _as_asked(chat, whole, body)
    if whole is None or given is None:
        x.refuse(faults.UPSTREAM_MALFORMED, now)
        return
    chat.usage = completion.usage_of(whole.usage)
    _has_answered(x, now)
    x.reply(given, now)


def _as_asked(chat: Talk, whole: Completion, body: bytes) -> answer.Answer | None:
    """A whole answer as the client wants it; None where it cannot be had so."""
    if not chat.wants_stream:
        return answer.Answer(OK, answer.JSON, body)
    said = completion.as_chunk(whole)
    if said is None:
        return None
    dialect = chat.dialect
    chunk_of_all = dialect.event(b"data: %b\n\n" % said, said)
    events = dialect.opening() + chunk_of_all + dialect.ending(b"data: [DONE]\n\n")
    return answer.Answer(OK, answer.EVENT_STREAM, events, answer.UNBUFFERED)


def _error(x: State, chat: Talk, now: Instant) -> None:
    """The provider says that it cannot: the client is told, or it is asked once more."""
    target = chat.target
    assert target is not None
    said = complaints.read(
        chat.status, bytes(chat.answer), target.provider.tongue, chat.retry_after
    )
    endpoint, again = x.endpoint, _may_ask_again(x, chat, said, now)
    _has_answered(x, now)
    if again:
        _ask_again(x, chat, endpoint, now)
    else:
        chat.refused = said.code
        x.reply(answer.complaint(said, chat.dialect, x.outcome.request_id), now)


def _may_ask_again(x: State, chat: Talk, said: Complaint, now: Instant) -> bool:
    """Whether to ask once more what a provider could not answer just now; true has paid for it."""
    assert x.route is not None
    assert x.pool is not None
    left = x.outcome.attempts < x.route.retry.attempts_max
    return said.transient and not chat.again and left and x.pool.budget.may_retry(now)


def _ask_again(x: State, chat: Talk, endpoint: Endpoint | None, now: Instant) -> None:
    """Go elsewhere than to `endpoint`, which was given back; no byte has gone to the client."""
    assert x.replay is not None
    assert endpoint is not None, "an answer from nobody"
    chat.again = True
    x.tried = (*x.tried, endpoint)
    x.replay.rewind()
    attempt(x, now)


def _has_answered(x: State, now: Instant) -> None:
    """The provider has said all, and was well enough to: give it back."""
    assert x.endpoint is not None, "an answer from nobody"
    x.endpoint.observe(None, now)
    x.let_go(reusable=x.upstream_keeps and not x.up_full)


# --- a stream -------------------------------------------------------------------------------------


def _pass(x: State, stream: Stream, data: bytes, *, ended: bool, now: Instant) -> None:
    was_done = stream.done
    out = stream.take(data, ended=ended)
    if out:
        _send(x, out, now)
    if stream.complaint is not None:
        _break_off(x, stream.complaint, now)
    elif not stream.done:
        return
    elif ended:
        _complete(x, now)
    elif not (was_done or x.up_paused):
        x.deadline_at = now + AFTER_DONE_S


def on_downstream_taken(x: State, event: DownstreamTaken, now: Instant) -> None:
    """The client has taken everything so far: read on; of a stream that is done, not for long."""
    answering.on_downstream_taken(x, event, now)
    if x.chat is not None and x.chat.stream is not None and x.chat.stream.done:
        x.deadline_at = now + AFTER_DONE_S


def _send(x: State, data: bytes, now: Instant) -> None:
    outcome = x.outcome
    begins = not outcome.status
    if begins:
        outcome.status = OK
        x.down_framing = CHUNKED if x.request.minor_version >= 1 else CLOSE
        x.keep = x.keep and x.down_framing is CHUNKED and not x.world.draining
        x.hands.head_down(OK, x.head_for_client(STREAM_HEAD, x.down_framing, keep=x.keep))
        x.forget_request()
    outcome.response_bytes += len(data)
    x.hands.send_down(chunk(data) if x.down_framing is CHUNKED else data)
    if begins and x.request.expect_continue and not x.hands.all_taken():
        # It may not have taken even that it may go on; that it was full then, nobody tells again.
        answering.on_downstream_full(x, DownstreamFull(), now)


def _complete(x: State, now: Instant) -> None:
    if x.down_framing is CHUNKED:
        x.hands.send_down(LAST_CHUNK)
    answering.over(x, now)


def _break_off(x: State, said: Complaint, now: Instant) -> None:
    """No more will come of an answer that is not complete: say why, where that is possible."""
    chat = x.chat
    assert chat is not None
    begun, endpoint = bool(x.outcome.status), x.endpoint
    if not begun:
        chat.ok = False
        if _may_ask_again(x, chat, said, now):
            x.let_go()
            _ask_again(x, chat, endpoint, now)
            return
    chat.refused = "" if said.fault is not None else said.code
    x.blame(said.fault or faults.PROVIDER_ERROR, now)
    x.let_go()
    if not begun:
        x.reply(answer.complaint(said, chat.dialect, x.outcome.request_id), now)
        return
    x.keep = False
    _send(x, chat.dialect.failure(said, x.outcome.request_id), now)
    if x.hands.all_taken():
        x.leave(now)
    else:
        x.enter(LAST, now + x.timeouts.send_s)


# --- what goes wrong ------------------------------------------------------------------------------


def on_gone(x: State, _event: UpstreamGone, now: Instant) -> None:
    """The provider left in the middle of its answer; or behind its end, which is no matter."""
    _ended_by(x, faults.STREAM_TRUNCATED, now)


def on_stalled(x: State, _event: DeadlineExpired, now: Instant) -> None:
    """Nothing moves: the client's fault if it does not read, else the provider's."""
    if x.up_paused:
        x.cut(faults.CLIENT_TAKE_TIMEOUT, now)
    elif x.phase is HEAD or not x.outcome.status:
        x.refuse(faults.UPSTREAM_TIMEOUT, now)
    else:
        _ended_by(x, faults.UPSTREAM_STALLED, now)


def _ended_by(x: State, fault: Fault, now: Instant) -> None:
    stream = None if x.chat is None else x.chat.stream
    if stream is not None and stream.done:
        x.upstream_keeps = False
        _complete(x, now)
    else:
        _break_off(x, complaints.of_fault(fault), now)
