"""One plugin's publication: what workers refuse of it hurts no other."""

import asyncio

from loomproxy.core.chat.provider import Provider
from loomproxy.plugins.publisher import Publisher

ACME = Provider("acme", reason="one")
BETA = Provider("beta")


def test_each_change_goes_out_with_all_the_others_and_a_refused_one_is_forgotten() -> None:
    async def play() -> None:
        heard: list[tuple[Provider, ...]] = []

        async def publish(providers: tuple[Provider, ...]) -> tuple[str, ...]:
            heard.append(providers)
            return ("no",) if any(one.reason == "bad" for one in providers) else ()

        publisher = Publisher(publish)
        assert await publisher.put("beta", lambda: BETA) == ()
        assert await publisher.put("acme", lambda: ACME) == ()
        assert await publisher.put("acme", lambda: ACME) == ()  # nothing new, nothing said
        assert heard == [(BETA,), (ACME, BETA)]
        assert await publisher.put("acme", lambda: Provider("acme", reason="bad")) == ("no",)
        assert await publisher.put("beta", lambda: None) == ()
        assert heard[-1] == (ACME,)
        assert await publisher.put("beta", lambda: None) == ()
        assert len(heard) == 4

    asyncio.run(play())
