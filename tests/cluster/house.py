"""What the cluster's tests have in common: a store that is open, and somebody on its list."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from loomproxy.cluster.opening import store_of
from loomproxy.cluster.store import Held, Member, Report, Store
from loomproxy.config.cluster import Database

ACTIVE: Final = Report("active", 0)

Where = Callable[..., Database]


@asynccontextmanager
async def opened(database: Database, *, migrated: bool = True) -> AsyncIterator[Store]:
    """A store that is ready, and closed afterwards."""
    store = store_of(database, "test")
    try:
        await store.open()
        if migrated:
            await store.migrate()
        yield store
    finally:
        await store.close()


def member(instance_id: str = "one", incarnation: str = "1" * 32, **more: Any) -> Member:
    """Somebody to put on the list."""
    known = {
        "hostname": "host",
        "version": "1.2.3",
        "zone": "a",
        "addresses": ("10.0.0.1:8080",),
        "metadata": {"rack": "7"},
        "pid": 42,
        **more,
    }
    return Member(instance_id=instance_id, incarnation=incarnation, **known)


async def taken(store: Store, name: str, owner: str, ttl_s: float = 60.0) -> Held:
    """A lease that must be free."""
    held = await store.acquire(name, owner, ttl_s)
    assert isinstance(held, Held), held
    return held


async def eventually(claim: Callable[[], Awaitable[Any]], *, tries: int = 500) -> Any:
    """The first true value of a question to a store, which announces nothing."""
    import asyncio

    for _ in range(tries):
        value = await claim()
        if value:
            return value
        await asyncio.sleep(0.01)
    raise AssertionError("it never became true")
