"""Bounds fit together."""

from loomproxy.core import fault as faults
from loomproxy.core.http1 import limits


def test_every_default_bound_is_finite_and_a_target_fits_into_a_head() -> None:
    default = limits.Limits()
    assert 0 < default.target_bytes_max < default.head_bytes_max
    assert default.fields_max > 0
    assert 0 < default.body_bytes_max < 10**limits.LENGTH_DIGITS_MAX


def test_no_length_we_read_overflows_a_signed_64_bit_integer() -> None:
    assert 10**limits.LENGTH_DIGITS_MAX < 2**63
    assert 16**limits.CHUNK_SIZE_DIGITS_MAX < 2**63


def test_a_refusal_says_what_for_the_client_and_what_for_the_log() -> None:
    refusal = limits.Refusal(faults.REQUEST_MALFORMED, "seen")
    assert refusal.fault.status == 400
    assert refusal.detail == "seen"
