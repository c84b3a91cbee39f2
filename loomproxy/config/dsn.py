"""Kinds of text that say where a database is, each with how it is checked.

What a connection string may say is what libpq documents (PostgreSQL 15 documentation, §34.1.1) and
asyncpg reads. Parameters that belong to the pools of other drivers would be sent to the server as
settings, which refuses the connection; they are named here, with the key that is meant.
"""

import re
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from loomproxy.config.kind import Kind

DSN_CHARS_MAX: Final = 4096
PORT_MAX: Final = 65535

_SQL_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,47}")  # with room in 63 bytes for what we add
_ELSEWHERE: Final = {
    "pool_max_conns": "database.pool_max",
    "pool_min_conns": "database.pool_max",
    "pool_max_conn_lifetime": "database.pool_max",
    "max_open_conns": "database.pool_max",
    "connect_timeout": "database.connect_timeout",
    "statement_timeout": "database.statement_timeout",
    "lock_timeout": "database.lock_timeout",
    "search_path": "database.schema",
}


def _dsn(text: str) -> str:
    if not text:
        return ""
    if len(text) > DSN_CHARS_MAX or not text.isprintable():
        raise ValueError(f"is longer than {DSN_CHARS_MAX} characters, or holds control characters")
    try:
        parts = urlsplit(text)
        known = parts.scheme in ("postgres", "postgresql")
        for place in parts.netloc.rpartition("@")[2].split(","):
            _check_port(place)
    except ValueError as error:
        raise ValueError(f"is no URL ({error})") from None
    if not known:
        raise ValueError("does not begin with postgresql://")
    for name, _value in parse_qsl(parts.query, keep_blank_values=True):
        if name in _ELSEWHERE:
            raise ValueError(f"has a parameter whose key is {_ELSEWHERE[name]} ({name})")
    return text


def _check_port(place: str) -> None:
    port = re.search(r":([^\]:]*)$", place)
    if port and port[1] and not (re.fullmatch(r"[0-9]{1,5}", port[1]) and int(port[1]) <= PORT_MAX):
        raise ValueError("bad port")


def _sql_name(text: str) -> str:
    if not _SQL_NAME.fullmatch(text) or text.startswith("pg_"):
        raise ValueError("is no name of a schema")
    return text


def _local_path(text: str) -> str:
    if not text or len(text) > DSN_CHARS_MAX or not text.isprintable():
        raise ValueError("is no path")
    if text.startswith("file:") or text == ":memory:":
        raise ValueError("is no path of a file (what it held would be gone with the process)")
    return text


STORE_KINDS: Final[dict[str, Kind]] = {
    "dsn": Kind(
        "postgresql://user:password@host:5432/database, or nothing",
        "Write it as ${DATABASE_DSN}, and set that variable.",
        _dsn,
        private=True,
    ),
    "sql_name": Kind(
        "lower-case letters, digits and underscores, at most 48, a letter first, not pg_…",
        "Write loomproxy.",
        _sql_name,
    ),
    "local_path": Kind("the path of a file", "Write /var/lib/loomproxy/loomproxy.db.", _local_path),
}
