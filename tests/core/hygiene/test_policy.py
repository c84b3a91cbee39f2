"""What the operator may ask of heads."""

import pytest

from loomproxy.core.hygiene.policy import HeaderOps, ops_problem


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
