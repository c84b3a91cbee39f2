"""One process of a plugin: what it is given, how it is started, and that nothing of it stays.

A guest is a program that is not ours. It gets an environment that was chosen and none of our
secrets, a token that is only its own, limits, a process group, and a place to listen: a Unix socket
in a directory that only its user can enter, or a loopback port. What binds the process is
`plugins.launcher`'s; what ends it with the node, that and `plugins.reaper`'s. When to start and
stop it, and what it says over HTTP, is for others to know.

A `Guest` lives once: for the next process make the next Guest.
"""

import asyncio
import inspect
import marshal
import os
import pwd
import secrets
import shutil
import socket
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from loomproxy.core.endpoint import Address
from loomproxy.plugins import launcher
from loomproxy.plugins.contract import (
    API_VERSION,
    HOST_VARIABLE,
    PORT_VARIABLE,
    SOCKET_VARIABLE,
    TOKEN_VARIABLE,
)
from loomproxy.plugins.manifest import Limits, Manifest
from loomproxy.plugins.reaper import Reaper
from loomproxy.plugins.usage import Usage, usages
from loomproxy.process import Exit, Process, bare_argv, spawn_guest

VERSION_VARIABLE: Final = "LOOM_PLUGIN_API_VERSION"
NAME_VARIABLE: Final = "LOOM_PLUGIN_NAME"
"""Further things that a guest is told: the version of the contract, and its provider_type."""

SOCKET_NAME: Final = "plugin.sock"
SOCKET_PATH_BYTES_MAX: Final = 107
"""A Unix socket's path is no longer (unix(7): 108 bytes with the zero at the end)."""

LOOPBACK: Final = "127.0.0.1"
PATH_DEFAULT: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LANG_DEFAULT: Final = "C.UTF-8"

_LAUNCHER: Final = inspect.getsource(launcher)


class Unrunnable(OSError):
    """A guest that cannot be started, and could not a moment later: its manifest asks too much."""


class GuestSetting(msgspec.Struct, frozen=True):
    """What a guest is made from."""

    manifest: Manifest
    directory: Path  # the manifest's folder, absolute: where it runs
    place: Path  # a directory to make for its socket, with mode 0700; removed when it has left
    environment: Mapping[str, str]  # the node's: PATH, HOME, LANG and TZ are taken from it
    sdk: Path | None = None  # a directory with `loomproxy.plugins.sdk`, put on PYTHONPATH


class _User(msgspec.Struct, frozen=True):
    """Another user to run as."""

    name: str
    uid: int
    gid: int
    groups: list[int]
    home: str


class Guest:
    """One process.

    `left` is called once, when it has ended and all that it was given is removed; `said` with the
    stream (`stdout` or `stderr`) and the text of each line that it says. Neither may raise.
    """

    def __init__(
        self,
        setting: GuestSetting,
        *,
        left: Callable[[Exit], None],
        said: Callable[[str, str], None],
        reaper: Reaper | None = None,
    ) -> None:
        self.address = Address()  # where it listens; known after `start`
        self.token = secrets.token_urlsafe(32)
        self._setting = setting
        self._left_to = left
        self._said = said
        self._reaper = reaper
        self._process: Process | None = None

    @property
    def pid(self) -> int:
        """Its process id and its group's; 0 before it was started."""
        return self._process.pid if self._process is not None else 0

    @property
    def running(self) -> bool:
        """Whether `left` is still to come."""
        return self._process is not None and self._process.running

    def start(self) -> None:
        """Start it. Unrunnable, or another OSError, when it cannot be; then nothing is left of it.

        That a program could not be run is seen later, as an exit status (`unrunnable`).
        """
        assert self._process is None, "a Guest lives once"
        user = _user(self._setting.manifest.user)
        self.address = self._address()
        try:
            if self.address.path:
                self._make_place(user)
            self._process = self._spawn(user)
        except OSError:
            self._remove_place()
            raise
        if self._reaper is not None:
            self._reaper.watch(self._process.pid)

    def terminate(self) -> None:
        """Ask it, and all in its group, to leave (SIGTERM)."""
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """End it, and all in its group."""
        if self._process is not None:
            self._process.kill()

    async def wait(self) -> None:
        """Return when it has left."""
        if self._process is not None:
            await self._process.wait()

    def usage(self) -> Usage:
        """What its group takes now; for many guests at once `usages` is cheaper."""
        return usages((self.pid,))[self.pid] if self.running else Usage()

    def _address(self) -> Address:
        if self._setting.manifest.transport == "tcp":
            return Address(LOOPBACK, _free_port())
        path = str(self._setting.place / SOCKET_NAME)
        length = len(os.fsencode(path))
        if length > SOCKET_PATH_BYTES_MAX:
            raise Unrunnable(
                f"{path}: a socket's path of {length} bytes, {SOCKET_PATH_BYTES_MAX} at most. "
                "Choose a shorter directory for what runs, or `transport: tcp`."
            )
        return Address(path=path)

    def _make_place(self, user: _User | None) -> None:
        """Make the private directory; what lies there of an earlier life goes."""
        place = self._setting.place
        self._remove_place()
        place.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir(mode=0o700)
        if user is not None:
            os.chown(place, user.uid, user.gid)

    def _remove_place(self) -> None:
        shutil.rmtree(self._setting.place, ignore_errors=True)

    def _spawn(self, user: _User | None) -> Process:
        setting = self._setting
        order = {
            "parent_pid": os.getpid(),
            "argv": [os.fsencode(word) for word in _argv(setting)],
            "env": {
                os.fsencode(name): os.fsencode(value)
                for name, value in environment(setting, self.address, self.token).items()
            }
            | ({b"HOME": os.fsencode(user.home)} if user is not None else {}),
            "limits": _rlimits(setting.manifest.limits),
            "user": user
            and {"user": user.name, "uid": user.uid, "gid": user.gid, "groups": user.groups},
        }
        fd = os.memfd_create("launch")
        try:
            with os.fdopen(os.dup(fd), "wb") as file:
                marshal.dump(order, file)
            os.lseek(fd, 0, os.SEEK_SET)
            return spawn_guest(
                bare_argv(_LAUNCHER, str(fd)),
                cwd=setting.directory,
                env={},
                pass_fds=(fd,),
                left=self._left,
                said=self._said,
            )
        finally:
            os.close(fd)

    def _left(self, end: Exit) -> None:
        if self._reaper is not None:
            self._reaper.forget(self.pid)
        self._remove_place()
        self._left_to(end)


def unrunnable(end: Exit) -> bool:
    """Whether a guest left because its program cannot be run: trying again will not help."""
    return end.code in (launcher.NOT_FOUND, launcher.NOT_RUNNABLE)


def environment(setting: GuestSetting, address: Address, token: str) -> dict[str, str]:
    """All that a guest finds in its environment.

    PATH, HOME, LANG and TZ are the node's; where it has none: `PATH_DEFAULT`, the home of its user,
    `LANG_DEFAULT`, and no TZ, which means the machine's time. PYTHONPATH is the one extra: it is
    where `loomproxy.plugins.sdk` is found, after what the manifest says of it. Then what the
    manifest adds or changes; last, and never changed by it, what the contract says.
    """
    ours = setting.environment
    env = {
        "PATH": ours.get("PATH", PATH_DEFAULT),
        "HOME": ours.get("HOME") or _home(),
        "LANG": ours.get("LANG", LANG_DEFAULT),
    }
    if "TZ" in ours:
        env["TZ"] = ours["TZ"]
    env |= setting.manifest.env
    if setting.sdk is not None:
        paths = [path for path in (env.get("PYTHONPATH"), str(setting.sdk)) if path]
        env["PYTHONPATH"] = os.pathsep.join(paths)
    env[TOKEN_VARIABLE] = token
    env[VERSION_VARIABLE] = API_VERSION
    env[NAME_VARIABLE] = setting.manifest.metadata.provider_type
    if address.path:
        env[SOCKET_VARIABLE] = address.path
    else:
        env[HOST_VARIABLE] = address.host
        env[PORT_VARIABLE] = str(address.port)
    return env


def _argv(setting: GuestSetting) -> list[str]:
    command = setting.manifest.command
    if "/" in command:  # A path; an absolute one stays what it is.
        command = str(setting.directory / command)
    return [command, *setting.manifest.args]


def _rlimits(limits: Limits) -> dict[str, int]:
    """By their names in `resource`; memory last, for the launcher itself has to live with it."""
    return {
        "RLIMIT_CORE": 0,  # an image of its memory holds secrets, and fills the disk
        "RLIMIT_NOFILE": limits.open_files,
        "RLIMIT_NPROC": limits.processes,
        "RLIMIT_CPU": limits.cpu_seconds,
        "RLIMIT_DATA": limits.memory_bytes,
    }


def _home() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return "/"


def _user(name: str) -> _User | None:
    """Who it is to run as; None: as we do."""
    if not name:
        return None
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise Unrunnable(
            f"`user`: there is no user {name!r} here. Create it, or write one that exists."
        ) from None
    if os.geteuid() not in (0, found.pw_uid):
        raise Unrunnable(
            f"`user`: is {name!r}, and only root can run something as another user. Run the proxy "
            "as root, or leave `user` out."
        )
    if os.geteuid() != 0:
        return None
    groups = os.getgrouplist(name, found.pw_gid)
    return _User(name, found.pw_uid, found.pw_gid, groups, found.pw_dir)


def _free_port() -> int:
    """A port of loopback that nobody listens on now.

    Another program could take it before the guest does; then the guest says so and leaves, and the
    next start is given another.
    """
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


async def listening(guest: Guest, *, interval_s: float = 0.02) -> None:
    """Return when `guest` accepts connections; ConnectionError when it left before it did.

    It is looked for every `interval_s`, for as long as the caller lets it: put a timeout around.
    A socket that it made with a wider mode is closed to others here.
    """
    while guest.running:
        try:
            if guest.address.path:
                _close_to_others(guest.address.path)
                _reader, writer = await asyncio.open_unix_connection(guest.address.path)
            else:
                address = guest.address
                _reader, writer = await asyncio.open_connection(address.host, address.port)
        except OSError:
            await asyncio.sleep(interval_s)  # noqa: TID251 # nothing tells when a socket is there
            continue
        writer.close()
        return
    raise ConnectionError("it left before it listened")


def _close_to_others(path: str) -> None:
    """Set a socket's mode to 0600, and nothing else's: its directory is the guest's own.

    What lies at `path` is held before it is judged, so that no link can be put in its place.
    """
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise FileNotFoundError(f"{path} is no socket")
        Path(f"/proc/self/fd/{fd}").chmod(0o600)
    finally:
        os.close(fd)
