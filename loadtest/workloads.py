"""What is asked of the proxies: a small table of workloads, each with the client that drives it.

Each isolates one cost: the price of a request (small), of a request body (post), of relaying bytes
in one or a few pieces (16k) and in many (1m, 1m-up), of a connection (connect), of a piece of a
response that never ends (events), and of a piece of a tunnel (websocket).
"""

from dataclasses import dataclass

from loadtest import speech, upstream
from loadtest.accounting import KIB_BYTES
from loadtest.events import EventStreams
from loadtest.load import Client, Unit
from loadtest.upstream import FILE_BYTES, LIVE, SMALL_BODY
from loadtest.websocket import Echoes
from loadtest.wrk import PLAIN_FIELDS, Requests

MIB_BYTES = KIB_BYTES * KIB_BYTES

REQUEST = Unit("request", "requests")
CHUNK = Unit("chunk", "chunks", timed="first byte", paced=True)
ROUND_TRIP = Unit("round trip", "round trips")


def _json_of(size_bytes: int) -> bytes:
    """Return a JSON object of exactly `size_bytes` bytes."""
    opening, closing = b'{"note":"', b'"}'
    return opening + b"x" * (size_bytes - len(opening) - len(closing)) + closing


SMALL = Requests(upstream.SMALL_PATH, len(SMALL_BODY))
POST = Requests(
    upstream.SMALL_PATH,
    len(SMALL_BODY),
    fields=(*PLAIN_FIELDS, "Content-Type: application/json"),
    method="POST",
    body=_json_of(KIB_BYTES),
)
SOME = Requests("/16k", FILE_BYTES["/16k"])
MUCH = Requests("/1m", FILE_BYTES["/1m"])
MUCH_UP = Requests(
    speech.SINK,
    len(SMALL_BODY),
    upstream=LIVE,
    fields=(*PLAIN_FIELDS, "Content-Type: application/octet-stream"),
    method="POST",
    body=b"x" * MIB_BYTES,
)
CONNECT = Requests(
    upstream.SMALL_PATH, len(SMALL_BODY), fields=(*PLAIN_FIELDS, "Connection: close")
)


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of load: its name, what it is, what is counted, and who puts it on."""

    name: str
    meaning: str
    client: Client
    unit: Unit = REQUEST


WORKLOADS = (
    Workload("small", "GET, 6 bytes back, keep-alive", SMALL),
    Workload("post", "POST of 1 KiB JSON, 6 bytes back, keep-alive", POST),
    Workload("16k", "GET, 16 KiB back, keep-alive", SOME),
    Workload("1m", "GET, 1 MiB back, keep-alive", MUCH),
    Workload("1m-up", "POST of 1 MiB, read whole before 6 bytes come back, keep-alive", MUCH_UP),
    Workload("connect", "GET, 6 bytes back, a new connection for each request", CONNECT),
    Workload(
        "events",
        f"text/event-stream, {speech.EVENTS_PER_S} events of {speech.EVENT_BYTES} bytes a second"
        " on each, a chunk each",
        EventStreams(connections=1000),
        CHUNK,
    ),
    Workload(
        "websocket",
        "a message of 100 bytes and its echo, again and again",
        Echoes(connections=64),
        ROUND_TRIP,
    ),
)

BY_NAME = {workload.name: workload for workload in WORKLOADS}
