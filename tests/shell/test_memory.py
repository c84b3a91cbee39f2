"""What an idle connection costs."""

import tracemalloc

from tests.shell.stage import run, stage


def test_idle_connection_holds_little_memory() -> None:
    """The budget is 8 KiB, the transport included; what we add ourselves shall be half of that."""
    sizes: list[float] = []

    async def play() -> None:
        async with stage() as it:
            request = (
                b"GET /fixed HTTP/1.1\r\nHost: a.example\r\nUser-Agent: Mozilla/5.0\r\n"
                b"Accept: */*\r\nAccept-Language: en\r\nCookie: sid=%s\r\n\r\n"
            )
            count = 200
            it.client().send(request % b"0")
            tracemalloc.start()
            before, _ = tracemalloc.get_traced_memory()
            clients = []
            for number in range(count):
                client = it.client()
                client.send(request % (b"%064d" % number))
                clients.append(client.downstream)
                transport = client.transport
                transport.writes.clear()
                transport.answers()
                transport.protocol = None
                client.downstream._transport = None  # the fake is heavier than the real one
            it.outcomes.clear()
            del client, transport
            now, _ = tracemalloc.get_traced_memory()
            sizes.append((now - before) / count)
            tracemalloc.stop()
            for downstream in clients:
                downstream.connection_lost(None)

    run(play)
    print(f"{sizes[0]:.0f} bytes for each idle connection")
    assert sizes[0] < 4096
