"""Clauses of the transport: what else a server must bear, and what every error looks like."""

import asyncio
from typing import Final

from loomproxy.plugins.conformance.chatting import NO_MODEL, NOT_FOUND
from loomproxy.plugins.conformance.scene import Scene
from loomproxy.plugins.conformance.starting import UNAUTHORIZED
from loomproxy.plugins.conformance.verdict import Clauses, Unmet
from loomproxy.plugins.conformance.wire import Answer, Body

CLAUSES: Final = Clauses[Scene]()

LARGE_BYTES: Final = 1 << 20
"""Of one message: an image or a long document."""

AT_ONCE: Final = 8
"""Requests beside one another."""

_LENGTH_REQUIRED: Final = 411
_LONG_ID: Final = "examined-by:loomproxy/" + "0123456789abcdef" * 6  # of a client's own making
_CHATS: Final = ("chat.answer",)


@CLAUSES.clause("http.not-found", "A path that it has not is a 404.", needs=("auth.right",))
async def _not_found(scene: Scene) -> None:
    answer = await scene.ask("GET", "/loomproxy/asks/for/what/is/not/there")
    if answer.status != NOT_FOUND:
        raise Unmet(seen=answer, expected="404 with a PluginError")


@CLAUSES.clause("http.method", "A method that a path has not is refused.", needs=("auth.right",))
async def _method(scene: Scene) -> None:
    for method, path in (("GET", "/chat/completions"), ("POST", "/metadata")):
        answer = await scene.ask(method, path, {} if method == "POST" else None)
        if answer.status not in {NOT_FOUND, 405}:
            raise Unmet(
                seen=answer,
                expected="405 or 404 with a PluginError",
                do="Look at the method and the path together.",
            )


@CLAUSES.clause(
    "http.keep-alive", "Calls one after another share a connection.", needs=("auth.right",)
)
async def _keep_alive(scene: Scene) -> None:
    wire = scene.fresh()
    try:
        for _ in range(3):
            answer = scene.note(await wire.ask("GET", "/health"))
            if not answer.status:
                raise Unmet(seen=answer, expected="200")
        if wire.connections != 1:
            raise Unmet(
                seen=f"3 calls took {wire.connections} connections",
                expected="1",
                do="Answer as HTTP/1.1, with a Content-Length, and without `Connection: close`: "
                "a new connection for each request costs more than the call.",
            )
    finally:
        await wire.aclose()


@CLAUSES.clause("http.large-body", "A message of 1 MiB is read to its end.", needs=_CHATS)
async def _large_body(scene: Scene) -> None:
    # Of a model that is not there: what is judged is the reading, and no provider bills it.
    question = {**scene.question("x" * LARGE_BYTES), "model": NO_MODEL}
    answer = await scene.ask("POST", "/chat/completions", question)
    if not answer.status or answer.trouble or answer.status >= 500:  # noqa: PLR2004 - the class of its own mistakes
        raise Unmet(
            seen=answer,
            expected="an answer, if only an error object",
            do="Read the whole body, also when it comes in many pieces; allow at least 4 MiB.",
        )


@CLAUSES.clause(
    "http.chunked-request",
    "A body without Content-Length is read, or refused with 411.",
    needs=_CHATS,
)
async def _chunked_request(scene: Scene) -> None:
    answer = await scene.ask("POST", "/chat/completions", scene.question(), chunked=True)
    if not answer.ok and answer.status != _LENGTH_REQUIRED:
        raise Unmet(
            seen=answer,
            expected="the answer to a request, or 411",
            do="Read `Transfer-Encoding: chunked` (RFC 9112 §7.1), or refuse it clearly.",
        )


@CLAUSES.clause("requests.id", "Any X-Request-ID is borne.", needs=_CHATS)
async def _request_id(scene: Scene) -> None:
    fields = {"X-Request-ID": _LONG_ID}
    answer = await scene.ask("POST", "/chat/completions", scene.question(), fields=fields)
    if not answer.ok:
        raise Unmet(
            seen=f"with X-Request-ID {_LONG_ID!r}: {answer}",
            expected="2xx",
            do="Take it as text for your log; clients make ids of their own.",
        )


@CLAUSES.clause("concurrency.calls", "Eight chats at once are all answered.", needs=_CHATS)
async def _at_once(scene: Scene) -> None:
    question = scene.question()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_alone(scene, question)) for _ in range(AT_ONCE)]
    for task in tasks:
        answer = scene.note(task.result())
        error = answer.error()
        if not answer.ok and not (error is not None and error.code == "rate_limit_exceeded"):
            raise Unmet(seen=f"of {AT_ONCE} at once one was {answer}", expected="each answered")


async def _alone(scene: Scene, question: Body) -> Answer:
    """One chat over a connection of its own."""
    wire = scene.fresh()
    try:
        return await wire.ask("POST", "/chat/completions", question)
    finally:
        await wire.aclose()


@CLAUSES.clause(
    "errors.shape", "Whatever is no success carries a PluginError.", needs=("start.answers",)
)
async def errors(scene: Scene) -> None:
    """Judged at the end, of every refusal that was seen until then."""
    bad = [answer for answer in scene.refused if answer.error() is None]
    if bad:
        kinds = {f"{answer.call} {answer.status}": answer for answer in bad}
        raise Unmet(
            seen="\n".join(str(answer) for answer in list(kinds.values())[:4]),
            expected='{"code": "…", "message": "…", "transient": false}, the code one of the '
            "contract's nine",
            do="Send it with every status but 2xx, of 404 and 405 and 500, too; "
            f"{UNAUTHORIZED} says authentication_failed.",
        )
