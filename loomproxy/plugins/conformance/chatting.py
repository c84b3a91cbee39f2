"""Clauses of whole answers: what a chat completion is, and what is no chat request."""

from collections.abc import Mapping
from typing import Final

from loomproxy.plugins.conformance import shapes
from loomproxy.plugins.conformance.scene import GREETING, Scene
from loomproxy.plugins.conformance.starting import ALL
from loomproxy.plugins.conformance.verdict import Clauses, Unmet
from loomproxy.plugins.conformance.wire import Answer

CLAUSES: Final = Clauses[Scene]()
NO_MODEL: Final = "loomproxy-asks-for-what-is-not-there"
NOT_FOUND: Final = 404

_INITIALISED: Final = ("initialize.ok",)
_CHATS: Final = ("chat.answer",)


@CLAUSES.clause("chat.answer", "A chat is answered by a ChatResponse.", needs=_INITIALISED, of=ALL)
async def _answer(scene: Scene) -> None:
    shapes.chat_response(await scene.chat())


@CLAUSES.clause("chat.model", "The answer says which model gave it.", needs=_CHATS, of=ALL)
async def _model(scene: Scene) -> None:
    found = shapes.chat_response(await scene.chat())
    # Providers answer with a dated name of the same model, or one with themselves before it.
    if not found.model.startswith(scene.model) and not scene.model.endswith(found.model or "?"):
        raise Unmet(
            seen=f"model {found.model!r} for a request for {scene.model!r}",
            expected="that model, or a more precise name of it",
        )


@CLAUSES.clause("chat.usage", "The answer counts its tokens.", needs=_CHATS, of=ALL)
async def _usage(scene: Scene) -> None:
    shapes.usage(shapes.chat_response(await scene.chat()).usage, "the answer")


@CLAUSES.clause("chat.unknown-fields", "Fields that it does not know do no harm.", needs=_CHATS)
async def _unknown_fields(scene: Scene) -> None:
    question = scene.question(
        seed=1,
        logprobs=False,
        response_format={"type": "text"},
        plugin_specific={"loomproxy": {"examines": True}},
    )
    answer = await scene.ask("POST", "/chat/completions", question)
    if not answer.ok:
        raise Unmet(
            seen=answer,
            expected="2xx: the contract grows by adding",
            do="Pass over keys that the plugin has no use for, or pass them on.",
        )


@CLAUSES.clause("chat.parts", "Content may come as a list of parts.", needs=_CHATS)
async def _parts(scene: Scene) -> None:
    content = [{"type": "text", "text": GREETING}]
    question = {"model": scene.model, "messages": [{"role": "user", "content": content}]}
    answer = await scene.ask("POST", "/chat/completions", question)
    error = answer.error()
    if not answer.ok and not (error is not None and error.code == "invalid_request"):
        raise Unmet(
            seen=answer,
            expected="2xx, or invalid_request where parts are not supported",
            do="`content` is text, or a list of parts as [{type: text, text: …}], or null.",
        )


@CLAUSES.clause("chat.unknown-model", "A model that it has not is a 404.", needs=_CHATS)
async def _unknown_model(scene: Scene) -> None:
    answer = await scene.ask("POST", "/chat/completions", {**scene.question(), "model": NO_MODEL})
    error = answer.error()
    if answer.status != NOT_FOUND or (error is not None and error.code != "model_not_found"):
        raise Unmet(
            seen=answer,
            expected="404 with the code model_not_found",
            do="Check `model` against what GET /models lists.",
        )


@CLAUSES.clause("chat.bad-json", "A body that is no JSON is refused.", needs=_CHATS)
async def _bad_json(scene: Scene) -> None:
    for body in (b'{"model": "', b"\xff\xfe", b"[]", b""):
        _is_refused(await scene.ask("POST", "/chat/completions", body), repr(body))


@CLAUSES.clause("chat.invalid", "A request without usable messages is refused.", needs=_CHATS)
async def _invalid(scene: Scene) -> None:
    whole = scene.question()
    bodies: tuple[tuple[str, Mapping[str, object]], ...] = (
        ("without messages", {"model": whole["model"]}),
        ("with empty messages", {**whole, "messages": []}),
        ("with messages that are no list", {**whole, "messages": "hello"}),
        ("with a message that is no object", {**whole, "messages": ["hello"]}),
        ("without a model", {"messages": whole["messages"]}),
    )
    for what, body in bodies:
        _is_refused(await scene.ask("POST", "/chat/completions", body), what)


def _is_refused(answer: Answer, what: str) -> None:
    error = answer.error()
    fine = 400 <= answer.status < 500  # noqa: PLR2004 - the class of the caller's mistakes
    if not fine or (error is not None and error.code != "invalid_request"):
        raise Unmet(
            seen=f"{what}: {answer}",
            expected="400 with the code invalid_request",
            do="Check the request before it is worked on.",
        )
