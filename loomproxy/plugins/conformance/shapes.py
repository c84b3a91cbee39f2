"""What must hold of the bodies that a plugin sends, each rule with its lesson; makes no calls.

What the proxy itself reads (metadata, health, models, errors) is judged by the proxy's own readers,
so that an examination is neither milder nor harder than life. Every function returns what it read,
or raises `Unmet`.
"""

from typing import Final, TypeVar

import msgspec

from loomproxy.config.problem import Problem, Problems
from loomproxy.plugins.conformance.verdict import Unmet
from loomproxy.plugins.conformance.wire import Answer
from loomproxy.plugins.contract import ChatResponse, HealthStatus, ModelInfo, Usage
from loomproxy.plugins.wire import health_of, models_of

BodyT = TypeVar("BodyT")

PROBLEMS_SHOWN_MAX: Final = 8


def listed(problems: Problems | list[Problem]) -> str:
    """Problems as a verdict shows them."""
    items = problems.items if isinstance(problems, Problems) else problems
    shown = "".join(f"\n  {problem}" for problem in items[:PROBLEMS_SHOWN_MAX])
    more = len(items) - PROBLEMS_SHOWN_MAX
    return f"{shown}\n  and {more} more" if more > 0 else shown


def successful(answer: Answer, expected: str) -> Answer:
    """An answer with 2xx, wholly there."""
    if not answer.ok:
        raise Unmet(seen=answer, expected=f"2xx with {expected}")
    return answer


def health(answer: Answer) -> HealthStatus:
    """GET /health's body."""
    if answer.status and not answer.ok:
        raise Unmet(
            seen=answer,
            expected="200 with a HealthStatus, whether healthy or not",
            do='Say {"healthy": false, "message": "why"} with 200 when the plugin is not well.',
        )
    found = health_of(successful(answer, "a HealthStatus object").body)
    if isinstance(found, Problems):
        raise Unmet(seen=f"{answer}{listed(found)}", expected="a HealthStatus object")
    return found


def models(answer: Answer) -> tuple[ModelInfo, ...]:
    """GET /models' body."""
    if answer.ok and isinstance(answer.json(), dict):
        raise Unmet(
            seen=answer,
            expected='a bare array: [{"id": "…"}, …]',
            do='Leave out what is around it; {"data": […]} is another dialect.',
        )
    found = models_of(successful(answer, "an array of ModelInfo").body)
    if isinstance(found, Problems):
        raise Unmet(seen=f"{answer}{listed(found)}", expected="an array of ModelInfo")
    if not found:
        raise Unmet(
            seen="an empty array",
            expected="at least one model",
            do="A plugin without models is never asked anything. If it serves any name, name one.",
        )
    return found


def chat_response(answer: Answer) -> ChatResponse:
    """A whole completion."""
    expected = "a ChatResponse object"
    try:
        found = msgspec.json.decode(successful(answer, expected).body, type=ChatResponse)
    except msgspec.ValidationError as error:
        do = f"Mend the body: {error}; `$` is the whole body."
        raise Unmet(seen=answer, expected=expected, do=do) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unmet(seen=answer, expected=expected, do=f"Send JSON: {error}.") from None
    if not found.choices:
        raise Unmet(seen="no choices", expected="at least one choice")
    for choice in found.choices:
        if choice.message.role != "assistant":
            seen = f"a choice whose message is by {choice.message.role!r}"
            raise Unmet(seen=seen, expected="role: assistant")
        if choice.finish_reason is None:
            raise Unmet(
                seen=f"choice {choice.index} without finish_reason",
                expected="stop, length, tool_calls, content_filter or the like",
            )
    return found


def usage(found: Usage | None, where: str) -> None:
    """Tokens counted, and the sum right."""
    if found is None:
        raise Unmet(
            seen=f"{where} without usage",
            expected="usage with prompt_tokens, completion_tokens and total_tokens",
            do="Without it the proxy has to estimate tokens, and bills by that.",
        )
    if found.total_tokens != found.prompt_tokens + found.completion_tokens:
        raise Unmet(
            seen=f"{found.prompt_tokens} + {found.completion_tokens} = {found.total_tokens}",
            expected="total_tokens to be the sum of the other two",
        )
