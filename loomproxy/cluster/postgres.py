"""Connections to PostgreSQL: few, bounded in time, each unit of work whole or not at all.

Every unit is one block of BEGIN … COMMIT with its limits set inside it, and leaves nothing behind
in the session: so it works through a pooler that hands a server connection to somebody else after
each block (PgBouncer, *Features*, transaction pooling). Prepared statements are not kept for the
same reason. Whatever goes wrong becomes one of the two errors of `cluster.store`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeAlias

import asyncpg

from loomproxy.cluster.store import ConflictError, FencedError, SchemaError, StoreAwayError
from loomproxy.config.cluster import Database

IDLE_S: Final = 15.0
"""How long a connection that nobody needs is kept: beats keep one, what came together others."""

PROOF_OF_LIFE_S: Final = 10.0
"""How often a connection that only listens is asked whether it still stands."""

MIGRATION_S: Final = 120.0
"""How long one run of migrations may take, its wait for another instance's run included."""

Connection: TypeAlias = Any
"""What asyncpg, which has no types, gives out."""

_AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,  # class 08
    asyncpg.InsufficientResourcesError,  # 53: too many connections, disk full
    asyncpg.OperatorInterventionError,  # 57: shutdown, cancelled, starting up
    asyncpg.TransactionRollbackError,  # 40: serialisation, deadlock
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby that has not been promoted yet
    asyncpg.InvalidAuthorizationSpecificationError,  # 28: also the password
    asyncpg.InvalidCatalogNameError,
    asyncpg.ProtocolViolationError,  # what PgBouncer says of a server that is away
)


class Link:
    """The way to one database. Opened once, closed once; what it does in between may fail."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name
        self._call_s = database.connect_timeout_s + database.statement_timeout_s
        self._begin = _begin(database, database.statement_timeout_s, database.lock_timeout_s)
        self._pool: Any = None
        self.schema = database.schema

    async def open(self) -> None:
        """See that it answers: at least one connection stands afterwards."""
        async with self.unit() as connection:
            await connection.fetchval("SELECT 1")

    async def close(self) -> None:
        """End every connection: politely if that is quick, else at once."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(self._database.statement_timeout_s):
                await pool.close()
        except (*_AWAY, asyncpg.PostgresError):
            pool.terminate()

    @asynccontextmanager
    async def unit(self) -> AsyncIterator[Connection]:
        """One unit of work, within the connect and the statement timeout together."""
        with _translated():
            async with (
                asyncio.timeout(self._call_s),
                self._borrowed() as connection,
                _whole(connection, self._begin),
            ):
                yield connection

    @asynccontextmanager
    async def migrating(self) -> AsyncIterator[Connection]:
        """The same with time for long steps."""
        begin = _begin(self._database, MIGRATION_S, MIGRATION_S)
        with _translated():
            async with asyncio.timeout(MIGRATION_S):
                connection = await self._connect(MIGRATION_S)
                try:
                    async with _whole(connection, begin):
                        yield connection
                finally:
                    connection.terminate()

    async def listen(self, channel: str, heard: Callable[[], None]) -> None:
        """Call `heard` for each notification, on its own connection; returns when that ends."""
        ended = asyncio.Event()
        with _translated():
            connection = await self._connect(self._database.statement_timeout_s)
            try:
                connection.add_termination_listener(lambda _connection: ended.set())
                await connection.add_listener(channel, lambda *_notification: heard())
                while not await _is_set(ended, PROOF_OF_LIFE_S):
                    await connection.fetchval("SELECT 1")
            finally:
                connection.terminate()

    @asynccontextmanager
    async def _borrowed(self) -> AsyncIterator[Connection]:
        if self._pool is None:
            self._pool = asyncpg.create_pool(
                min_size=0,
                max_size=self._database.pool_max,
                max_inactive_connection_lifetime=IDLE_S,
                reset=_nothing_to_reset,
                **self._options(self._database.statement_timeout_s),
            )
            await self._pool
        pool = self._pool
        connection = await pool.acquire(timeout=self._database.connect_timeout_s)
        try:
            yield connection
        finally:
            await pool.release(connection, timeout=self._database.statement_timeout_s)

    async def _connect(self, statement_s: float) -> Connection:
        return await asyncpg.connect(**self._options(statement_s))

    def _options(self, statement_s: float) -> dict[str, Any]:
        return {
            "dsn": self._database.dsn,
            "timeout": self._database.connect_timeout_s,
            "command_timeout": statement_s,
            "statement_cache_size": 0,
            "server_settings": {"application_name": self._name},
        }


@asynccontextmanager
async def _whole(connection: Connection, begin: str) -> AsyncIterator[None]:
    """BEGIN … COMMIT; nothing of it where the block raises."""
    try:
        await connection.execute(begin)
        yield
        await connection.execute("COMMIT")
    except (FencedError, ConflictError):
        await connection.execute("ROLLBACK")
        raise
    except BaseException:
        # Whether the server has seen it, and what state it is in, is not known.
        connection.terminate()
        raise


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except _AWAY as error:
        raise StoreAwayError(_words(error)) from error
    except asyncpg.PostgresError as error:
        raise SchemaError(_words(error)) from error
    except ValueError as error:  # What asyncpg says of a DSN that it cannot use.
        raise SchemaError(f"the dsn cannot be used ({type(error).__name__})") from None


def _words(error: BaseException) -> str:
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _begin(database: Database, statement_s: float, lock_s: float) -> str:
    return (
        "BEGIN; "
        f"SET LOCAL statement_timeout = {round(statement_s * 1000)}; "
        f"SET LOCAL lock_timeout = {round(lock_s * 1000)}; "
        f"SET LOCAL idle_in_transaction_session_timeout = {round(statement_s * 1000)}; "
        f'SET LOCAL search_path = "{database.schema}"'
    )


async def _nothing_to_reset(_connection: Connection) -> None:
    """No unit leaves anything behind in its session."""


async def _is_set(event: asyncio.Event, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            return await event.wait()
    except TimeoutError:
        return False
