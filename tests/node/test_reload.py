"""Which keys a reload cannot change, by name."""

import msgspec

from loomproxy.config.model import AccessLog, Admin, Drain, Listener, Node, Static
from loomproxy.node.reload import static_changes

BEFORE = Static(
    node=Node(drain=Drain(deadline_s=30.0)),
    listeners=(Listener("public", "127.0.0.1:8080"), Listener("local", "unix:/run/a.sock")),
)


def test_nothing_changed_is_no_problem() -> None:
    assert static_changes(BEFORE, msgspec.structs.replace(BEFORE)) == []


def test_every_changed_key_is_named_as_it_is_written() -> None:
    after = Static(
        node=Node(workers=3, drain=Drain(deadline_s=10.0)),
        listeners=(BEFORE.listeners[0], Listener("local", "unix:/run/b.sock", idle_timeout_s=1.0)),
        access_log=AccessLog(path="off"),
    )
    problems = static_changes(BEFORE, after)
    assert [problem.path for problem in problems] == [
        "node.workers",
        "node.drain.deadline",
        "listeners[1].address",
        "listeners[1].idle_timeout",
        "access_log.path",
    ]
    assert "auto" in problems[0].expected


def test_another_number_of_listeners_is_one_problem() -> None:
    after = msgspec.structs.replace(BEFORE, listeners=BEFORE.listeners[:1])
    (problem,) = static_changes(BEFORE, after)
    assert problem.path == "listeners"
    assert "2 of them" in problem.expected


def test_changed_secret_is_named_and_not_shown() -> None:
    before = msgspec.structs.replace(BEFORE, admin=Admin(token="old-" * 4))
    for token in ("new-" * 4, None):
        (problem,) = static_changes(
            before, msgspec.structs.replace(BEFORE, admin=Admin(token=token))
        )
        assert problem.path == "admin.token"
        assert "not shown" in problem.expected
        assert "old-" not in str(problem)
        assert "new-" not in str(problem)
    assert static_changes(before, before) == []
