"""Who is let in where: the private socket, TCP with a token, and TCP without one."""

import asyncio

import pytest

from tests.node.fakes import Plugins, plugin
from tests.node.house import TOKEN, House

OPERATORS = (
    ("/api/v1/status", "GET"),
    ("/api/v1/reload", "POST"),
    ("/api/v1/drain", "POST"),
    ("/api/v1/plugins", "GET"),
    ("/api/v1/plugins/acme", "GET"),
    ("/api/v1/plugins/acme/logs", "GET"),
    ("/api/v1/plugins/acme/stop", "POST"),
    ("/nothing", "GET"),
)
BEARER = f"Authorization: Bearer {TOKEN}\r\n"


def test_public_pages_need_no_token() -> None:
    async def play() -> None:
        house = House(Plugins(), token=TOKEN)
        for path in ("/health", "/metrics"):
            assert (await house.ask_tcp(path)).status == 200
            assert (await house.ask_tcp(path, "HEAD")).status == 200

    asyncio.run(play())


@pytest.mark.parametrize(
    "fields",
    [
        "",
        f"Authorization: Bearer {TOKEN}x\r\n",
        f"Authorization: Bearer {TOKEN[:-1]}\r\n",
        "Authorization: Bearer\r\n",
        "Authorization: Bearer \r\n",
        f"Authorization: {TOKEN}\r\n",
        f"Authorization: Basic {TOKEN}\r\n",
        f"Authorization: Bearer wrong\r\n{BEARER}",
        f"{BEARER}{BEARER}",
        f"X-Authorization: Bearer {TOKEN}\r\nX-Role: admin\r\nX-User-Id: root\r\n",
        f"Cookie: token={TOKEN}\r\n",
    ],
)
def test_whoever_does_not_show_the_token_is_nobody(fields: str) -> None:
    async def play() -> None:
        operator = Plugins(plugin())
        house = House(operator, token=TOKEN)
        for target, method in OPERATORS:
            reply = await house.ask_tcp(target, method, fields)
            assert reply.status == 401, target
            assert reply.extra == b'WWW-Authenticate: Bearer realm="loomproxy"\r\n'
            assert b"admin.token" in reply.body
            assert TOKEN.encode() not in reply.body
        assert (await house.ask_tcp(f"/api/v1/plugins?token={TOKEN}", "GET", fields)).status == 401
        assert operator.done == []
        assert house.drained == 0

    asyncio.run(play())


@pytest.mark.parametrize(
    "fields", [BEARER, f"authorization: bearer {TOKEN}\r\n", f"Authorization: BEARER  {TOKEN} \r\n"]
)
def test_whoever_shows_the_token_is_an_operator(fields: str) -> None:
    async def play() -> None:
        operator = Plugins(plugin())
        house = House(operator, token=TOKEN)
        seen = [
            (await house.ask_tcp(target, method, fields)).status for target, method in OPERATORS
        ]
        assert seen == [200, 200, 202, 200, 200, 200, 200, 404]
        assert operator.done == [("stop", "acme")]
        assert house.drained == 1

    asyncio.run(play())


def test_without_a_token_plugins_are_not_on_tcp_and_the_rest_is_as_ever() -> None:
    async def play() -> None:
        operator = Plugins(plugin())
        house = House(operator)
        seen = [(await house.ask_tcp(target, method)).status for target, method in OPERATORS]
        assert seen == [200, 200, 202, 403, 403, 403, 403, 404]
        reply = await house.ask_tcp("/api/v1/plugins/acme/stop", "POST", BEARER)
        assert reply.status == 403, "a token is shown, and there is none"
        assert b"Set admin.token, or use the private Unix socket." in reply.body
        assert operator.done == []

    asyncio.run(play())


def test_the_private_socket_asks_for_nothing() -> None:
    async def play() -> None:
        for token in (None, TOKEN):
            house = House(Plugins(plugin()), token=token)
            seen = [(await house.ask(target, method)).status for target, method in OPERATORS]
            assert seen == [200, 200, 202, 200, 200, 200, 200, 404]

    asyncio.run(play())


def test_commands_from_web_pages_are_refused_though_they_show_the_token() -> None:
    async def play() -> None:
        operator = Plugins(plugin())
        house = House(operator, token=TOKEN)
        fields = f"Origin: http://evil.example\r\n{BEARER}"
        for target, method in OPERATORS:
            if method == "POST":
                assert (await house.ask_tcp(target, method, fields)).status == 403
                assert (await house.ask(target, method, fields)).status == 403
        assert operator.done == []
        assert house.drained == 0

    asyncio.run(play())
