"""The one record of a finished exchange: for the access log, the metrics and the operator."""

from dataclasses import dataclass
from typing import Final

from loomproxy.core.message import RequestHead
from loomproxy.core.units import NO_MOMENT, Instant

COUNTED: Final = "provider"
ESTIMATED: Final = "estimated"
UNANSWERED: Final = "none"
"""Who counted the tokens of a chat: its provider; nobody, so they are estimated; or there are none,
for nothing was answered."""


@dataclass(slots=True, frozen=True)
class Spent:
    """What one chat took of its provider, for who counts tokens."""

    provider: str
    model: str  # as the provider calls it; "(other)" for one that it does not list
    prompt_tokens: int
    completion_tokens: int
    usage_from: str  # one of the words above
    stream: bool  # the client asked for one
    provider_error: str = ""  # the code with which the provider refused, or broke off


# Not a Struct: it is written to field by field, which costs a Struct twice as much.
@dataclass(slots=True, eq=False)
class Outcome:
    """What became of one exchange. Moments are 0.0 where the exchange never came there."""

    request_id: bytes
    client_ip: bytes
    head: RequestHead | None  # None: the request was refused before it could be read
    route: str = "-"
    pool: str = "-"
    endpoint: str = "-"  # of the last attempt
    status: int = 0  # as sent to the client; 0: no final head was sent
    fault: str = ""  # the fault's name; "" when all went well
    termination: str = "--"  # who ended it, in which phase
    attempts: int = 0
    reused: bool = False  # the last attempt went over a reused connection
    request_bytes: int = 0  # body bytes from the client
    response_bytes: int = 0  # body bytes to the client
    begun_at: Instant = NO_MOMENT  # the request head was read
    connecting_at: Instant = NO_MOMENT  # a slot was taken, the last attempt began
    opened_at: Instant = NO_MOMENT  # the last attempt's connection was there
    answered_at: Instant = NO_MOMENT  # the final response head arrived
    ended_at: Instant = NO_MOMENT  # everything was over
    listener: str = ""  # where the client came in; only told with a fault
    chat: Spent | None = None  # of a chat that came to a provider
