"""A real PostgreSQL for tests: made once, stopped, killed and started again as a play needs it.

It ends with the process that started it (PR_SET_PDEATHSIG), listens on loopback alone, and runs as
somebody without rights where we are root, since it refuses to be root.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.support import processes
from tests.support.places import free_port
from tests.support.waiting import eventually

START_WITHIN_S: Final = 20.0
STOP_WITHIN_S: Final = 20.0

_FAST: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    "log_min_messages": "warning",
}


def binaries() -> Path:
    """Where `initdb` and `postgres` are: on PATH, or the newest that Debian has."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    known = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4])
    )
    assert known, "PostgreSQL is not installed; on Debian: apt-get install postgresql"
    return known[-1].parent


def unprivileged() -> tuple[str, ...]:
    """What a command begins with that must not be root, and must end when we do."""
    prefix = ("setpriv", "--pdeathsig=INT")
    if os.geteuid() != 0:
        return prefix
    user = _somebody()
    return (*prefix, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")


def give(path: Path) -> None:
    """Let `unprivileged` commands own a directory or a file."""
    if os.geteuid() == 0:
        os.chown(path, _somebody().pw_uid, _somebody().pw_gid)


def _somebody() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError("there is neither a user `postgres` nor `nobody`")


class Postgres:
    """One server with its files.

    `certificate`: a file with certificate and key, for TLS. `settings`: other than the fast ones.
    """

    def __init__(
        self, certificate: Path | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="loom-pg-"))
        give(self.directory)
        self.port = free_port()
        self.log = self.directory / "log"
        self.log.touch()
        self.process: subprocess.Popen[bytes] | None = None
        self._bin = binaries()
        self._data = self.directory / "data"
        self._settings = {**_FAST, **(settings or {})}
        self._run(
            "initdb", "-D", self._data, "-U", "loom", "-A", "trust", "--no-sync", "-E", "UTF8"
        )
        if certificate is not None:
            self._secure(certificate)
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                (
                    *unprivileged(),
                    self._bin / "postgres",
                    "-D",
                    self._data,
                    f"--port={self.port}",
                    *settings,
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
            )
        eventually(self._answers, f"a PostgreSQL that answers; {self.log}", within_s=START_WITHIN_S)

    def stop(self, mode: str = "fast") -> None:
        """Stop it: `smart` waits for clients, `fast` ends them, `immediate` ends all at once."""
        if self.process is None:
            return
        signals = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
        self.process.send_signal(signals[mode])
        self.process.wait(STOP_WITHIN_S)
        self.process = None

    def kill(self) -> None:
        """SIGKILL to the server and every process of its own, as when the machine fails."""
        assert self.process is not None
        family = [self.process.pid, *processes.children(self.process.pid)]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(STOP_WITHIN_S)
        for pid in family[1:]:
            processes.wait_gone(pid, "a process of PostgreSQL", within_s=STOP_WITHIN_S)
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        self.process = None

    def restart(self) -> None:
        """Stop it, clients or not, and start it again."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop it and remove its files."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.stop("immediate")
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def database(self) -> str:
        """The name of a new, empty database."""
        name = f"t_{uuid.uuid4().hex[:12]}"
        self.sql(f"CREATE DATABASE {name}", "postgres")
        return name

    def drop(self, name: str) -> None:
        """Remove a database with all that is connected to it."""
        self.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", "postgres")

    def dsn(self, database: str = "postgres", *, port: int | None = None, more: str = "") -> str:
        """Where a database is; `port`: through something before it."""
        return f"postgresql://loom@127.0.0.1:{port or self.port}/{database}{more}"

    def sql(self, statement: str, database: str = "postgres") -> list[tuple[str, ...]]:
        """What `psql` answers: rows of text."""
        said = self._run(
            "psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-F", "\x1f",
            "-d", self.dsn(database), "-c", statement,
        )  # fmt: skip
        return [tuple(line.split("\x1f")) for line in said.splitlines()]

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"PostgreSQL left:\n{self.log.read_text()}"
        ready = (self._bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port))
        return subprocess.run(ready, check=False).returncode == 0

    def _secure(self, certificate: Path) -> None:
        inside = self._data / "server.pem"
        shutil.copyfile(certificate, inside)
        inside.chmod(0o600)
        give(inside)
        self._settings |= {"ssl": "on", "ssl_cert_file": str(inside), "ssl_key_file": str(inside)}

    def _run(self, program: str, *arguments: object) -> str:
        done = subprocess.run(
            (*unprivileged(), self._bin / program, *map(str, arguments)),
            capture_output=True,
            text=True,
            timeout=60,
            cwd=self.directory,
            env={**os.environ, "LC_ALL": "C.UTF-8", "PGCONNECT_TIMEOUT": "5"},
            check=False,
        )
        assert done.returncode == 0, f"{program}: {done.stderr}\n{self.log.read_text()}"
        return done.stdout


@contextlib.contextmanager
def postgres(**how: Any) -> Iterator[Postgres]:
    """A running server; at the end it is gone with all its files."""
    server = Postgres(**how)
    try:
        yield server
    finally:
        server.close()


class PgBouncer:
    """The real PgBouncer before a server, in transaction mode with few connections to it."""

    def __init__(self, server: Postgres, *, pool_size: int = 3) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="loom-pgb-"))
        give(self.directory)
        self.port = free_port()
        users = self.directory / "users"
        users.write_text('"loom" ""\n')
        ini = self.directory / "pgbouncer.ini"
        ini.write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port} user=loom\n"
            f"[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port={self.port}\nunix_socket_dir=\n"
            f"auth_type=trust\nauth_file={users}\npool_mode=transaction\n"
            f"default_pool_size={pool_size}\nmax_client_conn=200\nserver_login_retry=0.2\n"
            "ignore_startup_parameters=extra_float_digits\n"
        )
        self._log = (self.directory / "log").open("ab")
        command: Sequence[object] = (*unprivileged(), _pgbouncer(), ini)
        self.process = subprocess.Popen(
            [str(part) for part in command], stdout=self._log, stderr=self._log, cwd="/"
        )
        ready = (binaries() / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port))
        eventually(
            lambda: subprocess.run(ready, check=False).returncode == 0, "a PgBouncer that answers"
        )

    def close(self) -> None:
        """End it and remove its files."""
        self.process.kill()
        self.process.wait()
        self._log.close()
        shutil.rmtree(self.directory, ignore_errors=True)


@contextlib.contextmanager
def pgbouncer(server: Postgres, **how: int) -> Iterator[PgBouncer]:
    """A running PgBouncer before `server`."""
    made = PgBouncer(server, **how)
    try:
        yield made
    finally:
        made.close()


def _pgbouncer() -> str:
    path = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert path, "PgBouncer is not installed; on Debian: apt-get install pgbouncer"
    return path
