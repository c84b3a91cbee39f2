"""Clauses of the beginning: a manifest, a process that answers, a private socket, a token."""

import asyncio
import os
import stat
from typing import Final

from loomproxy.plugins.conformance import shapes
from loomproxy.plugins.conformance.scene import PATHS, Scene, bearer, place_of
from loomproxy.plugins.conformance.seat import a_moment
from loomproxy.plugins.conformance.verdict import Clauses, Kind, Unjudged, Unmet
from loomproxy.plugins.conformance.wire import Answer, Where, Wire, where
from loomproxy.plugins.traces import open_to_others

CLAUSES: Final = Clauses[Scene]()
ALL: Final = (Kind.PROCESS, Kind.REMOTE, Kind.BUILTIN)
UNAUTHORIZED: Final = 401

_LAST_LINES: Final = 5  # of what it said, beside an early end
_PROBE_S: Final = 1.0  # for one look whether it answers by now


@CLAUSES.clause(
    "manifest.valid", "The manifest says what the proxy needs, and nothing else.", of=ALL
)
async def _manifest(scene: Scene) -> None:
    problems = scene.target.problems
    if problems is not None:
        raise Unmet(seen=shapes.listed(problems), expected="a manifest without problems")
    if scene.target.found is None:
        raise Unjudged("an address was given; a manifest is read from a folder.")


@CLAUSES.clause(
    "start.answers",
    "It answers at its address within startup_timeout.",
    needs=("manifest.valid",),
    of=ALL,
)
async def _answers(scene: Scene) -> None:
    manifest = scene.target.manifest
    if scene.target.kind is Kind.PROCESS:
        await _started(scene)
        return
    if manifest is None:
        place = place_of(scene.target.url, scene.target.token)
    else:
        place = place_of(manifest.endpoint, scene.target.token)
        shown = manifest.auth.field if manifest.auth is not None else None
        if shown is not None:
            secrets = ((shown[0].decode(), shown[1].decode()),)
            place = Where(place.base_url, place.socket, secrets)
    scene.begin(place)
    builtin = scene.target.kind is Kind.BUILTIN
    answer = await scene.ask("GET", scene.path("/models") if builtin else "/health")
    if not answer.status:
        raise Unmet(
            seen=answer, expected="an HTTP answer", do="Is it running, and is this its address?"
        )


async def _started(scene: Scene) -> None:
    """Start a process and wait until it answers anything at all."""
    found, seat = scene.target.found, scene.seat
    assert found is not None
    try:
        seat.start(found)
    except OSError as error:
        raise Unmet(
            seen=f"{found.manifest.command!r} cannot be started ({error.strerror or error})",
            expected="a program that can be run",
            do="Mend what the manifest says of `command`, `user` or `limits`.",
        ) from None
    assert seat.guest is not None
    scene.begin(where(seat.guest.address, "", bearer(seat.guest.token)))
    assert scene.place is not None
    wire = Wire(scene.place, min(_PROBE_S, scene.within_s))
    answer = Answer("GET /health", trouble="nothing was asked yet")
    try:
        async with asyncio.timeout(found.manifest.startup_timeout_s):
            while not answer.status and seat.exit is None:
                answer = await wire.ask("GET", "/health")
                await a_moment()
    except TimeoutError:
        pass
    finally:
        await wire.aclose()
    if seat.exit is not None:
        raise Unmet(
            seen=f"it {'left' if seat.runnable else 'could not be run'} ({seat.exit}) before it "
            f"answered; it said last:{_last(seat.lines)}",
            expected="a process that stays and listens",
            do="Has it been built? It is given LOOM_PLUGIN_SOCKET (or LOOM_PLUGIN_HOST and _PORT), "
            "LOOM_PLUGIN_TOKEN, PATH, HOME, LANG, TZ and the manifest's `env`; nothing else of "
            "your environment.",
        )
    if not answer.status:
        raise Unmet(
            seen=f"{answer}, for {found.manifest.startup_timeout_s:g} s; "
            f"it said last:{_last(seat.lines)}",
            expected=f"an HTTP answer at {seat.guest.address}",
            do="Listen where LOOM_PLUGIN_SOCKET (or LOOM_PLUGIN_HOST and _PORT) says, at once.",
        )


def _last(lines: list[str]) -> str:
    return "".join(f"\n  {line}" for line in lines[-_LAST_LINES:]) or " nothing"


@CLAUSES.clause(
    "start.private",
    "Nobody else can connect: a Unix socket of mode 0600, or loopback only.",
    needs=("start.answers",),
)
async def _private(scene: Scene) -> None:
    assert scene.place is not None
    if scene.place.socket:
        try:
            mode = stat.S_IMODE(os.stat(scene.place.socket).st_mode)  # noqa: PTH116 - of a socket, at once
        except OSError as error:
            raise Unjudged(
                f"{scene.place.socket} cannot be looked at ({error.strerror})."
            ) from None
        if mode & 0o077:
            raise Unmet(
                seen=f"its socket has mode {mode:04o}",
                expected="0600",
                do="Leave the mode as it is made, or call chmod(path, 0600) after bind.",
            )
        return
    guest = scene.seat.guest
    if guest is None:
        raise Unjudged(
            "whether somebody else's process listens on loopback only is not ours to see."
        )
    others = open_to_others(guest.address.port)
    if others:
        raise Unmet(
            seen=f"it listens beyond loopback ({', '.join(others)})",
            expected="127.0.0.1 only",
            do="Listen on the host that LOOM_PLUGIN_HOST says, not on 0.0.0.0 or ::.",
        )


@CLAUSES.clause(
    "auth.missing", "Without a token every call is refused with 401.", needs=("start.answers",)
)
async def _no_token(scene: Scene) -> None:
    _token_known(scene)
    let_in = []
    for path in PATHS:
        posted = path in _POSTED
        answer = await scene.ask(
            "POST" if posted else "GET", path, {} if posted else None, secrets=()
        )
        if answer.status != UNAUTHORIZED:
            let_in.append(str(answer))
    _refused(let_in)


@CLAUSES.clause(
    "auth.wrong", "A token that is not its own is refused with 401.", needs=("start.answers",)
)
async def _wrong_token(scene: Scene) -> None:
    token = _token_known(scene)
    let_in = []
    for wrong in (f"{token}x", token[:-1], "x" * len(token)):
        answer = await scene.ask("GET", "/metadata", secrets=bearer(wrong))
        if answer.status != UNAUTHORIZED:
            let_in.append(f"with {wrong[:2]}… ({len(wrong)} characters) {answer}")
    _refused(let_in)


_POSTED: Final = ("/initialize", "/chat/completions", "/cleanup")


def _refused(let_in: list[str]) -> None:
    if let_in:
        raise Unmet(
            seen="\n".join(let_in),
            expected="401 with a PluginError",
            do="Compare the Authorization field of every call, before anything else, with "
            "`Bearer $LOOM_PLUGIN_TOKEN`, the whole of it, in constant time.",
        )


def _token_known(scene: Scene) -> str:
    assert scene.place is not None
    for _, value in scene.place.secrets:
        return value.removeprefix("Bearer ")
    raise Unjudged("no token was given: give the plugin's with --token.")


@CLAUSES.clause("auth.right", "With its token it answers.", needs=("start.answers",))
async def _right_token(scene: Scene) -> None:
    answer = await scene.ask("GET", "/health")
    if answer.status in {0, 401, 403}:
        raise Unmet(
            seen=answer,
            expected="200",
            do="The field is `Authorization: Bearer TOKEN` with what LOOM_PLUGIN_TOKEN holds.",
        )
