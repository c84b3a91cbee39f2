"""The stage of the cluster's tests: a real PostgreSQL, with and without a PgBouncer; and a file."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loomproxy.config.cluster import Database
from tests.support.instances import Together
from tests.support.loom import Looms, looms
from tests.support.postgres import PgBouncer, Postgres, pgbouncer, postgres


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    """One server for all tests of this process that leave it running."""
    with postgres() as made:
        yield made


@pytest.fixture(scope="session")
def pooler(server: Postgres) -> Iterator[PgBouncer]:
    """A PgBouncer in transaction mode before it."""
    with pgbouncer(server) as made:
        yield made


@pytest.fixture
def own_server() -> Iterator[Postgres]:
    """A server of one test, which may stop it."""
    with postgres() as made:
        yield made


@pytest.fixture
def database(server: Postgres) -> Iterator[str]:
    """A new database; it is gone after the test."""
    name = server.database()
    yield name
    server.drop(name)


@pytest.fixture(params=["sqlite", "postgres", "pgbouncer"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Database]]:
    """Each store that there is, as a configuration says it; further keys may be given."""
    if request.param == "sqlite":
        yield lambda **more: Database(path=str(tmp_path / "store.db"), **more)
        return
    server: Postgres = request.getfixturevalue("server")
    name: str = request.getfixturevalue("database")
    port = None
    if request.param == "pgbouncer":
        port = request.getfixturevalue("pooler").port
    yield lambda **more: Database(type="postgres", dsn=server.dsn(name, port=port), **more)


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest) -> str:
    """What is tested: `source` or `zipapp`."""
    return str(request.config.getoption("--subject"))


@pytest.fixture
def proxies(subject: str) -> Iterator[Looms]:
    """Starts proxies for one test."""
    with looms(subject) as made:
        yield made


@pytest.fixture
def together(proxies: Looms, server: Postgres, database: str) -> Together:
    """Instances that share a new database."""
    return Together(proxies, server, database)
