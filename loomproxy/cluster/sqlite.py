"""A file for one instance: the way to it, one thread and one unit of work at a time.

The thread keeps the loop free of the disk. Every unit takes the file's write lock first (SQLite,
*Transaction*, §2.2: BEGIN IMMEDIATE), so that what it reads stays true until it has written. All
moments are the file's host's, asked of SQLite, so that they compare as those of a server would.
"""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from loomproxy.cluster.store import ConflictError, FencedError, SchemaError, StoreAwayError
from loomproxy.config.cluster import Database

_T = TypeVar("_T")

FILE_MODE: Final = 0o600

_NOW: Final = "SELECT (julianday('now') - 2440587.5) * 86400.0"


class Unit:
    """One unit of work: statements, and the moment at which it happens."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.now: float = connection.execute(_NOW).fetchone()[0]

    def run(self, statement: str, *values: object) -> int:
        """Carry it out; how many rows it changed."""
        return self._connection.execute(statement, values).rowcount

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """All rows of the answer."""
        return self._connection.execute(statement, values).fetchall()

    def row(self, statement: str, *values: object) -> tuple[Any, ...] | None:
        """The first row of the answer."""
        row: tuple[Any, ...] | None = self._connection.execute(statement, values).fetchone()
        return row

    def value(self, statement: str, *values: object) -> Any:
        """The first column of the first row; None where there is none."""
        row = self.row(statement, *values)
        return row[0] if row else None


class File:
    """The file, and the thread that alone touches it."""

    def __init__(self, database: Database) -> None:
        self._path = Path(database.path)
        self._lock_s = database.lock_timeout_s
        self._call_s = database.connect_timeout_s + database.statement_timeout_s
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None
        self._turn = asyncio.Lock()

    async def unit(self, work: Callable[[Unit], _T]) -> _T:
        """Have `work` done whole, or not at all, within the connect and statement timeouts."""
        try:
            async with asyncio.timeout(self._call_s), self._turn:
                if self._thread is None:
                    self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
                # Shielded: a thread cannot be stopped, so what takes too long is left to end alone;
                # whoever comes next waits for it in the thread's queue, as long as it may.
                at_work = self._thread.submit(self._do, work)
                return await asyncio.shield(asyncio.wrap_future(at_work))
        except TimeoutError:
            raise StoreAwayError(f"{self._path}: no answer within {self._call_s:g} s") from None

    async def close(self) -> None:
        """Close the file, and end the thread if it is not stuck."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._call_s):
                await asyncio.wrap_future(thread.submit(self._close))
        thread.shutdown(wait=False, cancel_futures=True)

    def _do(self, work: Callable[[Unit], _T]) -> _T:
        with self._translated():
            connection = self._opened()
            connection.execute("BEGIN IMMEDIATE")
            try:
                done = work(Unit(connection))
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return done

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            # Made by us first: SQLite would make it readable for all.
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, FILE_MODE))
            connection = sqlite3.connect(
                self._path, timeout=self._lock_s, isolation_level=None, check_same_thread=False
            )
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (FencedError, ConflictError, SchemaError):
            raise
        except (OSError, sqlite3.OperationalError) as error:
            if "no such table" in str(error):
                raise SchemaError(f"{self._path}: {error}") from error
            raise StoreAwayError(f"{self._path}: {error}") from error
        except sqlite3.Error as error:
            raise SchemaError(f"{self._path}: {error}") from error
