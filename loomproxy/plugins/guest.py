"""One process of a plugin: what it is given, how it is started, and that nothing of it stays.

A guest is a program that is not ours. It gets an environment that was chosen and none of our
secrets, a token that is only its own, limits, a process group, and a place to listen: a Unix socket
in a directory that only its user can enter, or a loopback port. What binds the process is
`plugins.launcher`'s; what ends it with the node, that and `plugins.reaper`'s. When to start and
stop it, and what it says over HTTP, is for others to know.

A `Guest` lives once: for the next process make the next Guest.
"""

import asyncio
import contextlib
import inspect
import marshal
import os
import pwd
import secrets
import shutil
import socket
import stat
import threading
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
from loomproxy.process import Exit, Process, bare_argv, clean_environment, spawn_guest

VERSION_VARIABLE: Final = "LOOM_PLUGIN_API_VERSION"
NAME_VARIABLE: Final = "LOOM_PLUGIN_NAME"
"""Further things that a guest is told: the version of the contract, and its provider_type."""

SOCKET_NAME: Final = "plugin.sock"
SOCKET_PATH_BYTES_MAX: Final = 107
"""A Unix socket's path is no longer (unix(7): 108 bytes with the zero at the end)."""

_LOOK_MIN_S: Final = 0.02
_LOOK_MAX_S: Final = 1.0

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
        self._look: asyncio.TimerHandle | None = None  # for its socket

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

        That a program could not be run is seen later, as an exit status (`unrunnable`). To be
        called in the node's main thread: to the kernel the parent is the thread that started it.
        """
        assert self._process is None, "a Guest lives once"
        user = _user(self._setting.manifest.user)
        self.address = self._address()
        try:
            if self.address.path:
                self._make_place(user)
            self._process = self._spawn(user)
        except OSError:
            _remove(self._setting.place)
            raise
        if self._reaper is not None:
            self._reaper.watch(self._process.pid, self.token)
        if self.address.path:
            self._look_for_socket(_LOOK_MIN_S)

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
        _remove(place)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir(mode=0o700)
        if user is not None:
            _check_way(place.parent, user)
            os.chown(place, user.uid, user.gid)

    def _spawn(self, user: _User | None) -> Process:
        fd = os.memfd_create("launch")
        try:
            with os.fdopen(os.dup(fd), "wb") as file:
                marshal.dump(self._order(user), file)
            os.lseek(fd, 0, os.SEEK_SET)
            return spawn_guest(
                bare_argv(_LAUNCHER, str(fd)),
                cwd=self._setting.directory,
                env=clean_environment(self._setting.environment),  # the launcher's own
                pass_fds=(fd,),
                left=self._left,
                said=self._said,
            )
        finally:
            os.close(fd)

    def _order(self, user: _User | None) -> dict[str, object]:
        """What the launcher is to do."""
        setting = self._setting
        env = environment(setting, self.address, self.token)
        order: dict[str, object] = {
            "parent_pid": os.getpid(),
            "argv": [os.fsencode(word) for word in _argv(setting)],
            "limits": _limits(setting.manifest.limits),
            "limits_last": _limits_last(setting.manifest.limits),
            "user": None,
        }
        if user is not None:
            env["HOME"] = setting.manifest.env.get("HOME", user.home)
            order["user"] = {
                "user": user.name,
                "uid": user.uid,
                "gid": user.gid,
                "groups": user.groups,
            }
        order["env"] = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
        return order

    def _look_for_socket(self, pause_s: float) -> None:
        """Close its socket to others once it is there, where the guest made it with a wider mode.

        Nothing tells when that is, so it is looked for, soon at first and then less often. Until
        then, and whatever the guest does later, the directory is closed to others.
        """
        try:
            _close_to_others(self.address.path)
        except OSError:
            loop = asyncio.get_running_loop()
            after_s = min(_LOOK_MAX_S, pause_s * 2)
            self._look = loop.call_later(pause_s, self._look_for_socket, after_s)

    def _left(self, end: Exit) -> None:
        if self._look is not None:
            self._look.cancel()
        if self._reaper is not None:
            self._reaper.forget(self.pid)
        _remove(self._setting.place)
        self._left_to(end)


def unrunnable(end: Exit) -> bool:
    """Whether a guest left because its program cannot be run: trying again will not help."""
    return end.code in (launcher.NOT_FOUND, launcher.NOT_RUNNABLE)


def environment(setting: GuestSetting, address: Address, token: str) -> dict[str, str]:
    """All that a guest finds in its environment.

    PATH, HOME, LANG and TZ are the node's; where it has none: `PATH_DEFAULT`, the home of its user,
    `LANG_DEFAULT`, and no TZ, which means the machine's time. (With `user`, HOME is that user's.)
    PYTHONPATH is the one extra: it is where `loomproxy.plugins.sdk` is found, after what the
    manifest says of it. Then what the manifest adds or changes; last, and never changed by it, what
    the contract says.
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


def _limits(limits: Limits) -> dict[str, int]:
    """What is limited from the beginning, by the names in `resource`."""
    return {
        "RLIMIT_CORE": 0,  # an image of its memory holds secrets, and fills the disk
        "RLIMIT_NOFILE": limits.open_files,
        "RLIMIT_CPU": limits.cpu_seconds,
    }


def _limits_last(limits: Limits) -> dict[str, int]:
    """What is limited at the very end: the first counts processes of the user that it is then.

    With the second the launcher itself has to live.
    """
    return {"RLIMIT_NPROC": limits.processes, "RLIMIT_DATA": limits.memory_bytes}


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


def _check_way(place: Path, user: _User) -> None:
    """See that the user can reach what was made for it: a closed folder above would hide it."""
    for folder in (place, *place.parents):
        facts = folder.stat()
        if facts.st_uid == user.uid:
            may = stat.S_IXUSR
        elif facts.st_gid in user.groups:
            may = stat.S_IXGRP
        else:
            may = stat.S_IXOTH
        if user.uid != 0 and not facts.st_mode & may:
            raise Unrunnable(
                f"`user`: {user.name!r} cannot enter {folder}, where its socket is to be. Open the "
                "folder for passing through (chmod o+x), or choose another directory for what runs."
            )


def _remove(place: Path) -> None:
    """Remove a guest's private directory, which is not there any more when this returns.

    Mostly it holds a socket at most. A guest may have filled it, and deleting that can take long:
    it is moved aside, and deleted while we go on.
    """
    try:
        (place / SOCKET_NAME).unlink(missing_ok=True)
        place.rmdir()
    except FileNotFoundError:
        return
    except OSError:
        aside = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
        with contextlib.suppress(OSError):
            place.rename(aside)
            threading.Thread(target=shutil.rmtree, args=(aside,), kwargs=_QUIETLY).start()


_QUIETLY: Final = {"ignore_errors": True}


def _free_port() -> int:
    """A port of loopback that nobody listens on now.

    Another program could take it before the guest does; then the guest says so and leaves, and the
    next start is given another.
    """
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


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
