"""How a head is refused: a fault, and what was seen in a form that fits into a log line."""

import pytest

from loomproxy.core import fault as faults
from loomproxy.core.http1.limits import Refusal
from loomproxy.core.http1.refuse import Unacceptable, malformed, shown, unacceptable


def test_what_a_peer_sent_is_shown_short_and_on_one_line() -> None:
    assert shown(b"a\r\n\x00b") == r"'a\r\n\x00b'"
    assert len(shown(b"x" * 1000)) < 70


def test_a_refusal_says_which_fault_and_what_was_seen() -> None:
    with pytest.raises(Unacceptable) as malformed_head:
        malformed("seen")
    assert malformed_head.value.refusal == Refusal(faults.REQUEST_MALFORMED, "seen")
    with pytest.raises(Unacceptable) as large_head:
        unacceptable(faults.HEAD_TOO_LARGE, "large")
    assert large_head.value.refusal == Refusal(faults.HEAD_TOO_LARGE, "large")
