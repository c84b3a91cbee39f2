"""What can go wrong, as values: one table for the client's answer, the log and the retry rule.

A fault has a *side* (who is to blame, the first log letter), may be a *timeout* (the letter in
lower case), a *status* for the client (0 where no answer can be given), a *retry class*, and one
plain sentence that may be shown to anybody: it never holds an address, a path or an error text of
ours.

Letters follow HAProxy's termination state (configuration.txt §8.5): C client, U upstream, L our own
policy, R a resource ran out, I internal.

The retry theory, whole: not sent → may go elsewhere; sent on a reused connection that closed before
any byte of the answer → an idempotent request may go again; anything after the first byte of the
answer → never.
"""

import enum
from typing import Final

import msgspec


class Side(enum.Enum):
    """Who ended an exchange that did not end well."""

    CLIENT = "C"
    UPSTREAM = "U"
    POLICY = "L"
    RESOURCE = "R"
    INTERNAL = "I"


class Again(enum.Enum):
    """Whether an attempt that met a fault may be repeated."""

    ELSEWHERE = "elsewhere"  # nothing was sent: any endpoint may be tried
    IF_REUSED = "if reused"  # only an idempotent request, only if the connection was a reused one
    NEVER = "never"


class Fault(msgspec.Struct, frozen=True, gc=False):
    """One thing that can go wrong."""

    name: str  # as in logs and metrics
    side: Side
    status: int  # what the client is told; 0: nothing can be said any more
    text: str  # what a person is told
    timeout: bool = False
    again: Again = Again.NEVER

    @property
    def letter(self) -> str:
        """The first of the two termination letters."""
        return self.side.value.lower() if self.timeout else self.side.value


def _fault(
    name: str,
    side: Side,
    status: int,
    text: str,
    *,
    timeout: bool = False,
    again: Again = Again.NEVER,
) -> Fault:
    fault = Fault(name, side, status, text, timeout, again)
    FAULTS[name] = fault
    return fault


FAULTS: Final[dict[str, Fault]] = {}
"""Every fault there is, by name."""

# The client.
CLIENT_LEFT = _fault("client_left", Side.CLIENT, 0, "The client closed the connection.")
CLIENT_HEAD_TIMEOUT = _fault(
    "client_head_timeout",
    Side.CLIENT,
    408,
    "The request head did not arrive in time.",
    timeout=True,
)
CLIENT_BODY_TIMEOUT = _fault(
    "client_body_timeout", Side.CLIENT, 408, "The request body stopped arriving.", timeout=True
)
CLIENT_BODY_SLOW = _fault(
    "client_body_slow", Side.CLIENT, 408, "The request body arrived too slowly.", timeout=True
)
CLIENT_TAKE_TIMEOUT = _fault(
    "client_take_timeout", Side.CLIENT, 0, "The client stopped reading.", timeout=True
)
CLIENT_TAKE_SLOW = _fault(
    "client_take_slow", Side.CLIENT, 0, "The client read too slowly.", timeout=True
)

# What we refuse.
REQUEST_MALFORMED = _fault("request_malformed", Side.POLICY, 400, "The request is malformed.")
TARGET_TOO_LONG = _fault("target_too_long", Side.POLICY, 414, "The request target is too long.")
HEAD_TOO_LARGE = _fault("head_too_large", Side.POLICY, 431, "The request head is too large.")
BODY_TOO_LARGE = _fault("body_too_large", Side.POLICY, 413, "The request body is too large.")
METHOD_UNSUPPORTED = _fault("method_unsupported", Side.POLICY, 501, "The method is not supported.")
CODING_UNSUPPORTED = _fault(
    "coding_unsupported", Side.POLICY, 501, "The transfer coding is not supported."
)
VERSION_UNSUPPORTED = _fault(
    "version_unsupported", Side.POLICY, 505, "The HTTP version is not supported."
)
EXPECTATION_UNSUPPORTED = _fault(
    "expectation_unsupported", Side.POLICY, 417, "The expectation cannot be met."
)
NO_ROUTE = _fault("no_route", Side.POLICY, 404, "No route matches this request.")
METHOD_NOT_ALLOWED = _fault(
    "method_not_allowed", Side.POLICY, 405, "The method is not allowed here; use GET or HEAD."
)
CHAT_INVALID = _fault("chat_invalid", Side.POLICY, 400, "The request is not that of a chat.")
CODING_OF_CHAT = _fault(
    "coding_of_chat", Side.POLICY, 415, "The request body must not be compressed."
)
MODEL_NOT_FOUND = _fault("model_not_found", Side.POLICY, 404, "No provider serves this model.")
DRAIN_DEADLINE = _fault(
    "drain_deadline", Side.POLICY, 503, "The proxy is shutting down.", timeout=True
)

# What ran out.
POOL_UNAVAILABLE = _fault("pool_unavailable", Side.RESOURCE, 503, "No upstream is available.")
QUEUE_FULL = _fault("queue_full", Side.RESOURCE, 503, "The upstream queue is full.")
QUEUE_TIMEOUT = _fault(
    "queue_timeout", Side.RESOURCE, 503, "No upstream became free in time.", timeout=True
)

CONNECTION_UNAFFORDABLE = _fault(
    "connection_unaffordable", Side.RESOURCE, 503, "The proxy has no more connections to spare."
)
BODY_UNAFFORDABLE = _fault(
    "body_unaffordable", Side.RESOURCE, 503, "The proxy has no more memory to spare for chats."
)

# The upstream.
CONNECT_FAILED = _fault(
    "connect_failed",
    Side.UPSTREAM,
    502,
    "The upstream could not be reached.",
    again=Again.ELSEWHERE,
)
CONNECT_TIMEOUT = _fault(
    "connect_timeout",
    Side.UPSTREAM,
    504,
    "The upstream could not be reached in time.",
    timeout=True,
    again=Again.ELSEWHERE,
)
TLS_FAILED = _fault(
    "tls_failed",
    Side.UPSTREAM,
    502,
    "The upstream could not be reached securely.",
    again=Again.ELSEWHERE,
)
UPSTREAM_CLOSED = _fault(
    "upstream_closed",
    Side.UPSTREAM,
    502,
    "The upstream closed the connection before it answered.",
    again=Again.IF_REUSED,
)
UPSTREAM_MALFORMED = _fault(
    "upstream_malformed", Side.UPSTREAM, 502, "The upstream sent an invalid response."
)
UPSTREAM_TIMEOUT = _fault(
    "upstream_timeout", Side.UPSTREAM, 504, "The upstream did not answer in time.", timeout=True
)
UPSTREAM_CUT = _fault("upstream_cut", Side.UPSTREAM, 0, "The upstream's response ended too early.")
UPSTREAM_STALLED = _fault(
    "upstream_stalled", Side.UPSTREAM, 0, "The upstream's response stopped arriving.", timeout=True
)
TUNNEL_IDLE = _fault(
    "tunnel_idle", Side.POLICY, 0, "The tunnel carried nothing for too long.", timeout=True
)
STREAM_TRUNCATED = _fault(
    "stream_truncated",
    Side.UPSTREAM,
    502,
    "The provider's answer ended before it was complete.",
)
PROVIDER_ERROR = _fault("provider_error", Side.UPSTREAM, 502, "The provider reported an error.")

# Ourselves.
INTERNAL_ERROR = _fault("internal_error", Side.INTERNAL, 500, "Something went wrong in the proxy.")
SERVICE_TIMEOUT = _fault(
    "service_timeout", Side.INTERNAL, 503, "The proxy could not answer in time.", timeout=True
)
