"""Compares what both sides saw of a case with what the case says."""

from tests.differential.play import Observation
from tests.differential.recorder import Received, mark
from tests.support.corpus import Client, RequestCase, ResponseCase, Wanted


def request_problems(case: RequestCase, saw: Observation) -> list[str]:
    """What differs; nothing where all is as the case says."""
    found = _client_problems(case.seen(), saw) + _upstream_problems(case.wanted(), saw)
    if saw.begun and not (case.cut or case.leaves()):
        found.append(f"a refused request began at the upstream: {saw.raw!r}")
    if not saw.settled:
        found.append("somebody else was not served, or a request was left half-sent")
    ours = case.client is not None and case.client.body is not None
    if case.answer is None and not ours:
        answered = [answer.body for answer in saw.finals() if answer.status == 200]
        asked = [
            b"" if request.method == "HEAD" else mark(request.method, request.target)
            for request in saw.requests
        ]
        if answered != asked:
            found.append(f"an answer belongs to another request: {answered}, not {asked}")
    return found


def response_problems(case: ResponseCase, saw: Observation) -> list[str]:
    """What differs; nothing where all is as the case says."""
    found = _client_problems(case.seen(), saw) + saw.unreadable
    if not saw.settled:
        found.append("somebody else was not served, or got an answer that was not theirs")
    asked = [(request.method, request.target) for request in saw.requests]
    if asked != [(case.method, "/asked")]:
        found.append(f"the upstream was asked {asked}")
    return found


def _client_problems(want: Client, saw: Observation) -> list[str]:
    found = []
    if saw.statuses() != want.statuses:
        found.append(f"the client saw {saw.statuses()}, not {want.statuses}")
    if saw.ending != want.then:
        found.append(f"the client's connection was {saw.ending}, not {want.then}")
    finals = saw.finals()
    if want.cut is not any(not answer.whole for answer in finals):
        found.append(f"an answer was {'whole' if want.cut else 'cut'}")
    if want.body is not None and (not finals or finals[0].body != want.body.encode("latin-1")):
        found.append(f"the client read {finals and finals[0].body!r}, not {want.body!r}")
    head = finals[0].head.lower() if finals else b""
    passed = [name for name in want.absent if f"\r\n{name}:".lower().encode() in head]
    return found + [f"the client saw {name}" for name in passed]


def _upstream_problems(wanted: list[Wanted], saw: Observation) -> list[str]:
    found = list(saw.unreadable)
    if len(saw.requests) != len(wanted):
        targets = [f"{request.method} {request.target}" for request in saw.requests]
        found.append(f"{len(saw.requests)} requests arrived, not {len(wanted)}: {targets}")
    for want, request in zip(wanted, saw.requests, strict=False):
        found += _differences(want, request)
    return found


def _differences(want: Wanted, have: Received) -> list[str]:
    pairs = [
        ("method", want.method, have.method),
        ("target", want.target, have.target),
        ("host", have.host() if want.host == "*" else want.host, have.host()),
        ("body", want.body, have.body.decode("latin-1")),
        ("framing", want.framing or have.framing, have.framing),
        ("trailers", want.trailers, have.trailers),
    ]
    found = [f"its {what} is {got!r}, not {must!r}" for what, must, got in pairs if must != got]
    lines = {f"{name}: {value}" for name, value in have.fields}
    for line in want.present:
        name, _, value = line.partition(":")
        if f"{name.lower()}: {value.strip()}" not in lines:
            found.append(f"{line!r} is not among its fields {sorted(lines)}")
    passed = [name for name in want.absent if have.all(name.lower())]
    return found + [f"{name} arrived: {have.all(name.lower())}" for name in passed]
