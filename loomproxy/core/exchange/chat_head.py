"""Where a chat goes, at each attempt anew: the newest endpoints of its provider, and a head."""

from typing import Final

from loomproxy.core import hygiene
from loomproxy.core.chat import head as heads
from loomproxy.core.chat.talk import Talk
from loomproxy.core.exchange.state import State
from loomproxy.core.pool import Pool

OF_CHATS: Final = hygiene.HeaderOps()
"""They change nothing. But hygiene remembers heads by the operations that they pass, and those of
chats, of which no two are alike, shall not push out those of others."""


def newest_pool(x: State) -> Pool | None:
    """The pool of the provider as it is now; None: it was taken away.

    Other exchanges keep the pool they were born with. Here its endpoints may be the old generation
    of a plugin, which stops as soon as those are through that it has already.
    """
    pool = x.world.pools.get(x.outcome.pool)
    if pool is not None:
        x.pool = pool
    return pool


def head_up(x: State, chat: Talk) -> bytes:
    """The request head for the endpoint of this attempt, its secrets included."""
    endpoint, target = x.endpoint, chat.target
    assert endpoint is not None
    assert target is not None
    head = heads.for_provider(
        x.request,
        chat.lines,
        endpoint.spec.secrets,
        target=target.provider.target,
        body_bytes=chat.body_bytes,
        stream=chat.asks_stream,
    )
    return hygiene.request_up(
        head,
        peer=x.peer,
        policy=x.snapshot.policy,
        target=head.target,
        host=endpoint.authority,
        ops=OF_CHATS,
        upgrade=False,
        request_id=x.outcome.request_id,
        values=x.values,
    )
