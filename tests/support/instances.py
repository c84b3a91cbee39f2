"""Several proxies that share a database, each with an admin socket to be asked at."""

import json
from pathlib import Path
from typing import Any, Final

from tests.support.loom import Loom, Looms, Settings, settings
from tests.support.postgres import Postgres
from tests.support.waiting import eventually

HEARTBEAT_S: Final = 0.3
TTL_S: Final = 3.0
"""Of leases in tests: three times what a call may take."""

DATABASE: Final[Settings] = {
    "type": "postgres",
    "connect_timeout": "400ms",
    "statement_timeout": "500ms",
    "lock_timeout": "400ms",
}
CLUSTER: Final[Settings] = {
    "heartbeat": f"{HEARTBEAT_S}s",
    "active_within": "1500ms",
    "forget_after": "60s",
    "lease_ttl": f"{TTL_S}s",
}


UNHURRIED: Final[Settings] = {"worker_ping_interval": "1s"}
"""Of the node: its default, where tests ask workers more often."""


def says(text: str) -> list[Settings]:
    """Routes that answer everything with a text: it tells which configuration runs."""
    return [{"respond": {"status": 200, "body": text}}]


def document(text: str, **more: Any) -> str:
    """A published configuration that answers everything with a text."""
    return json.dumps({"routes": says(text), **more})


class Together:
    """Instances of one cluster, which do all sooner than by default where they are `hurried`.

    `alone`: they are none, for comparison: each knows of no database. `port`: of something before
    the database.
    """

    def __init__(
        self,
        proxies: Looms,
        server: Postgres,
        database: str,
        *,
        hurried: bool = True,
        alone: bool = False,
    ) -> None:
        self.proxies = proxies
        self.server = server
        self.database = database
        self._hurried = hurried
        self._alone = alone
        self._database = DATABASE if hurried else {"type": "postgres"}
        self._cluster = CLUSTER if hurried else {}

    def prepare(
        self, name: str, *, port: int | None = None, node: Settings | None = None, **more: Any
    ) -> Loom:
        """An instance that is not started yet."""
        keys: Settings = {"routes": says("file"), **more}
        database, cluster = keys.pop("database", {}), keys.pop("cluster", {})
        if not self._alone:
            dsn = self.server.dsn(self.database, port=port)
            keys["database"] = {**self._database, "dsn": dsn, **database}
            if self._cluster or cluster:
                keys["cluster"] = {**self._cluster, **cluster}
        own = {"instance_id": name, **({} if self._hurried else UNHURRIED), **(node or {})}
        return self.proxies.prepare(settings(node=own, **keys))

    def start(
        self, name: str, *, env: dict[str, str] | None = None, joins: bool = True, **more: Any
    ) -> Loom:
        """A running instance, on the list already unless it cannot be."""
        loom = self.prepare(name, **more)
        loom.start(env=env)
        if joins and not self._alone:
            eventually(lambda: asked(loom)["beats"] > 0, f"{name} on the list")
        return loom

    def sql(self, statement: str) -> list[tuple[str, ...]]:
        """What the database itself says."""
        return self.server.sql(statement, self.database)


def asked(loom: Loom, target: str = "/api/v1/cluster") -> Any:
    """What an instance answers operators, as JSON."""
    answer = loom.ask_admin(target)
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def listed(loom: Loom) -> dict[str, Any]:
    """The instances that there are, by name."""
    return {one["instance_id"]: one for one in asked(loom, "/api/v1/instances")["instances"]}


def leader(*looms: Loom, within_s: float = 10.0) -> Loom:
    """The one of them that leads, once there is one."""

    def found() -> list[Loom]:
        return [loom for loom in looms if asked(loom)["leads"]]

    return eventually(found, "one that leads", within_s=within_s)[0]


def published(loom: Loom, text: str, directory: Path, *options: str) -> int:
    """Publish a document through one instance; its exit status."""
    file = directory / "document.yaml"
    file.write_text(text)
    admin = ("--admin", f"unix:{loom.admin}")
    done = loom.run("cluster", "publish", str(file), *options, *admin, within_s=30)
    return done.returncode


def runs(loom: Loom, text: str) -> bool:
    """Whether it answers with this text."""
    return loom.ask("/").body == text.encode()
