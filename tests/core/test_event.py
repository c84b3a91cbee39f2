"""Every kind of event there is, and that each is heard somewhere."""

import inspect
import typing

from loomproxy.core import event as events
from loomproxy.core.event import Event
from loomproxy.core.exchange import IGNORED, TABLE
from loomproxy.core.message import (
    RequestHead,
    RequestPart,
    Response,
    ResponseHead,
    ResponsePart,
)

KINDS = frozenset(typing.get_args(Event))


def test_every_event_of_the_module_is_one_of_the_kinds() -> None:
    defined = {
        kind
        for _, kind in inspect.getmembers(events, inspect.isclass)
        if kind.__module__ == events.__name__
    }
    heads_and_parts = {RequestHead, RequestPart, ResponseHead, ResponsePart, Response}
    assert defined | heads_and_parts == KINDS


def test_every_kind_of_event_is_heard_in_some_phase_and_nothing_else_is() -> None:
    assert {kind for heard in TABLE.values() for kind in heard} == KINDS


def test_every_answer_names_its_question_and_may_come_late() -> None:
    naming = {kind for kind in KINDS if "ask" in kind.__struct_fields__}
    assert naming < IGNORED
