"""Memory stays bounded when one side is slow, however much the other one sends."""

import contextlib
import socket
import threading

import pytest

from tests.support import processes
from tests.support.caller import Ended
from tests.support.origin import Scene, head
from tests.support.stage import Stage
from tests.support.waiting import steady

MIB = 1 << 20
BODY_BYTES = 128 * MIB
PIECE = b"b" * (256 << 10)

HELD_BYTES_MAX = 48 * MIB
"""What may be under way between origin and client: kernel buffers of four sockets, and ours."""

GROWTH_BYTES_MAX = 16 * MIB
"""What a worker may grow while a body passes: its own buffers, and the allocator's taste."""

STAGE = {"limits": {"body_bytes_max": "1GiB"}}


def worker_of(stage: Stage) -> int:
    (worker,) = stage.loom.workers()
    processes.forget_peak(worker)
    return worker


def growth(worker: int, before: int) -> int:
    return processes.memory_bytes(worker, "VmHWM") - before


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_client_that_does_not_read_holds_the_upstream_back(stage: Stage, framing: str):
    sent = 0

    async def pour(scene: Scene) -> None:
        nonlocal sent
        field = (
            ("Content-Length", str(BODY_BYTES))
            if framing == "length"
            else ("Transfer-Encoding", "chunked")
        )
        await scene.send(head(200, [field]))
        while sent < BODY_BYTES:
            piece = PIECE if framing == "length" else b"%x\r\n%b\r\n" % (len(PIECE), PIECE)
            await scene.send(piece)
            sent += len(PIECE)
        if framing == "chunked":
            await scene.send(b"0\r\n\r\n")

    stage.on(pour)
    worker = worker_of(stage)
    before = processes.memory_bytes(worker)
    with stage.caller(receive_bytes=64 << 10) as caller:
        caller.ask(stage.path)
        assert caller.head().status == 200
        held = steady(lambda: sent, for_s=0.5)
        assert held < HELD_BYTES_MAX, f"the upstream could send {held / MIB:.0f} MiB to nobody"
        caller.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * MIB)
        got = count_body(caller, framing)
    assert got == BODY_BYTES
    assert growth(worker, before) < GROWTH_BYTES_MAX


def count_body(caller, framing: str) -> int:
    """Read the whole body and count it, keeping nothing."""
    got = 0
    if framing == "length":
        while got < BODY_BYTES:
            got += len(caller.exactly(min(MIB, BODY_BYTES - got)))
        return got
    while data := caller.chunk():
        got += len(data)
    return got


def test_an_upstream_that_does_not_read_holds_the_client_back(stage: Stage):
    async def lazy(scene: Scene) -> None:
        await scene.cue("read the upload")
        got = 0
        async for part in scene.parts():
            got += len(part)
        await scene.reply(200, b"%d" % got)

    stage.on(lazy)
    worker = worker_of(stage)
    before = processes.memory_bytes(worker)
    sent = 0
    with stage.caller() as caller:
        caller.ask(stage.path, "POST", {"Content-Length": str(BODY_BYTES)})

        def pour() -> None:
            nonlocal sent
            while sent < BODY_BYTES:
                caller.socket.sendall(PIECE)
                sent += len(PIECE)

        pouring = threading.Thread(target=pour, daemon=True)
        pouring.start()
        held = steady(lambda: sent, for_s=0.5)
        stage.origin.give("read the upload")
        response = caller.response()
        pouring.join(10.0)
    assert held < HELD_BYTES_MAX, f"the client could send {held / MIB:.0f} MiB to nobody"
    assert response.body == b"%d" % BODY_BYTES
    assert growth(worker, before) < GROWTH_BYTES_MAX


def test_a_client_that_leaves_a_half_read_body_frees_what_it_held(stage: Stage):
    async def pour(scene: Scene) -> None:
        await scene.send(head(200, [("Content-Length", str(BODY_BYTES))]))
        for _ in range(BODY_BYTES // len(PIECE)):
            await scene.send(PIECE)

    stage.on(pour)
    with stage.caller(receive_bytes=64 << 10) as caller:
        caller.ask(stage.path)
        caller.exactly(100_000)
        line = stage.origin.journal.wait("request", path=stage.path).line
        caller.reset()
    stage.origin.journal.wait("left", line=line, within_s=1.5)


def test_a_pipelining_client_that_never_reads_is_bounded(stage: Stage):
    """Requests wait in the kernel, not in the worker, while their answers are not taken."""
    body = b"p" * 20_000

    async def answer(scene: Scene) -> None:
        await scene.reply(200, body)

    stage.on(answer)
    worker = worker_of(stage)
    before = processes.memory_bytes(worker)
    wanted = f"GET {stage.path} HTTP/1.1\r\nHost: a.example\r\n\r\n".encode()
    with stage.caller(receive_bytes=64 << 10) as caller:
        caller.socket.setblocking(False)
        sent = 0

        def push() -> int:
            nonlocal sent
            with contextlib.suppress(BlockingIOError):
                sent += caller.socket.send(wanted * 200)
            return sent

        steady(push, for_s=0.5)
        answered = steady(
            lambda: len(stage.origin.journal.all("request", path=stage.path)), for_s=0.5
        )
        assert answered * len(body) < HELD_BYTES_MAX
        assert growth(worker, before) < GROWTH_BYTES_MAX
        caller.socket.settimeout(10)
        try:
            assert caller.response().body == body
        except Ended as ended:
            raise AssertionError("the client was thrown out while it was slow") from ended
