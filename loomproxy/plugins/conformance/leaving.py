"""Clauses of the end: cleanup, a clean exit, nothing left behind, and no secret told."""

from typing import Final

from loomproxy.plugins.conformance.scene import Scene
from loomproxy.plugins.conformance.seat import a_moment
from loomproxy.plugins.conformance.verdict import Clauses, Kind, Unmet
from loomproxy.plugins.mask import SECRET_CHARS_MIN

CLAUSES: Final = Clauses[Scene]()

_SIGTERM: Final = 15
_LOOKS_MAX: Final = 25  # of a_moment(): half a second for what was killed with its group to be gone


@CLAUSES.clause("cleanup.ok", "POST /cleanup is answered with 2xx.", needs=("initialize.ok",))
async def _cleanup(scene: Scene) -> None:
    answer = await scene.ask("POST", "/cleanup", {})
    if not answer.ok:
        raise Unmet(seen=answer, expected="2xx with {}")


@CLAUSES.clause(
    "exit.clean",
    "After SIGTERM it leaves within stop_timeout, with status 0 or by that signal.",
    needs=("start.answers",),
    of=(Kind.PROCESS,),
)
async def _exit(scene: Scene) -> None:
    seat, manifest = scene.seat, scene.target.manifest
    assert seat.guest is not None
    assert manifest is not None
    if seat.exit is not None:
        raise Unmet(
            seen=f"it had left before, with {seat.exit}",
            expected="a process that stays until it is told to leave",
        )
    seat.guest.terminate()
    how = await seat.until_left(manifest.stop_timeout_s)
    if how is None:
        raise Unmet(
            seen=f"it was still there {manifest.stop_timeout_s:g} s after SIGTERM",
            expected="its end",
            do="On SIGTERM stop listening, end what is under way, and exit.",
        )
    if how.code not in {0, -_SIGTERM}:
        raise Unmet(
            seen=f"{how}", expected="exit status 0, or SIGTERM", do="Leave with 0 on SIGTERM."
        )


@CLAUSES.clause(
    "exit.nothing-left",
    "No process that it started outlives it.",
    needs=("exit.clean",),
    of=(Kind.PROCESS,),
)
async def _nothing_left(scene: Scene) -> None:
    left = scene.seat.survivors()
    for _ in range(_LOOKS_MAX):
        if not left:
            return
        await a_moment()
        left = scene.seat.survivors()
    raise Unmet(
        seen=f"{len(left)} process{'' if len(left) == 1 else 'es'} with its token",
        expected="none",
        do="End what it starts, and start nothing in a session or group of its own.",
    )


@CLAUSES.clause(
    "log.secrets",
    "What it says on stdout and stderr holds no secret.",
    needs=("start.answers",),
    of=(Kind.PROCESS,),
)
async def _secrets(scene: Scene) -> None:
    guest = scene.seat.guest
    assert guest is not None
    secrets = {"its token": guest.token}
    for field in scene.schema:
        value = str(scene.target.words.get(field.name, scene.target.config.get(field.name, "")))
        if field.sensitive and len(value) >= SECRET_CHARS_MIN:
            secrets[f"the value of {field.name!r}"] = value
    for line in scene.seat.lines:
        for name, value in secrets.items():
            if value in line:
                raise Unmet(
                    seen=f"{name} in a line: {line.replace(value, '***')}",
                    expected="lines without it",
                    do="Lines go to the proxy's log, and from there to many eyes.",
                )
