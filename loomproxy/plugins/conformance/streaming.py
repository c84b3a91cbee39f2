"""Clauses of streams: their form, their end, that they flow, and that they can be left."""

import asyncio
import itertools
import time
from typing import Final

import msgspec

from loomproxy.plugins.conformance import shapes
from loomproxy.plugins.conformance.scene import LONG_TALK, Scene
from loomproxy.plugins.conformance.seat import a_moment
from loomproxy.plugins.conformance.starting import ALL
from loomproxy.plugins.conformance.verdict import Clauses, Unjudged, Unmet
from loomproxy.plugins.conformance.wire import DONE, Body, Heard
from loomproxy.plugins.contract import StreamChunk

CLAUSES: Final = Clauses[Scene]()
OK: Final = 200

MEASURABLE_S: Final = 0.25
"""A stream that took less is too short to tell flowing from falling out at once."""

LEFT: Final = 8
"""Streams that are left after their first event: enough that what each leaves behind shows."""

KEPT_MAX: Final = 4
"""Sockets that a plugin may hold more afterwards: it may keep some to whom it asks itself."""

_STREAMS: Final = ("stream.events",)


def chunks(heard: Heard) -> list[StreamChunk]:
    """What a stream said, each event a StreamChunk; `[DONE]` left out."""
    found = []
    for number, event in enumerate(heard.events, 1):
        if event.data == DONE:
            continue
        try:
            found.append(msgspec.json.decode(event.data, type=StreamChunk))
        except (msgspec.DecodeError, RecursionError) as error:
            raise Unmet(
                seen=f"event {number}: {event.data[:300]}",
                expected="data that is a StreamChunk",
                do=f"Mend it: {error}.",
            ) from None
    return found


@CLAUSES.clause(
    "stream.events",
    "With `stream: true` it answers an event stream of StreamChunks.",
    needs=("chat.answer",),
    of=ALL,
)
async def _events(scene: Scene) -> None:
    heard = await scene.stream()
    answer = heard.answer
    kind = answer.fields.get("content-type", "") if answer is not None else ""
    if answer is None or answer.status != OK or not kind.startswith("text/event-stream"):
        raise Unmet(
            seen=f"{heard}, Content-Type {kind!r}",
            expected="200 with Content-Type: text/event-stream",
            do="If the plugin cannot stream, say `streaming: false` among its capabilities.",
        )
    if not chunks(heard):
        raise Unmet(
            seen=heard,
            expected="events, each `data: ` with a StreamChunk and an empty line",
            do="End each event with two line breaks.",
        )


@CLAUSES.clause(
    "stream.finish", "Its last chunk with choices says why it ended.", needs=_STREAMS, of=ALL
)
async def _finish(scene: Scene) -> None:
    with_choices = [chunk for chunk in chunks(await scene.stream()) if chunk.choices]
    last = with_choices[-1].choices[0].finish_reason if with_choices else None
    if last is None:
        raise Unmet(
            seen="no finish_reason in the last chunk that has choices",
            expected="stop, length, tool_calls, content_filter or the like",
            do="Without it a client cannot tell a whole answer from a piece of one.",
        )


@CLAUSES.clause("stream.usage", "Its last chunk counts the tokens.", needs=_STREAMS, of=ALL)
async def _usage(scene: Scene) -> None:
    shapes.usage(chunks(await scene.stream())[-1].usage, "the last chunk of the stream")


@CLAUSES.clause(
    "stream.done", "It ends with `data: [DONE]`, and then it ends.", needs=_STREAMS, of=ALL
)
async def _done(scene: Scene) -> None:
    heard = await scene.stream()
    last = heard.events[-1].data
    if last != DONE or not heard.ended:
        raise Unmet(
            seen=f"{heard}{'' if heard.ended else ', and the answer did not end as HTTP has it'}",
            expected="`data: [DONE]` as the last event, then the end of the answer",
            do="A stream that ends otherwise counts as truncated. After an error in the middle, "
            'send `data: {"error": PluginError}` instead.',
        )


@CLAUSES.clause(
    "stream.incremental", "Its chunks come as they are made, not all at the end.", needs=_STREAMS
)
async def _incremental(scene: Scene) -> None:
    heard = await scene.stream()
    if _flows(heard):
        return
    # A short answer may come from the provider at once; a long one does not.
    heard = await scene.listen(scene.question(LONG_TALK, stream=True))
    if not heard.events or _flows(heard):
        return
    took_s = heard.events[-1].at - heard.begun_at
    if took_s < MEASURABLE_S:
        raise Unjudged(f"it took {took_s * 1000:.0f} ms, which is too short to tell.")
    raise Unmet(
        seen=f"{len(heard.events)} events at once after {took_s:.2f} s",
        expected="the first long before the last",
        do="Flush after each event, and send no Content-Length.",
    )


def _flows(heard: Heard) -> bool:
    """Whether the first event came before the last."""
    return heard.events[0].read != heard.events[-1].read


@CLAUSES.clause(
    "stream.cancel",
    "Streams may be left, and leave nothing behind.",
    needs=("stream.events", "health.after-initialize"),
)
async def _cancel(scene: Scene) -> None:
    before = scene.seat.sockets() if scene.seat.pid else 0
    question = scene.question(LONG_TALK, stream=True)
    for _ in range(LEFT):
        wire = scene.fresh()
        try:
            heard = await scene.listen(question, wire, events_max=1)
        finally:
            await wire.aclose()
        if not heard.events:
            raise Unmet(seen=heard, expected="a stream, as before")
    answer = await scene.ask("POST", "/chat/completions", scene.question())
    if not answer.ok:
        raise Unmet(
            seen=f"after {LEFT} streams were left, {answer}",
            expected="an answer, as if nothing had happened",
            do="When the connection closes, stop working for it: a write that fails is the sign.",
        )
    health = await scene.ask("GET", "/health")
    if not shapes.health(health).healthy:
        raise Unmet(seen=health, expected="still healthy: a client that leaves is no fault")
    if scene.seat.pid:
        await _released(scene, before)


async def _released(scene: Scene, before: int) -> None:
    """The connections that were left are closed by the plugin, too."""
    end = time.monotonic() + scene.within_s
    held = scene.seat.sockets()
    while held > before + KEPT_MAX and time.monotonic() < end:
        await a_moment()
        held = scene.seat.sockets()
    if held > before + KEPT_MAX:
        raise Unmet(
            seen=f"{LEFT} streams were left, and it holds {held - before} sockets more than before",
            expected=f"their connections closed within {scene.within_s:g} s",
            do="See the connection close (node: `close` of the response, Go: ctx.Done(), Python: "
            "a write that fails), and end the work for it.",
        )


@CLAUSES.clause("concurrency.streams", "Streams run beside one another.", needs=("stream.done",))
async def concurrent(scene: Scene) -> None:
    """Several at once, all whole, and not one after the other."""
    question = scene.question(stream=True)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_alone(scene, question)) for _ in range(4)]
    every = [scene.note_heard(task.result()) for task in tasks]
    for heard in every:
        if not heard.events or heard.events[-1].data != DONE:
            raise Unmet(seen=f"of 4 streams at once one was {heard}", expected="4 whole streams")
    ids = {chunks(heard)[0].id for heard in every}
    if len(ids) != len(every):
        raise Unmet(
            seen=f"{len(every)} streams with {len(ids)} ids",
            expected="an id of its own for each answer",
        )
    every.sort(key=lambda heard: heard.events[0].at)
    gaps = [
        later.events[0].at >= sooner.events[-1].at for sooner, later in itertools.pairwise(every)
    ]
    took_s = min(heard.events[-1].at - heard.events[0].at for heard in every)
    if all(gaps) and took_s > MEASURABLE_S / len(every):
        raise Unmet(
            seen="4 streams that were asked for at once came one after the other",
            expected="all of them under way together",
            do="Serve each connection by its own task or thread.",
        )


async def _alone(scene: Scene, question: Body) -> Heard:
    """One stream over a connection of its own."""
    wire = scene.fresh()
    try:
        return await wire.listen("/chat/completions", question)
    finally:
        await wire.aclose()
