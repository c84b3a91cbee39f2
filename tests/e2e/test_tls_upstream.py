"""Endpoints at https://: whom the proxy believes, and that all the rest works as without TLS."""

import asyncio
import hashlib
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import websockets.asyncio.client
import websockets.asyncio.server

from tests.support import processes
from tests.support.loom import pool, to
from tests.support.origin import Scene, chunk, head
from tests.support.places import free_port
from tests.support.secured import POURED_BYTES, Scenery
from tests.support.secured import scenery as made_up
from tests.support.waiting import WITHIN_S, eventually, steady

MIB = 1 << 20
PIECE = b"b" * (256 << 10)

HELD_BYTES_MAX = 48 * MIB
"""What may be under way between origin and client: kernel buffers of four sockets, and ours."""

GROWTH_BYTES_MAX = 16 * MIB
"""What a worker may grow while a body passes."""

ASK = {"Connection": "Upgrade", "Upgrade": "websocket"}
SWITCH = head(101, [("Connection", "Upgrade"), ("Upgrade", "websocket")])


@pytest.fixture(scope="module")
def scenery(subject: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenery]:
    with made_up(subject, tmp_path_factory.mktemp("secured")) as made:
        yield made


# ---- Who is believed. ----------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["good", "numbered", "named", "anybody", "shown"])
def test_an_endpoint_that_proves_itself_is_spoken_to(scenery: Scenery, place: str):
    seen = scenery.ask(place, "/x?y", method="POST", body=b"hello").json()
    assert (seen["target"], seen["body"]) == ("/x?y", "hello")
    (host,) = [value for name, value in seen["fields"] if name == "host"]
    assert host.endswith(str(scenery.origins[seen["origin"]].port))


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("self", "self-signed certificate"),
        ("system", "unable to get local issuer certificate"),
        ("other", "certificate is not valid for 'localhost'"),
        ("expired", "certificate has expired"),
        ("old", "protocol"),
        ("plain", "it does not speak TLS"),
        ("rude", "it ended the connection in the handshake"),
    ],
)
def test_one_that_does_not_is_a_502_and_hears_nothing(scenery: Scenery, place: str, reason: str):
    target = f"/{place}-refused"
    response = scenery.ask(place, target)
    assert response.status == 502
    assert b"\nThe upstream could not be reached securely.\nRequest-ID: " in response.body
    line = scenery.loom.line(f"/{place}{target}")
    assert (line["fault"], line["attempts"], line["termination"][0]) == ("tls_failed", 3, "U")
    assert not any(each.journal.all("request", path=target) for each in scenery.origins.values())
    scenery.because(reason)


def test_one_that_asks_for_a_certificate_gets_none_that_was_not_configured(scenery: Scenery):
    assert scenery.ask("strict").status == 502
    scenery.because("certificate required")


def test_a_handshake_counts_as_connecting(scenery: Scenery):
    (worker,) = scenery.loom.workers()
    assert scenery.ask("silent").status == 504
    assert scenery.loom.line("/silent/x")["fault"] == "connect_timeout"
    before, began_at = descriptors(worker), time.monotonic()
    assert scenery.ask("silent").status == 504
    assert time.monotonic() - began_at < WITHIN_S / 2
    eventually(lambda: descriptors(worker) <= before, "the connections closed")


def descriptors(worker: int) -> int:
    return len(list(Path(f"/proc/{worker}/fd").iterdir()))


def test_endpoints_are_probed_in_tls(scenery: Scenery):
    scenery.origins["good"].journal.wait("request", path="/well")
    scenery.loom.wait_said('reason="self-signed certificate"')
    lines = scenery.loom.said().splitlines()
    unhealthy = {line for line in lines if 'event="endpoint unhealthy"' in line}
    (said,) = {line for line in unhealthy if scenery.origins["self"].url in line}
    assert "self-signed certificate" in said
    assert scenery.origins["good"].url not in "".join(unhealthy)


def test_what_is_spoken_is_tls_1_3_http_1_1_under_the_right_name(scenery: Scenery):
    async def tell(scene: Scene) -> None:
        line = scene.line.transport.get_extra_info("ssl_object")
        await scene.reply(200, f"{line.version()} {line.selected_alpn_protocol()}".encode())

    scenery.origins["good"].on("/tell", tell)
    assert scenery.ask("good", "/tell").body == b"TLSv1.3 http/1.1"
    assert "localhost" in scenery.asked  # Probes of other pools ask for other names.


# ---- The rest works as ever. ---------------------------------------------------------------------


def test_a_connection_is_used_again(scenery: Scenery):
    with scenery.loom.caller() as caller:
        lines = {caller.get("/good/again").json()["line"] for _ in range(5)}
    assert len(lines) == 1


def test_an_idle_connection_that_ended_is_not_missed(scenery: Scenery):
    first = scenery.ask("good", "/again").json()["line"]
    scenery.origins["good"].drop_idle()
    assert scenery.ask("good", "/again").json()["line"] != first


def test_one_that_is_closed_as_it_is_used_again_is_a_race_lost(scenery: Scenery):
    with scenery.loom.caller() as caller:
        assert [caller.get("/once/again").status for _ in range(3)] == [200] * 3
    lines = [scenery.loom.line("/once/again", count=count) for count in (1, 2, 3)]
    assert [line["attempts"] for line in lines] == [1, 2, 2]


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_large_bodies_pass_whole_both_ways(scenery: Scenery, framing: str):
    body = bytes(range(251)) * (3 * MIB // 251)

    async def mirror(scene: Scene) -> None:
        heard = await scene.body()
        assert heard == body
        if framing == "length":
            await scene.send(head(200, [("Content-Length", str(len(body)))]))
        elif framing == "chunked":
            await scene.send(head(200, [("Transfer-Encoding", "chunked")]))
        else:
            await scene.send(head(200))
        for at in range(0, len(body), 70_000):
            piece = body[at : at + 70_000]
            await scene.send(chunk(piece) if framing == "chunked" else piece)
        if framing == "chunked":
            await scene.send(b"0\r\n\r\n")
        if framing == "close":
            scene.line.close()

    scenery.origins["good"].on(f"/{framing}", mirror)
    response = scenery.ask("good", f"/{framing}", method="POST", body=body)
    assert response.status == 200
    assert hashlib.sha256(response.body).digest() == hashlib.sha256(body).digest()


@pytest.mark.parametrize("place", ["pour", "pour_in_order"])
def test_nothing_is_lost_when_the_upstream_ends_before_a_slow_client_has_read(
    scenery: Scenery, place: str
):
    """What TLS has read when the end comes must not be dropped, though nobody takes it yet."""
    for number in range(3):
        with scenery.loom.caller(receive_bytes=16 << 10) as caller:
            caller.ask(f"/{place}/{number}")
            assert caller.head().status == 200
            assert caller.exactly(POURED_BYTES) == b"p" * POURED_BYTES
        assert scenery.loom.line(f"/{place}/{number}")["termination"] == "--"


def test_a_body_that_lasts_until_the_close_needs_an_announced_one(scenery: Scenery):
    """RFC 9112 §9.8: without close_notify anybody may have cut it."""

    async def ends(scene: Scene) -> None:
        await scene.send(head(200) + b"half or whole?")
        await scene.cue("end")
        if scene.path == "/announced":
            scene.line.close()
        else:
            scene.line.vanish()

    origin = scenery.origins["good"]
    for path, how in (("/announced", "closed"), ("/cut", "reset")):
        origin.on(path, ends)
        with scenery.loom.caller() as caller:
            caller.ask(f"/good{path}", fields={"Connection": "close"})
            answer = caller.head()
            assert answer.status == 200
            caller.until(b"whole?")
            origin.give("end")
            rest, ended = caller.rest()
            assert (ended, rest.endswith(b"0\r\n\r\n")) == (how, how == "closed")
    assert scenery.loom.line("/good/announced")["termination"] == "--"
    assert scenery.loom.line("/good/cut")["fault"] == "upstream_cut"


def test_a_client_that_does_not_read_holds_the_upstream_back(scenery: Scenery):
    sent = 0

    async def pour(scene: Scene) -> None:
        nonlocal sent
        await scene.send(head(200, [("Content-Length", str(1 << 30))]))
        while True:
            await scene.send(PIECE)
            sent += len(PIECE)

    scenery.origins["good"].on("/endless", pour)
    (worker,) = scenery.loom.workers()
    processes.forget_peak(worker)
    before = processes.memory_bytes(worker)
    with scenery.loom.caller(receive_bytes=64 << 10) as caller:
        caller.ask("/good/endless")
        assert caller.head().status == 200
        held = steady(lambda: sent, for_s=0.3)
        assert held < HELD_BYTES_MAX
        got = sum(len(caller.exactly(MIB)) for _ in range(24))  # It goes on when we do.
    assert got == 24 * MIB
    assert processes.memory_bytes(worker, "VmHWM") - before < GROWTH_BYTES_MAX


def test_an_upstream_that_does_not_read_holds_the_client_back(scenery: Scenery):
    async def later(scene: Scene) -> None:
        await scene.cue("read on")
        size = 0
        async for part in scene.parts():
            size += len(part)
        await scene.reply(200, str(size).encode())

    origin = scenery.origins["good"]
    origin.on("/later", later)
    (worker,) = scenery.loom.workers()
    processes.forget_peak(worker)
    before = processes.memory_bytes(worker)
    total, sent = 64 * MIB, 0
    with scenery.loom.caller() as caller:
        caller.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)
        caller.ask("/good/later", "POST", fields={"Content-Length": str(total)})

        def send() -> None:
            nonlocal sent
            while sent < total:
                caller.send(PIECE)
                sent += len(PIECE)

        thread = threading.Thread(target=send)
        thread.start()
        held = steady(lambda: sent, for_s=0.3)
        origin.give("read on")
        thread.join(WITHIN_S)
        assert held < HELD_BYTES_MAX
        assert caller.response().body == str(total).encode()
    assert processes.memory_bytes(worker, "VmHWM") - before < GROWTH_BYTES_MAX


# ---- Tunnels. ------------------------------------------------------------------------------------


def test_a_client_that_says_its_last_in_a_tunnel_ends_it(scenery: Scenery):
    """TLS cannot end one direction: the upstream hears all that was said, and then the end."""

    async def listen(scene: Scene) -> None:
        await scene.send(SWITCH)
        heard = b""
        while data := await scene.line.some():
            heard += data
        scene.note("heard", data=heard)
        scene.line.close()

    origin = scenery.origins["good"]
    origin.on("/listen", listen)
    with scenery.loom.caller() as caller:
        caller.ask("/good/listen", fields=ASK)
        assert caller.head().status == 101
        caller.send(b"last words").finish()
        origin.journal.wait("heard", path="/listen", data=b"last words")
        assert caller.rest() == (b"", "closed")
    assert scenery.loom.line("/good/listen")["termination"] == "--"


def test_an_upstream_that_says_its_last_in_a_tunnel_ends_it(scenery: Scenery):
    async def speak(scene: Scene) -> None:
        await scene.send(SWITCH + b"all I have")
        scene.line.close()

    scenery.origins["good"].on("/speak", speak)
    with scenery.loom.caller() as caller:
        caller.ask("/good/speak", fields=ASK)
        assert caller.head().status == 101
        assert caller.rest() == (b"all I have", "closed")
    assert scenery.loom.line("/good/speak")["termination"] == "--"
    assert "has no effect when using ssl" not in scenery.loom.said()


def test_a_websocket_talks_through_tls(scenery: Scenery):
    port = free_port()
    context = scenery.authority.server(scenery.authority.directory / "good.pem")
    tls = {"ca_file": str(scenery.authority.file)}
    config = dict(scenery.loom.config)
    config["pools"] = {**config["pools"], "ws": pool(f"https://localhost:{port}", tls=tls)}
    config["routes"] = [*config["routes"], to("ws", "/ws")]
    scenery.loom.reload(config)

    async def reply(connection: websockets.asyncio.server.ServerConnection) -> None:
        async for message in connection:
            await connection.send(message[::-1])

    async def play() -> list[object]:
        url = scenery.loom.url("/ws").replace("http", "ws")
        async with (
            asyncio.timeout(WITHIN_S),
            websockets.asyncio.server.serve(
                reply, "127.0.0.1", port, ssl=context, max_size=1 << 22
            ),
            websockets.asyncio.client.connect(url, max_size=1 << 22, proxy=None) as client,
        ):
            answers: list[object] = []
            for message in ("hello", b"\x00\x01", b"z" * MIB):
                await client.send(message)
                answers.append(await client.recv() == message[::-1])
            await client.close(4000, "enough")
            return [*answers, client.close_code]

    assert asyncio.run(play()) == [True, True, True, 4000]
    assert scenery.loom.line("/ws")["termination"] == "--"


# ---- Files. --------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_used_keeps_the_old_configuration(scenery: Scenery, tmp_path: Path):
    loom, before = scenery.loom, dict(scenery.loom.config)
    other = scenery.authority.directory / "self.key"
    wrong = {
        "ca_file": str(tmp_path / "none.pem"),
        "client_certificate": str(scenery.authority.directory / "good.crt"),
        "client_key": str(other),
    }
    config = {**before, "pools": {**before["pools"]}}
    config["pools"]["good"] = {**before["pools"]["good"], "tls": wrong}
    loom.write_config(config)
    done = loom.run("check", str(loom.config_path))
    assert done.returncode == 1
    assert "pools.good.tls.ca_file: " in done.stderr
    assert "none.pem cannot be read (No such file or directory)" in done.stderr
    done = loom.run("reload", "--admin", f"unix:{loom.admin}")
    assert done.returncode == 1
    assert "none.pem cannot be read" in done.stderr + done.stdout
    loom.wait_note("RELOADING=1")
    loom.wait_note("READY=1")
    loom.write_config(before)
    assert scenery.ask("good").status == 200


def test_a_reload_takes_what_the_files_hold_by_then(scenery: Scenery):
    """The CA that a pool trusts is replaced under the same name."""
    loom, trusted = scenery.loom, scenery.directory / "trusted.pem"
    assert scenery.ask("renewed").status == 502
    shutil.copy(scenery.renewal, trusted)
    loom.reload(loom.config)
    assert scenery.ask("renewed").status == 200
    trusted.unlink()  # Nobody reads it for a connection.
    scenery.origins["new"].drop_idle()
    assert scenery.ask("renewed").status == 200
    shutil.copy(scenery.authority.file, trusted)
    loom.reload(loom.config)


# ---- Another server. -----------------------------------------------------------------------------


def test_nginx_is_believed_and_answers(scenery: Scenery):
    (scenery.directory / "a.txt").write_bytes(b"n" * MIB)
    with scenery.loom.caller() as caller:
        assert [caller.get("/nginx/a.txt").body for _ in range(3)] == [b"n" * MIB] * 3
        assert caller.get("/nginx/a.txt", fields={"Range": "bytes=0-9"}).body == b"n" * 10
