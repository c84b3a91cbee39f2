"""Plans are compiled once per policy, operations and kind of peer, and stay bounded."""

import pytest

from loomproxy.core.hygiene import plan as plans
from loomproxy.core.hygiene.plan import (
    FROM_ANYBODY,
    FROM_TRUSTED,
    WITH_LENGTH,
    WITHOUT_LENGTH,
    plan_for,
)
from loomproxy.core.hygiene.policy import Family, ForwardPolicy, HeaderOps, Values

POLICY = ForwardPolicy()
BLOCK = (
    b"Host: a\r\nX-Forwarded-For: 1\r\nForwarded: for=1\r\nX-Real-IP: 1\r\n"
    b"X-Forwarded-Prefix: /\r\nProxy: x\r\nX: y\r\n"
)


def test_a_plan_is_found_again_and_each_kind_has_its_own() -> None:
    kinds = (FROM_ANYBODY, FROM_TRUSTED, WITH_LENGTH, WITHOUT_LENGTH)
    found = [plan_for(POLICY, None, kind) for kind in kinds]
    assert len(set(map(id, found))) == len(kinds)
    assert [plan_for(POLICY, None, kind) for kind in kinds] == found


def test_nobody_but_a_trusted_peer_says_who_the_client_is() -> None:
    assert plan_for(POLICY, None, FROM_ANYBODY).strip(BLOCK) == b"X: y\r\n"
    assert plan_for(POLICY, None, FROM_TRUSTED).strip(BLOCK) == b"X-Forwarded-Prefix: /\r\nX: y\r\n"


def test_nobody_but_a_trusted_peer_asks_for_another_path() -> None:
    block = b"X-Original-URL: /admin\r\nX: y\r\nx-rewrite-url: /admin\r\n"
    assert plan_for(POLICY, None, FROM_ANYBODY).strip(block) == b"X: y\r\n"
    assert plan_for(POLICY, None, FROM_TRUSTED).strip(block) == block


@pytest.mark.parametrize("writes_forwarded", [False, True])
@pytest.mark.parametrize("writes_x", [False, True])
def test_the_family_that_is_not_believed_passes_from_nobody(
    writes_x: bool, writes_forwarded: bool
) -> None:
    def passed(believe: Family) -> bytes:
        policy = ForwardPolicy(x_forwarded=writes_x, forwarded=writes_forwarded, believe=believe)
        assert plan_for(policy, None, FROM_ANYBODY).strip(BLOCK) == b"X: y\r\n"
        return plan_for(policy, None, FROM_TRUSTED).strip(BLOCK)

    said = b"" if writes_x else b"X-Forwarded-For: 1\r\nX-Real-IP: 1\r\n"
    assert passed(Family.X_FORWARDED) == said + b"X-Forwarded-Prefix: /\r\nX: y\r\n"
    said = b"" if writes_forwarded else b"Forwarded: for=1\r\n"
    assert passed(Family.RFC7239) == said + b"X: y\r\n"


def test_a_length_is_cut_only_where_it_must_be() -> None:
    block = b"Content-Length: 1\r\nKeep-Alive: x\r\n"
    assert plan_for(POLICY, None, WITH_LENGTH).strip(block) == b"Content-Length: 1\r\n"
    assert plan_for(POLICY, None, WITHOUT_LENGTH).strip(block) == b""


def test_operations_remove_then_set_then_add() -> None:
    ops = HeaderOps(
        remove=(b"Gone",),
        set=((b"X", b"100% {route} of {host}"), (b"Host", b"evil")),
        add=((b"Y", b"2"), (b"Via", b"{nothing}")),
    )
    plan = plan_for(POLICY, ops, FROM_ANYBODY)
    assert plan.strip(b"GONE: 1\r\nx: 1\r\nY: 1\r\n") == b"Y: 1\r\n"
    values = Values(route=b"r", host=b"h")
    assert plan.finish(b"X: own\r\nVia: own\r\n", values) == (
        b"Via: own\r\nX: 100% r of h\r\nY: 2\r\nVia: {nothing}\r\n"
    )


def test_operations_without_placeholders_are_ready() -> None:
    plan = plan_for(POLICY, HeaderOps(add=((b"A", b"50%"),)), FROM_ANYBODY)
    assert plan.finish(b"", Values()) == b"A: 50%\r\n"
    assert plan_for(POLICY, None, FROM_ANYBODY).finish(b"own", Values()) == b"own"


def test_what_is_remembered_is_bounded() -> None:
    plan = plan_for(ForwardPolicy(), None, FROM_ANYBODY)
    for i in range(plans._STRIPPED_MAX * 2 + 1):
        assert plan.strip(b"X: %d\r\n" % i) == b"X: %d\r\n" % i
        assert plan.strip(b"X: %d\r\n" % i) == b"X: %d\r\n" % i
    assert len(plan._stripped) <= plans._STRIPPED_MAX
    before = len(plan._stripped)
    large = b"X: " + b"x" * 5000 + b"\r\n"
    assert plan.strip(large) == large
    assert len(plan._stripped) == before


def test_plans_are_bounded() -> None:
    policies = [ForwardPolicy() for _ in range(plans._PLANS_MAX + 5)]
    for policy in policies:
        plan_for(policy, None, FROM_ANYBODY)
    assert len(plans._plans) <= plans._PLANS_MAX
    assert plan_for(policies[0], None, FROM_ANYBODY).key_objects[0] is policies[0]


def test_a_client_cannot_say_what_the_operator_sets_under_a_name_taken_for_the_same() -> None:
    ops = HeaderOps(set=((b"X-User", b"nobody"),), remove=(b"X_Role",))
    policy = ForwardPolicy(request_id_header=b"X-Trace")
    block = b"X_User: root\r\nX.User: root\r\nx-role: root\r\nX_Trace: 1\r\nX_Users: 2\r\n"
    for kind in (FROM_ANYBODY, FROM_TRUSTED):
        assert plan_for(policy, ops, kind).strip(block) == b"X_Users: 2\r\n"
    assert plan_for(policy, ops, WITH_LENGTH).strip(block) == block


def test_what_connection_nominates_does_not_pass() -> None:
    plan = plan_for(POLICY, None, FROM_ANYBODY)
    assert plan.passed(b"Host: a\r\nX: 1\r\nY: 2\r\n", ()) == b"X: 1\r\nY: 2\r\n"
    assert plan.passed(b"Host: a\r\nX: 1\r\nY: 2\r\n", (b"x",)) == b"Y: 2\r\n"
