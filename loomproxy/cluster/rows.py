"""Rows of the tables that both stores have, and our structs: there and back."""

from collections.abc import Sequence
from typing import Any

import orjson

from loomproxy.cluster.store import Member, MemberView, Report


def json_of(value: object) -> str:
    """A list or a table, as a column holds it."""
    return orjson.dumps(value).decode()


def instance_columns(member: Member, report: Report) -> tuple[object, ...]:
    """What is inserted into `instances`, up to and including `problems`."""
    return (
        member.instance_id,
        member.incarnation,
        member.hostname,
        member.version,
        member.zone,
        json_of(member.addresses),
        json_of(member.metadata),
        member.pid,
        *report_columns(report),
    )


def report_columns(report: Report) -> tuple[str, int, int, str]:
    """What a beat updates."""
    return report.status, report.revision, report.refused, json_of(report.problems)


def view_of(row: Sequence[Any], active_within_s: float) -> MemberView:
    """A row of `instances`: the columns above, `evicted`, both moments, and how long silent."""
    evicted, started_at, seen_at, silent_s = row[12:]
    return MemberView(
        member=Member(
            instance_id=row[0],
            incarnation=row[1],
            hostname=row[2],
            version=row[3],
            zone=row[4],
            addresses=tuple(orjson.loads(row[5])),
            metadata=orjson.loads(row[6]),
            pid=row[7],
        ),
        report=Report(row[8], row[9], tuple(orjson.loads(row[11])), row[10]),
        started_at=started_at,
        seen_at=seen_at,
        silent_s=silent_s,
        active=silent_s <= active_within_s and not evicted,
        evicted=bool(evicted),
    )
