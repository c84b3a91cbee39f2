"""How the heads of one policy and one route are treated; compiled once, then remembered."""

import re
from collections.abc import Iterable
from typing import Final

from msgspec import structs

from loomproxy.core.hygiene.names import (
    HOP_BY_HOP,
    IDENTITY,
    OURS_ALONE,
    OVERRIDES,
    cutter,
    without,
)
from loomproxy.core.hygiene.policy import Family, ForwardPolicy, HeaderOps, Values

_PLACEHOLDER: Final = re.compile(rb"\{(client_ip|request_id|host|scheme|path|route)\}")
_PLANS_MAX: Final = 256  # routes times policies in use; all are forgotten when there are more
_STRIPPED_MAX: Final = 32  # blocks remembered per plan
_STRIPPED_BYTES_MAX: Final = 1024  # of a block that is remembered: 64 KiB per plan
FROM_TRUSTED: Final = "request of a trusted peer"
FROM_ANYBODY: Final = "request"
_REQUEST_KINDS: Final = (FROM_TRUSTED, FROM_ANYBODY)
WITH_LENGTH: Final = "response that keeps its length"
WITHOUT_LENGTH: Final = "response"
THE_ID: Final = b"\0"
"""Stands for the request id in what is kept of a head: no head can hold it (RFC 9110 §5.5)."""


class _Lines:
    """Field lines of the operator's: ready, or with placeholders."""

    __slots__ = ("_names", "_text", "lasts")

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        text = b"".join(b"%b: %b\r\n" % pair for pair in pairs)
        self._names = tuple(name.decode() for name in _PLACEHOLDER.findall(text))
        self._text = _PLACEHOLDER.sub(b"%b", text.replace(b"%", b"%%")) if self._names else text
        self.lasts = not set(self._names) - {"request_id"}

    def resolved(self, values: Values) -> bytes:
        if not self._names:
            return self._text
        values = structs.replace(values, request_id=THE_ID)
        return self._text % tuple(getattr(values, name) for name in self._names)


class Plan:
    """How the heads of one policy, one set of operations and one kind of peer are treated."""

    __slots__ = ("_cut", "_dropped", "_lines", "_stripped", "key_objects", "lasts")

    def __init__(
        self,
        names: Iterable[bytes],
        prefixes: tuple[bytes, ...],
        ops: HeaderOps | None,
        *,
        any_mark: bool,
    ) -> None:
        drops: set[bytes] = set()
        pairs: list[tuple[bytes, bytes]] = []
        if ops is not None:
            ours = [*ops.set, *ops.add]
            drops = {
                name.lower() for name in (*ops.remove, *(name for name, _ in ops.set))
            } - OURS_ALONE
            pairs = [pair for pair in ours if pair[0].lower() not in OURS_ALONE]
        self._cut = cutter({*names, *drops} - {b""}, prefixes, any_mark=any_mark)
        self._dropped = cutter(drops, ()) if drops else None
        self._lines = _Lines(pairs) if pairs else None
        # Whether what it makes of a block differs by nothing but the request id.
        self.lasts = self._lines is None or self._lines.lasts
        self._stripped: dict[bytes, bytes] = {}
        self.key_objects: tuple[object, object] = (None, None)

    def passed(self, block: bytes, nominated: tuple[bytes, ...]) -> bytes:
        """What of `block` passes: nothing that must not, nor what Connection nominates."""
        stripped = self.strip(block)
        return without(stripped, nominated) if nominated else stripped

    def strip(self, block: bytes) -> bytes:
        """`block` without what must never pass."""
        stripped = self._stripped.get(block)
        if stripped is None:
            stripped = self._cut.sub(b"", b"\n" + block)[1:]
            if len(block) <= _STRIPPED_BYTES_MAX:
                if len(self._stripped) >= _STRIPPED_MAX:
                    self._stripped.clear()
                self._stripped[block] = stripped
        return stripped

    def finish(self, own: bytes, values: Values) -> bytes:
        """Our own lines after the operator's operations, the request id left open: `THE_ID`."""
        if self._dropped is not None:
            own = self._dropped.sub(b"", b"\n" + own)[1:]
        return own + self._lines.resolved(values) if self._lines is not None else own


_plans: dict[tuple[int, int, str], Plan] = {}


def plan_for(policy: ForwardPolicy, ops: HeaderOps | None, kind: str) -> Plan:
    """The plan for these objects. It holds them, so that their identities stay theirs."""
    key = (id(policy), id(ops), kind)
    plan = _plans.get(key)
    if plan is None:
        if len(_plans) >= _PLANS_MAX:
            _plans.clear()
        asks = kind in _REQUEST_KINDS
        names, prefixes = _request_names(policy, kind) if asks else _response_names(policy, kind)
        # What the operator sets or removes must not come from a client under a name that the
        # upstream takes for the same.
        plan = Plan(names, prefixes, ops, any_mark=asks)
        plan.key_objects = (policy, ops)
        _plans[key] = plan
    return plan


def _request_names(policy: ForwardPolicy, kind: str) -> tuple[set[bytes], tuple[bytes, ...]]:
    names = {*OURS_ALONE, b"proxy", policy.request_id_header.lower()}
    if kind == FROM_ANYBODY:
        return names | IDENTITY | OVERRIDES, (b"x-forwarded-",)
    if policy.believe is Family.RFC7239:
        believed = {b"forwarded"}
        written = believed if policy.forwarded else set()
        return names | (IDENTITY - believed) | written, (b"x-forwarded-",)
    names.add(b"forwarded")
    if policy.x_forwarded:
        names |= {b"x-forwarded-for", b"x-real-ip", b"x-forwarded-proto", b"x-forwarded-host"}
        names |= {b"x-forwarded-port"}
    return names, ()


def _response_names(policy: ForwardPolicy, kind: str) -> tuple[set[bytes], tuple[bytes, ...]]:
    names = {*HOP_BY_HOP, policy.request_id_header.lower()}
    return (names if kind == WITH_LENGTH else names | {b"content-length"}), ()
