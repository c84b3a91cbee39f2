"""What is asked of the proxies: a small table, and nothing else.

Each workload isolates one cost: the price of a request (small), of a request body (post), of
relaying bytes in one or a few pieces (16k) and in many (1m), and of a connection (connect).
"""

from dataclasses import dataclass, field

KIB_BYTES = 1024
CONNECTIONS = 64  # Enough to keep one core busy, few enough that no accept queue matters.

SMALL_BODY = b"hello\n"
# Host comes from the client by itself: with these, three request fields.
PLAIN_FIELDS = ("User-Agent: wrk", "Accept: */*")


def _json_of(size_bytes: int) -> bytes:
    """Return a JSON object of exactly `size_bytes` bytes."""
    opening, closing = b'{"note":"', b'"}'
    return opening + b"x" * (size_bytes - len(opening) - len(closing)) + closing


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of load: what each request says and what it must get."""

    name: str
    meaning: str
    path: str
    response_bytes: int
    connections: int = CONNECTIONS
    fields: tuple[str, ...] = PLAIN_FIELDS
    method: str = "GET"
    body: bytes = field(default=b"", repr=False)


WORKLOADS = (
    Workload("small", "GET, 6 bytes back, keep-alive", "/small", len(SMALL_BODY)),
    Workload(
        "post",
        "POST of 1 KiB JSON, 6 bytes back, keep-alive",
        "/small",
        len(SMALL_BODY),
        fields=(*PLAIN_FIELDS, "Content-Type: application/json"),
        method="POST",
        body=_json_of(KIB_BYTES),
    ),
    Workload("16k", "GET, 16 KiB back, keep-alive", "/16k", 16 * KIB_BYTES),
    Workload("1m", "GET, 1 MiB back, keep-alive", "/1m", KIB_BYTES * KIB_BYTES),
    Workload(
        "connect",
        "GET, 6 bytes back, a new connection for each request",
        "/small",
        len(SMALL_BODY),
        fields=(*PLAIN_FIELDS, "Connection: close"),
    ),
)

BY_NAME = {workload.name: workload for workload in WORKLOADS}
