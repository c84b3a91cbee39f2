"""One examination under way: the plugin, the connection to it, and all that was seen of it.

Several clauses are judged by one call, so what was asked once is kept here. A plugin that does not
answer any more is not waited for again and again: after `LATE_MAX` calls in a row that came to
nothing, whatever else is asked is not judged.
"""

from collections.abc import Mapping
from typing import Any, Final

from loomproxy.config.address import base_url
from loomproxy.config.problem import Problem
from loomproxy.plugins.conformance.seat import Seat
from loomproxy.plugins.conformance.target import Target
from loomproxy.plugins.conformance.verdict import Kind, Unjudged
from loomproxy.plugins.conformance.wire import Answer, Body, Heard, Where, Wire, where
from loomproxy.plugins.contract import ConfigField, Metadata, ModelInfo

LATE_MAX: Final = 3
"""Calls in a row without an answer in time, after which a plugin is given up."""

PATHS: Final = ("/metadata", "/initialize", "/health", "/models", "/chat/completions", "/cleanup")

GREETING: Final = "Say hello in one word."
LONG_TALK: Final = " ".join(f"Say the number {number}." for number in range(1, 65))
"""What makes an answer long enough to be left before its end, and still costs next to nothing."""


class Scene:
    """An examination. `begin` where the plugin answers, before any call."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.within_s = target.within_s
        self.seat = Seat()  # the process, where there is one
        self.place: Where | None = None
        self.metadata: Metadata | None = None  # what the plugin said, once that was good
        self.metadata_problems: list[Problem] = []
        self.models: tuple[ModelInfo, ...] = ()
        self.refused: list[Answer] = []  # every answer that was no success
        self._wire: Wire | None = None
        self._heard: Heard | None = None
        self._answer: Answer | None = None
        self._late = 0

    def begin(self, place: Where) -> None:
        """Say where it answers."""
        self.place = place
        self._wire = Wire(place, self.within_s)

    @property
    def wire(self) -> Wire:
        """The connections that all clauses share."""
        assert self._wire is not None
        return self._wire

    def fresh(self) -> Wire:
        """Connections of one's own; whoever asks closes them."""
        assert self.place is not None
        return Wire(self.place, self.within_s)

    @property
    def schema(self) -> tuple[ConfigField, ...]:
        """The keys of its configuration, as the manifest has them or else the plugin itself."""
        if self.target.manifest is not None:
            return self.target.manifest.metadata.config_schema
        return self.metadata.config_schema if self.metadata else ()

    @property
    def streams(self) -> bool:
        """Whether it says that it can stream."""
        manifest = self.target.manifest
        known = manifest.metadata if manifest is not None else self.metadata
        return known is not None and known.capabilities.streaming

    @property
    def model(self) -> str:
        """The one to chat with."""
        manifest = self.target.manifest
        named = (manifest.models if manifest is not None else None) or self.models
        if not self.target.model and not named:
            raise Unjudged("no model is known: name one with --model.")
        return self.target.model or named[0].id

    def path(self, call: str) -> str:
        """Where a call is answered; a builtin provider has paths of its own."""
        manifest = self.target.manifest
        if manifest is None or self.target.kind is not Kind.BUILTIN:
            return call
        mapped = {
            "/chat/completions": manifest.path_map.chat_completions,
            "/models": manifest.path_map.models,
        }
        return mapped.get(call, call)

    async def ask(self, method: str, path: str, body: Body = None, **more: Any) -> Answer:
        """One call; its answer is remembered when it is no success."""
        self._spare()
        return self.note(await self.wire.ask(method, path, body, **more))

    def note(self, answer: Answer) -> Answer:
        """Remember an answer."""
        self._late = self._late + 1 if answer.late else 0
        if answer.status and not answer.ok and not answer.trouble:
            self.refused.append(answer)
        return answer

    async def listen(self, body: Body, wire: Wire | None = None, **more: Any) -> Heard:
        """One stream."""
        self._spare()
        path = self.path("/chat/completions")
        return self.note_heard(await (wire or self.wire).listen(path, body, **more))

    def note_heard(self, heard: Heard) -> Heard:
        """Remember a stream."""
        self._late = self._late + 1 if heard.late else 0
        if heard.answer is not None and not heard.answer.ok:
            self.refused.append(heard.answer)
        return heard

    def _spare(self) -> None:
        """Nobody waits for the silent for ever."""
        if self._late >= LATE_MAX:
            raise Unjudged(
                f"the plugin left {LATE_MAX} calls in a row without an answer within "
                f"{self.within_s:g} s and is not asked any more."
            )

    def question(self, text: str = GREETING, **more: object) -> Mapping[str, object]:
        """A chat request."""
        messages = [{"role": "user", "content": text}]
        return {"model": self.model, "messages": messages, **more}

    async def chat(self) -> Answer:
        """The answer to a plain question, asked once."""
        if self._answer is None:
            self._answer = await self.ask("POST", self.path("/chat/completions"), self.question())
        return self._answer

    async def stream(self) -> Heard:
        """The stream that answers a plain question, asked once."""
        if self._heard is None:
            if not self.streams:
                raise Unjudged("its capabilities do not say `streaming: true`.")
            question = self.question(stream=True, stream_options={"include_usage": True})
            self._heard = await self.listen(question)
        return self._heard

    async def aclose(self) -> None:
        """Close all connections and end the process, if it is still there."""
        if self._wire is not None:
            await self._wire.aclose()
        await self.seat.aclose()


def place_of(url: str, token: str) -> Where:
    """Where a plugin is that runs already."""
    address, base = base_url(url)
    return where(address, base, bearer(token))


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """The field that shows a token; none for no token."""
    return (("Authorization", f"Bearer {token}"),) if token else ()
