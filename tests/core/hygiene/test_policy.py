"""What the operator may ask of heads."""

import pytest

from loomproxy.core.hygiene.policy import HeaderOps, ops_problem, touched


@pytest.mark.parametrize(
    ("ops", "why"),
    [
        (HeaderOps(), ""),
        (HeaderOps(set=((b"X", b"{client_ip}"),), add=((b"Y", b""),), remove=(b"Z",)), ""),
        (HeaderOps(remove=(b"a b",)), "field name"),
        (HeaderOps(set=((b"Host", b"x"),)), "proxy alone"),
        (HeaderOps(add=((b"content-length", b"1"),)), "proxy alone"),
        (HeaderOps(add=((b"X", b"a\r\nB: c"),)), "field value"),
        (HeaderOps(add=((b"X", b" a"),)), "field value"),
    ],
)
def test_operations_that_would_break_a_head_are_named(ops: HeaderOps, why: str) -> None:
    problem = ops_problem(ops)
    assert bool(problem) == bool(why)
    assert why in problem


def test_what_is_set_or_removed_is_the_operators_and_what_is_added_is_not() -> None:
    ops = HeaderOps(set=((b"X-A", b"1"),), add=((b"X-B", b"1"),), remove=(b"X-C",))
    assert touched(ops) == {b"x-a", b"x-c"}
    assert touched(None) == frozenset()
