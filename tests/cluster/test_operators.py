"""The cluster's pages and commands: who may ask, and what is said to those who ask amiss."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.caller import Caller, ask
from tests.support.instances import document, leader, says
from tests.support.loom import Loom, Looms
from tests.support.places import free_port

ROOT = "/api/v1/cluster"


@pytest.fixture(scope="module")
def one(subject: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loom]:
    """One instance with a file, asked over its socket and, with a token, over TCP."""
    from tests.support.loom import looms

    with looms(subject) as made:
        path = tmp_path_factory.mktemp("store") / "store.db"
        admin = {"address": f"127.0.0.1:{free_port()}", "token": "0123456789abcdef"}
        loom = made.start({"routes": says("file"), "database": {"path": str(path)}, "admin": admin})
        loom.addresses["admin"] = ("127.0.0.1", int(admin["address"].rpartition(":")[2]))
        leader(loom)
        yield loom


def problems(answer: Any) -> str:
    return " ".join(json.loads(answer.body)["problems"])


@pytest.mark.parametrize(
    ("method", "target", "status", "words"),
    [
        ("POST", ROOT, 405, "use GET, HEAD"),
        ("GET", f"{ROOT}/leases/leader/step-down", 405, "use POST"),
        ("DELETE", f"{ROOT}/revisions/1", 405, "use GET, HEAD"),
        ("GET", f"{ROOT}/frobs", 404, "there is no such page"),
        ("GET", f"{ROOT}/revisions/1/2/3", 404, "there is no such page"),
        ("GET", f"{ROOT}/revisions/99", 404, "there is no revision 99"),
        ("GET", f"{ROOT}/revisions/x", 400, "'x' is no number"),
        ("GET", f"{ROOT}/revisions/-1", 400, "is no number"),
        ("GET", f"{ROOT}/revisions/99999999999999999999", 400, "is no number"),
        ("GET", f"{ROOT}/events?limit=x", 400, "limit"),
        ("GET", f"{ROOT}/events?frobs=1", 400, "the parameter 'frobs' is unknown"),
        ("GET", f"{ROOT}/events?{'a=1&' * 20}", 400, "the query cannot be read"),
        ("POST", f"{ROOT}/leases/nothing/step-down", 404, "nobody holds a lease 'nothing'"),
        ("POST", f"{ROOT}/instances/nobody/evict", 404, "there is no instance 'nobody'"),
        ("POST", f"{ROOT}/revisions/99/rollback", 404, "there is no revision 99"),
        ("POST", f"{ROOT}/revisions/0/rollback?expected=5", 409, "published in between"),
        ("POST", f"{ROOT}/revisions", 400, "the request has no body"),
        ("POST", f"{ROOT}/revisions/0/rollback?author={'a' * 300}", 400, "author"),
        ("POST", f"{ROOT}/revisions/0/rollback?note=%00", 400, "note"),
    ],
)
def test_who_asks_amiss_is_told_what_is_expected(
    one: Loom, method: str, target: str, status: int, words: str
) -> None:
    answer = ask(one.admin, target, method)
    assert answer.status == status, answer.body
    assert words in problems(answer)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"\xff\xfe", 400, "not UTF-8"),
        (b"routes: [{pool: nowhere}]", 422, "nowhere is no pool"),
        (b"[1, 2]", 422, "not a mapping"),
        (b"a: 1\na: 2", 422, "stands here again"),
        (b"x" * 1000, 422, ""),
    ],
)
def test_a_document_that_cannot_be_used_is_refused(
    one: Loom, body: bytes, status: int, words: str
) -> None:
    answer = ask(one.admin, f"{ROOT}/revisions", "POST", body=body)
    assert answer.status == status, answer.body
    assert words in problems(answer)


def test_a_document_may_be_large_and_no_larger(one: Loom) -> None:
    filler = "# " + "x" * 1000 + "\n"
    text = document("large") + "\n" + filler * 1000
    answer = ask(one.admin, f"{ROOT}/revisions?note=large", "POST", body=text.encode())
    assert answer.status == 200, answer.body
    with Caller(one.admin) as caller:  # It is refused before it is read.
        head = f"POST {ROOT}/revisions HTTP/1.1\r\nHost: a\r\nContent-Length: {(1 << 20) + 1}\r\n"
        caller.send(f"{head}\r\n".encode())
        assert caller.response().status == 413
    assert ask(one.admin, f"{ROOT}/revisions/0/rollback", "POST").status == 200


def test_a_web_page_publishes_nothing(one: Loom) -> None:
    fields = {"Origin": "http://evil.example"}
    answer = ask(one.admin, f"{ROOT}/revisions/0/rollback", "POST", fields=fields)
    assert answer.status == 403


def test_over_tcp_an_operator_shows_the_token(one: Loom) -> None:
    at = one.addresses["admin"]
    for target in (ROOT, "/api/v1/instances"):
        assert ask(at, target).status == 401
        fields = {"Authorization": "Bearer 0123456789abcdef"}
        assert ask(at, target, fields=fields).status == 200
    assert ask(at, "/metrics").status == 200


def test_where_anybody_may_ask_there_is_no_cluster(proxies: Looms) -> None:
    address = f"127.0.0.1:{free_port()}"
    loom = proxies.start({"routes": says("x"), "admin": {"address": address}})
    at = ("127.0.0.1", int(address.rpartition(":")[2]))
    assert ask(at, ROOT).status == 403
    assert ask(at, "/api/v1/instances").status == 403
    assert loom.ask_admin(ROOT).status == 404


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("publish", "/no/such/file"), "it cannot be read"),
        (("publish", "/dev/null"), "regular file"),
        (("diff", "99"), "there is no revision 99"),
        (("show", "99"), "there is no revision 99"),
        (("evict", ".."), "an empty name"),
        (("step-down", "frobs"), "nobody holds"),
    ],
)
def test_commands_say_what_is_wrong(one: Loom, arguments: tuple[str, ...], words: str) -> None:
    done = one.run("cluster", *arguments, "--admin", f"unix:{one.admin}")
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("status", "this instance"),
        ("leases", "leader"),
        ("events", "elected"),
        ("list", "REVISION"),
    ],
)
def test_commands_show_tables_and_json(one: Loom, command: str, words: str) -> None:
    admin = ("--admin", f"unix:{one.admin}")
    done = one.run("cluster", command, *admin)
    assert done.returncode == 0, done.stderr
    assert words in done.stdout
    as_json = one.run("cluster", command, "--json", *admin)
    assert json.loads(as_json.stdout) is not None


def test_migrating_without_a_store_is_told(one: Loom, proxies: Looms) -> None:
    alone = proxies.prepare({"routes": says("x")})
    done = alone.run("cluster", "migrate", str(alone.config_path))
    assert done.returncode == 1
    assert "no `database` section" in done.stderr
    done = alone.run("cluster", "migrate", "/no/such.yaml")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
