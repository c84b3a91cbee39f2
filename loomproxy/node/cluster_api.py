"""The pages of the cluster on the admin listener: who is there, who leads, what is published.

    GET  /api/v1/instances                       {"instances": [INSTANCE, …]}
    POST /api/v1/cluster/instances/ID/evict      {"ok": true}
    GET  /api/v1/cluster                         OVERVIEW, which this instance knows without a store
    GET  /api/v1/cluster/leases                  {"leases": [LEASE, …]}
    POST /api/v1/cluster/leases/NAME/step-down   {"ok": true, "owner": INCARNATION}
    GET  /api/v1/cluster/events?limit=N          {"events": [EVENT, …]}, the newest first
    GET  /api/v1/cluster/revisions?limit=N       {"revisions": [REVISION, …]}, the newest first
    GET  /api/v1/cluster/revisions/N             REVISION with its `document`; null: none
    POST /api/v1/cluster/revisions               {"ok": true, "revision": REVISION}; its body is the
         ?author=WHO&note=WHY&expected=N         document, which is checked first
    POST /api/v1/cluster/revisions/N/rollback    the same; 0: every instance runs its own file again
         ?author=WHO&note=WHY&expected=N

Moments are RFC 3339, in UTC, by the store's clock. What was not done is answered
{"problems": [TEXT, …]}: 400 what was asked makes no sense, 404 there is no such thing, or this node
has no `database` at all, 405 another method is meant, 409 somebody published in between, 422 the
document cannot be used, 503 the store is away.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from loomproxy.cluster.store import (
    DOCUMENT_BYTES_MAX,
    LEADER,
    LISTED_MAX,
    ConflictError,
    Lease,
    MemberView,
    RevisionHead,
    SchemaError,
    StoreAwayError,
)
from loomproxy.config.model import Plugins
from loomproxy.config.problem import Problems
from loomproxy.core.message import RequestHead
from loomproxy.node.cluster import Cluster
from loomproxy.node.http import Reply, as_json

INSTANCES: Final = b"/api/v1/instances"
ROOT: Final = b"/api/v1/cluster"

AUTHOR_CHARS_MAX: Final = 200
NOTE_CHARS_MAX: Final = 1000
NUMBER_MAX: Final = 2**53
_LIMIT_DEFAULT: Final = 100
_DIGITS_MAX: Final = 16
_ALONE: Final = (
    "this node is alone; expected a `database` section in its configuration. Add one, and restart "
    "it."
)


class Bad(Exception):
    """What was asked cannot be answered: the reply that says so."""

    def __init__(self, status: int, *problems: str, allow: bytes = b"") -> None:
        super().__init__(*problems)
        self.reply = as_json(status, {"problems": list(problems)})
        if allow:
            self.reply.extra = b"Allow: %b\r\n" % allow


class ClusterApi:
    """Answers all of that, for whoever was found to be an operator.

    `examine` says what the plugins that are here have against a configuration.
    """

    def __init__(
        self,
        cluster: Cluster | None,
        examine: Callable[[Plugins], Awaitable[tuple[str, ...]]],
    ) -> None:
        self._cluster = cluster
        self._examine = examine

    def owns(self, path: bytes) -> bool:
        """Whether a path is one of these pages."""
        return path in (INSTANCES, ROOT) or path.startswith(ROOT + b"/")

    def close(self) -> None:
        """Nobody waits here."""

    async def answer(self, head: RequestHead, body: bytes) -> Reply:
        """Answer one request."""
        if self._cluster is None:
            return Bad(404, _ALONE).reply
        try:
            return await self._answer(self._cluster, head, body)
        except Bad as bad:
            return bad.reply
        except StoreAwayError as away:
            told = f"the store does not answer ({away}). What was asked may have happened: look."
            return Bad(503, told).reply
        except SchemaError as wrong:
            return Bad(503, f"the store cannot be used ({wrong}).").reply
        except ConflictError as conflict:
            told = f"{conflict}: somebody published in between. Look at it, then publish again."
            return Bad(409, told).reply

    async def _answer(self, cluster: Cluster, head: RequestHead, body: bytes) -> Reply:
        if head.path == INSTANCES:
            _expect(head, b"GET")
            return as_json(200, {"instances": await _instances(cluster)})
        names = [
            unquote_to_bytes(name).decode("utf-8", "replace")
            for name in head.path.removeprefix(ROOT).split(b"/")[1:]
        ]
        match names:
            case []:
                _expect(head, b"GET")
                return as_json(200, cluster.overview())
            case ["revisions", *rest]:
                return await self._revisions(cluster, rest, head, body)
            case ["leases" | "events" | "instances", *_]:
                return await _others(cluster, names, head)
            case _:
                raise _unknown_page()

    async def _revisions(
        self, cluster: Cluster, names: list[str], head: RequestHead, body: bytes
    ) -> Reply:
        store = cluster.store
        match names:
            case [] if head.method == b"POST":
                given = _expect(head, b"POST", "author", "note", "expected")
                return await self._publish(cluster, _document(body), given)
            case []:
                given = _expect(head, b"GET", "limit")
                heads = await store.revisions(_limit(given))
                return as_json(200, {"revisions": [_revision(one) for one in heads]})
            case [number]:
                _expect(head, b"GET")
                found = await store.revision(_number("revision", number))
                if found is None:
                    raise Bad(404, _no_revision(number))
                return as_json(200, {**_revision(found.head), "document": found.document})
            case [number, "rollback"]:
                given = _expect(head, b"POST", "author", "note", "expected")
                return await self._rollback(cluster, _number("revision", number), given)
            case _:
                raise _unknown_page()

    async def _publish(self, cluster: Cluster, text: str, given: Mapping[str, str]) -> Reply:
        await self._check(cluster, text)
        author, note, expected = _why(given)
        head = await cluster.store.publish(text, author=author, note=note, expected=expected)
        cluster.hint()
        return as_json(200, {"ok": True, "revision": _revision(head)})

    async def _rollback(self, cluster: Cluster, number: int, given: Mapping[str, str]) -> Reply:
        author, note, expected = _why(given)
        if number:
            found = await cluster.store.revision(number)
            if found is None:
                raise Bad(404, _no_revision(str(number)))
            if found.document is not None:
                await self._check(cluster, found.document)
        head = await cluster.store.rollback(number, author=author, note=note, expected=expected)
        if head is None:
            raise Bad(404, _no_revision(str(number)))
        cluster.hint()
        return as_json(200, {"ok": True, "revision": _revision(head)})

    async def _check(self, cluster: Cluster, text: str) -> None:
        """Refuse what this instance could not run: the others are like it."""
        # In a thread: to read a large document takes longer than a loop should stand still.
        config = await asyncio.to_thread(cluster.effective, text)
        if isinstance(config, Problems):
            raise Bad(422, *(str(problem) for problem in config.items))
        problems = await self._examine(config.plugins)
        if problems:
            raise Bad(422, *problems)


async def _others(cluster: Cluster, names: list[str], head: RequestHead) -> Reply:
    store = cluster.store
    match names:
        case ["leases"]:
            _expect(head, b"GET")
            return as_json(200, {"leases": [_lease(one) for one in await store.leases()]})
        case ["leases", name, "step-down"]:
            _expect(head, b"POST")
            owner = await store.step_down(name)
            if owner is None:
                raise Bad(404, f"nobody holds a lease {name[:64]!a}. See `cluster leases`.")
            cluster.hint()
            return as_json(200, {"ok": True, "owner": owner})
        case ["events"]:
            events = await store.events(_limit(_expect(head, b"GET", "limit")))
            told = [{**msgspec.to_builtins(one), "at": _moment(one.at)} for one in events]
            return as_json(200, {"events": told})
        case ["instances", name, "evict"]:
            _expect(head, b"POST")
            if not await store.evict(name):
                raise Bad(404, f"there is no instance {name[:64]!a}. See `cluster status`.")
            cluster.hint()
            return as_json(200, {"ok": True})
        case _:
            raise _unknown_page()


async def _instances(cluster: Cluster) -> list[dict[str, object]]:
    members = await cluster.store.members(cluster.settings.active_within_s)
    leader = next((one.owner for one in await cluster.store.leases() if one.name == LEADER), "")
    heads = await cluster.store.revisions(1)
    newest = heads[0].number if heads else 0
    return [_instance(view, leader, newest) for view in members]


def _instance(view: MemberView, leader: str, newest: int) -> dict[str, object]:
    status = "evicted" if view.evicted else view.report.status if view.active else "silent"
    return {
        **msgspec.to_builtins(view.member),
        **msgspec.to_builtins(view.report),
        "status": status,
        "active": view.active,
        "leader": view.member.incarnation == leader,
        "lagging": view.report.revision != newest,
        "started_at": _moment(view.started_at),
        "seen_at": _moment(view.seen_at),
        "silent_s": round(view.silent_s, 3),
    }


def _lease(lease: Lease) -> dict[str, object]:
    moments = {name: getattr(lease, name) for name in ("acquired_at", "renewed_at", "expires_at")}
    return {
        **msgspec.to_builtins(lease),
        **{name: _moment(at) for name, at in moments.items()},
        "remaining_s": round(lease.remaining_s, 3),
    }


def _revision(head: RevisionHead) -> dict[str, object]:
    return {**msgspec.to_builtins(head), "published_at": _moment(head.published_at)}


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _document(body: bytes) -> str:
    if not body:
        raise Bad(400, "the request has no body; expected the document: pools, routes and so on.")
    if len(body) > DOCUMENT_BYTES_MAX:
        raise Bad(
            400, f"the document has {len(body)} bytes; expected {DOCUMENT_BYTES_MAX} at most."
        )
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise Bad(400, "the document is not UTF-8 text; expected YAML. Save it as UTF-8.") from None


def _why(given: Mapping[str, str]) -> tuple[str, str, int | None]:
    author, note = given.get("author", ""), given.get("note", "")
    for name, text, most in (("author", author, AUTHOR_CHARS_MAX), ("note", note, NOTE_CHARS_MAX)):
        if len(text) > most or not (text.isprintable() or not text):
            raise Bad(400, f"{name}: expected one line of {most} characters at most.")
    expected = given.get("expected")
    return author, note, None if expected is None else _number("expected", expected)


def _limit(given: Mapping[str, str]) -> int:
    return min(_number("limit", given.get("limit", str(_LIMIT_DEFAULT))), LISTED_MAX)


def _number(name: str, text: str) -> int:
    plain = text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX
    if not plain or int(text) > NUMBER_MAX:
        raise Bad(400, f"{name}: {text[:64]!a} is no number from 0 to {NUMBER_MAX}.")
    return int(text)


def _expect(head: RequestHead, method: bytes, *parameters: str) -> dict[str, str]:
    """The parameters; refuses another method, and parameters that mean nothing here."""
    if head.method != method and (method, head.method) != (b"GET", b"HEAD"):
        allow = b"GET, HEAD" if method == b"GET" else method
        told = f"{head.method.decode()} is not what this page takes; use {allow.decode()}."
        raise Bad(405, told, allow=allow)
    try:
        given = dict(parse_qsl(head.query.decode(), keep_blank_values=True, max_num_fields=8))
    except ValueError:
        raise Bad(400, "the query cannot be read; expected a few pairs of name=value.") from None
    for name in given:
        if name not in parameters:
            expected = f"one of {', '.join(parameters)}" if parameters else "none here"
            raise Bad(400, f"the parameter {name[:64]!a} is unknown; expected {expected}.")
    return given


def _unknown_page() -> Bad:
    return Bad(
        404,
        "there is no such page; expected /leases, /events, /revisions, /revisions/N, and for "
        "commands /revisions/N/rollback, /leases/NAME/step-down or /instances/ID/evict.",
    )


def _no_revision(number: str) -> str:
    return f"there is no revision {number[:32]}; old ones are struck off. See `cluster list`."
