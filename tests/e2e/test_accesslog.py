"""One line per exchange, in the form that was asked for, and none lost when the file is rotated."""

import json
import re
import signal

from tests.support.load import Load
from tests.support.loom import pool, settings, to
from tests.support.stage import Stage
from tests.support.waiting import eventually

FIELDS = {
    "time", "request_id", "client_ip", "method", "host", "target", "protocol", "status",
    "termination", "fault", "route", "pool", "endpoint", "attempts", "reused", "request_bytes",
    "response_bytes", "wait_ms", "connect_ms", "response_ms", "body_ms", "total_ms",
}  # fmt: skip


def test_a_json_line_tells_all(stage: Stage):
    response = stage.ask(None, "POST", body=b"12345", fields={"Host": "shop.example"})
    line = stage.loom.line(stage.path)
    assert set(line) >= FIELDS
    assert line["method"] == "POST"
    assert line["host"] == "shop.example"
    assert line["protocol"] == "HTTP/1.1"
    assert line["status"] == 200
    assert line["termination"] == "--"
    assert line["fault"] is None
    assert (line["route"], line["pool"], line["endpoint"]) == ("app", "app", stage.origin.url)
    assert line["attempts"] == 1
    assert (line["request_bytes"], line["response_bytes"]) == (5, len(response.body))
    assert line["total_ms"] >= line["response_ms"] >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|\+00:00)", line["time"])


def test_a_refused_head_has_a_line_too(stage: Stage):
    with stage.caller() as caller:
        caller.send(b"NONSENSE\r\n\r\n")
        assert caller.response().status == 400
    found = eventually(
        lambda: [line for line in stage.loom.lines() if line["fault"] == "request_malformed"],
        "a line of the refusal",
    )
    assert (found[0]["status"], found[0]["termination"]) == (400, "LR")


def test_hostile_bytes_cannot_forge_a_line(stage: Stage):
    stage.ask(fields={"Host": "shop.example", "User-Agent": 'a"\\ \xff b'})
    target = stage.path + "/%22%0a?x=\"'"
    stage.loom.ask(target)
    eventually(lambda: any(line["target"] == target for line in stage.loom.lines()), "the line")


def test_a_combined_line_is_what_log_tools_read(proxies, origin):
    loom = proxies.prepare(settings(pools={"app": pool(origin.url)}, routes=[to("app")]))
    loom.write_config(
        {**loom.config, "access_log": {"path": str(loom.access_path), "format": "combined"}}
    )
    loom.start()
    response = loom.ask(
        "/page?q=1", fields={"User-Agent": 'Moz"illa', "Referer": "http://here.example/"}
    )
    text = eventually(lambda: loom.access_path.exists() and loom.access_path.read_text(), "a line")
    found = re.fullmatch(
        r"127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "
        r'"GET /page\?q=1 HTTP/1\.1" 200 (\d+) '
        r'"http://here\.example/" "Moz\\x22illa" (\S+) --\n',
        text,
    )
    assert found, text
    assert int(found[1]) == len(response.body)
    assert found[2] == response.head.field("x-request-id")


def test_the_log_may_go_to_stdout(proxies, origin):
    loom = proxies.prepare(settings(pools={"app": pool(origin.url)}, routes=[to("app")]))
    loom.write_config({**loom.config, "access_log": {"path": "stdout"}})
    loom.start()
    loom.ask("/to-stdout")
    eventually(lambda: '"/to-stdout"' in loom.said(), "the line on stdout")


def test_no_line_is_lost_when_the_log_is_rotated_under_load(proxies, origin):
    loom = proxies.start(
        settings(node={"workers": 2}, pools={"app": pool(origin.url)}, routes=[to("app")])
    )
    old = []
    with Load(loom.http, "/x", callers=6) as load:
        for number in range(3):
            load.wait_answered(50)
            rotated = loom.directory / f"access.log.{number}"
            loom.access_path.rename(rotated)
            old.append(rotated)
            loom.signal(signal.SIGUSR1)
            eventually(loom.access_path.exists, "a new file")
        load.wait_answered(50)
        score = load.finish()
    assert score.failed == []

    def lines() -> list[str]:
        return [line for path in (*old, loom.access_path) for line in path.read_text().splitlines()]

    eventually(lambda: len(lines()) >= score.answered, "every line")
    written = [json.loads(line) for line in lines()]
    assert len(written) == score.answered
    assert len({line["request_id"] for line in written}) == score.answered
    assert load_is_done(loom.access_path)


def load_is_done(path) -> bool:
    """The newest file has the newest lines: both workers went over to it."""
    return path.stat().st_size > 0


def test_lines_of_the_last_exchanges_are_written_before_it_leaves(proxies, origin):
    loom = proxies.start(settings(pools={"app": pool(origin.url)}, routes=[to("app")]))
    for number in range(20):
        loom.ask(f"/last/{number}")
    loom.signal(signal.SIGTERM)
    assert loom.wait_exit() == 0
    assert [line["target"] for line in loom.lines()] == [f"/last/{number}" for number in range(20)]
