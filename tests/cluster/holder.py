"""A process that wants a lease, and does guarded work while it has it: for plays with real ones.

    python -m tests.cluster.holder DSN NAME TTL_S [stubborn] [unguarded]

It says what happens, a line each: `held TOKEN`, `wrote TOKEN`, `fenced TOKEN`, `ended TOKEN`; each
begins with the moment on the monotonic clock, which all processes of a host share. A stubborn one
goes on writing under every token that it ever had, as a bug or a paused thread would. An unguarded
one writes without asking for the token: the fault that the plays must notice.
"""

import asyncio
import random
import sys
import time

from loomproxy.cluster import postgres_store
from loomproxy.cluster.leases import Leases
from loomproxy.cluster.opening import store_of
from loomproxy.cluster.store import FencedError, Held, SchemaError, Store, StoreAwayError
from loomproxy.config.cluster import Database

WRITE_EVERY_S = 0.05
KEY = "effect"

UNGUARDED = """
INSERT INTO config_kv SELECT $4, $5, clock_timestamp(), $3
WHERE $1 <> '' AND $2 <> ''
ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at,
    fencing_token = excluded.fencing_token
RETURNING 1
"""


def say(what: str, token: int) -> None:
    sys.stdout.write(f"{time.monotonic():.6f} {what} {token}\n")
    sys.stdout.flush()


async def write_on(store: Store, held: Held) -> None:
    """Effects, until cancelled or fenced."""
    while True:
        try:
            await store.write(held, KEY, f"{held.owner} {held.token}")
            say("wrote", held.token)
        except FencedError:
            say("fenced", held.token)
            raise
        except (StoreAwayError, SchemaError):
            pass
        await asyncio.sleep(WRITE_EVERY_S)


async def main(dsn: str, name: str, ttl_s: float, how: set[str]) -> None:
    database = Database(
        type="postgres",
        dsn=dsn,
        connect_timeout_s=ttl_s / 8,
        statement_timeout_s=ttl_s / 8,
        lock_timeout_s=ttl_s / 10,
        pool_max=16,
    )
    if "unguarded" in how:
        postgres_store._WRITE = UNGUARDED  # type: ignore[misc] # the seeded fault
    store = store_of(database, name)
    leases = Leases(store, name, ttl_s=ttl_s, retry_s=0.3, dice=random.random)
    stubborn: set[asyncio.Task[None]] = set()

    async def again_and_again(held: Held) -> None:
        while True:
            try:
                await write_on(store, held)
            except FencedError:
                await asyncio.sleep(WRITE_EVERY_S)

    async def work(held: Held) -> None:
        say("held", held.token)
        if "stubborn" in how:
            stubborn.add(asyncio.get_running_loop().create_task(again_and_again(held)))
        try:
            await write_on(store, held)
        finally:
            say("ended", held.token)

    await leases.keep("job", work)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), set(sys.argv[4:])))
