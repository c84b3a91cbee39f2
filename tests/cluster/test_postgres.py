"""What PostgreSQL and the way to it can do to us: each call ends in a bounded time, and says so."""

import asyncio
import time
from pathlib import Path

import pytest

from loomproxy.cluster.postgres_store import PostgresStore
from loomproxy.cluster.store import Held, SchemaError, StoreAwayError
from loomproxy.config.cluster import Database
from tests.cluster.house import ACTIVE, member, opened, taken
from tests.support.authority import Authority
from tests.support.passage import passage
from tests.support.postgres import Postgres, postgres

CONNECT_S, STATEMENT_S = 0.4, 0.5
SLACK_S = 1.0


def hurried(dsn: str, **more: object) -> Database:
    return Database(
        type="postgres",
        dsn=dsn,
        connect_timeout_s=CONNECT_S,
        statement_timeout_s=STATEMENT_S,
        lock_timeout_s=0.2,
        **more,
    )


@pytest.mark.parametrize("fault", ["stall", "swallow_answers", "cut"])
def test_a_server_that_does_not_answer_costs_a_bounded_time(
    server: Postgres, database: str, fault: str
) -> None:
    async def play() -> None:
        with passage(server.port) as way:
            async with opened(hurried(server.dsn(database, port=way.port))) as store:
                held = await taken(store, "leader", "a")
                getattr(way, fault)()
                for call in (
                    lambda: store.acquire("other", "a", 5.0),
                    lambda: store.renew(held, 5.0),
                    lambda: store.beat("one", "a", ACTIVE),
                    lambda: store.write(held, "k", "v"),
                    store.revisions,
                    store.open,
                ):
                    began = time.monotonic()
                    with pytest.raises(StoreAwayError):
                        await call()
                    assert time.monotonic() - began < CONNECT_S + STATEMENT_S + SLACK_S
                began = time.monotonic()
                await store.close()
                assert time.monotonic() - began < 2 * STATEMENT_S + SLACK_S
                way.heal()
                assert await store.read("k") in (None, "v")

    asyncio.run(play())


def test_a_connection_that_broke_is_replaced(server: Postgres, database: str) -> None:
    async def play() -> None:
        with passage(server.port) as way:
            async with opened(hurried(server.dsn(database, port=way.port))) as store:
                way.reset()
                answers = 0
                for _ in range(3):
                    try:
                        await store.members(1.0)
                        answers += 1
                    except StoreAwayError:
                        continue
                assert answers >= 2, "at most the first call notices"

    asyncio.run(play())


def test_a_lock_that_somebody_holds_is_not_waited_for_long(server: Postgres, database: str) -> None:
    async def play() -> None:
        async with opened(hurried(server.dsn(database))) as store:
            await taken(store, "leader", "a", ttl_s=0.001)
            blocker = PostgresStore(Database(type="postgres", dsn=server.dsn(database)), "blocker")
            async with blocker._link.unit() as connection:
                await connection.execute(
                    "SELECT * FROM distributed_locks WHERE lock_name = 'leader' FOR UPDATE"
                )
                began = time.monotonic()
                with pytest.raises(StoreAwayError, match="LockNotAvailable"):
                    await store.release(Held("leader", "a", 1))
                assert time.monotonic() - began < 0.2 + SLACK_S
            await blocker.close()

    asyncio.run(play())


def test_there_are_never_more_connections_than_allowed(server: Postgres, database: str) -> None:
    async def play() -> None:
        at = Database(type="postgres", dsn=server.dsn(database), pool_max=3)
        async with opened(at) as store:
            await store.register(member(), ACTIVE)
            await asyncio.gather(*(store.beat("one", "1" * 32, ACTIVE) for _ in range(60)))
            rows = server.sql(
                "SELECT state, application_name FROM pg_stat_activity "
                f"WHERE datname = '{database}' AND pid <> pg_backend_pid()",
                database,
            )
            assert 1 <= len(rows) <= 3
            assert {name for _, name in rows} == {"loomproxy test"}
            assert {state for state, _ in rows} == {"idle"}

    asyncio.run(play())


def test_a_cancelled_call_leaves_nothing_open(server: Postgres, database: str) -> None:
    async def play() -> None:
        async with opened(Database(type="postgres", dsn=server.dsn(database))) as store:
            for _ in range(5):
                call = asyncio.get_running_loop().create_task(store.members(1.0))
                await asyncio.sleep(0.003)
                call.cancel()
                await asyncio.wait({call})
            assert await store.members(1.0) == ()
            rows = server.sql(
                "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%' "
                f"AND datname = '{database}'"
            )
            assert rows == [("0",)]

    asyncio.run(play())


def test_a_database_that_takes_no_writes_is_away(server: Postgres, database: str) -> None:
    async def play() -> None:
        async with opened(Database(type="postgres", dsn=server.dsn(database))) as store:
            await store.members(1.0)
        server.sql(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        async with opened(
            Database(type="postgres", dsn=server.dsn(database)), migrated=False
        ) as store:
            with pytest.raises(StoreAwayError, match="ReadOnly"):
                await store.register(member(), ACTIVE)

    asyncio.run(play())


@pytest.mark.parametrize(
    ("dsn", "error", "words"),
    [
        ("postgresql://loom@127.0.0.1:{port}/nowhere", StoreAwayError, "nowhere"),
        ("postgresql://nobody@127.0.0.1:{port}/postgres", StoreAwayError, "nobody"),
        ("postgresql://loom@127.0.0.1:{port}/postgres?frobs=1", SchemaError, "frobs"),
        ("postgresql://loom@127.0.0.1:{port}/postgres?sslmode=require", StoreAwayError, "SSL"),
    ],
)
def test_what_cannot_be_connected_to_is_said(
    server: Postgres, dsn: str, error: type[Exception], words: str
) -> None:
    async def play() -> None:
        store = PostgresStore(hurried(dsn.format(port=server.port)), "test")
        with pytest.raises(error, match=words):
            await store.open()
        await store.close()

    asyncio.run(play())


def test_a_role_needs_no_more_than_its_schema(server: Postgres, database: str) -> None:
    role = f"r_{database}"
    server.sql(f"CREATE ROLE {role} LOGIN")
    server.sql(f"CREATE SCHEMA mine AUTHORIZATION {role}", database)
    dsn = server.dsn(database).replace("loom@", f"{role}@")

    async def play() -> None:
        at = Database(type="postgres", dsn=dsn, schema="mine")
        async with opened(at) as store:
            assert (await taken(store, "leader", "a")).token == 1
        elsewhere = Database(type="postgres", dsn=dsn, schema="theirs")
        async with opened(elsewhere, migrated=False) as store:
            with pytest.raises(SchemaError, match="permission denied"):
                await store.migrate()

    asyncio.run(play())


def test_many_that_take_one_name_at_once_leave_one_row(server: Postgres, database: str) -> None:
    async def play() -> None:
        at = Database(type="postgres", dsn=server.dsn(database), pool_max=8, lock_timeout_s=5.0)
        async with opened(at) as store:
            lives = [store.register(member("one", f"{n:032}"), ACTIVE) for n in range(12)]
            assert all(beat.known for beat in await asyncio.gather(*lives))
            assert len(await store.members(60.0)) == 1

    asyncio.run(play())


def test_two_schemas_of_one_database_are_two_stores(server: Postgres, database: str) -> None:
    async def play() -> None:
        one = Database(type="postgres", dsn=server.dsn(database), schema="one")
        two = Database(type="postgres", dsn=server.dsn(database), schema="two")
        async with opened(one) as first, opened(two) as second:
            assert (await taken(first, "leader", "a")).token == 1
            assert (await taken(second, "leader", "b")).token == 1

    asyncio.run(play())


def test_hints_end_with_their_connection(server: Postgres, database: str) -> None:
    async def play() -> None:
        with passage(server.port) as way:
            async with opened(hurried(server.dsn(database, port=way.port))) as store:
                heard = asyncio.Event()
                listening = asyncio.get_running_loop().create_task(store.listen(heard.set))
                for _ in range(100):
                    await store.publish("a: 1", author="", note="", expected=None)
                    if heard.is_set():
                        break
                    await asyncio.sleep(0.02)
                assert heard.is_set()
                way.reset()
                done, _ = await asyncio.wait({listening}, timeout=5.0)
                assert done, "it does not go on as if it heard"
                assert isinstance(listening.exception(), StoreAwayError | None)

    asyncio.run(play())


def test_tls_is_as_the_dsn_says(tmp_path: Path) -> None:
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")

    async def opens(dsn: str) -> bool:
        store = PostgresStore(hurried(dsn), "test")
        try:
            await store.open()
        except StoreAwayError:
            return False
        finally:
            await store.close()
        return True

    with postgres(certificate=ours.certificate("db")) as secured:
        at = secured.dsn()

        async def play() -> None:
            assert await opens(f"{at}?sslmode=require")
            assert await opens(f"{at}?sslmode=verify-full&sslrootcert={ours.file}")
            assert not await opens(f"{at}?sslmode=verify-full&sslrootcert={theirs.file}")
            assert await opens(f"{at}?sslmode=disable")

        asyncio.run(play())
