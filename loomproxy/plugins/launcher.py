"""The step between the node and a guest: a process that binds itself, and then becomes the guest.

`plugins.guest` starts this text as a process of its own, `python -I -S -c TEXT FD`, in the guest's
folder and group, and the order for it lies in the descriptor FD: argv and environment are nobody's
to see in a list of processes while the launch lasts. Here the process closes its files to others
(umask), becomes another user where that is wanted, gives up gaining rights (no_new_privs), has the
kernel kill it when the node dies, takes its limits, and is replaced by the guest's program.

Why a process and not `preexec_fn`: that runs Python between fork and exec, and in a process with
threads, as the node is one, it can find a lock held by a thread that was not copied, for ever.

It needs the standard library only, and little of it, for each import is paid with each start:
neither `typing` nor `signal` is worth its milliseconds here.
"""

import ctypes
import errno
import marshal
import os
import resource
import sys

NOT_FOUND = 127
"""There is no such program: the exit status that shells use for it."""

NOT_RUNNABLE = 126
"""It is there and cannot be run; likewise."""

NOT_NOW = 75
"""The kernel had no room for it, and may have in a moment: EX_TEMPFAIL of sysexits.h."""

_PR_SET_PDEATHSIG = 1  # prctl(2)
_PR_SET_NO_NEW_PRIVS = 38
_SIGKILL = 9  # signal(7); the same number on every architecture
_SIGPIPE = 13
_SIGXFSZ = 25

_PASSING = frozenset(
    (errno.EAGAIN, errno.ENOMEM, errno.ETXTBSY, errno.EMFILE, errno.ENFILE, errno.EINTR, errno.EIO)
)
_ABSENT = frozenset((errno.ENOENT, errno.ENOTDIR))


class Refusal(Exception):
    """It goes no further: with which exit status, and what to say."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def become(user: str, uid: int, gid: int, groups: list[int]) -> None:
    """Be another user from here on; only root can."""
    try:
        os.setgroups(groups)
        os.setgid(gid)
        os.setuid(uid)
    except OSError as error:
        status = NOT_NOW if error.errno in _PASSING else NOT_RUNNABLE
        raise Refusal(
            status,
            f"`user`: cannot become {user!r} (uid {uid}, gid {gid}): {error.strerror}. Only root "
            "can; run the proxy as root, or leave `user` out.",
        ) from error


def bind(parent_pid: int) -> None:
    """Gain no rights by any exec, and do not outlive the node; after a change of user.

    The kernel forgets the signal of the parent's death when the user changes, so it comes after it;
    and the parent may have died before it was set, so it is asked for after that.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_NO_NEW_PRIVS, 1), (_PR_SET_PDEATHSIG, _SIGKILL)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            reason = os.strerror(ctypes.get_errno())
            raise Refusal(NOT_RUNNABLE, f"prctl(2), option {option}: {reason}")
    if os.getppid() != parent_pid:
        os._exit(1)
    for number in (_SIGPIPE, _SIGXFSZ):  # Python ignores them, and its successor would, too.
        libc.signal(number, None)


def limit(limits: dict[str, int]) -> None:
    """Take the limits; where we may not have so much ourselves, what there is, and say so."""
    for name, value in limits.items():
        which = getattr(resource, name)
        # A guest at its last second is told so (SIGXCPU), which says more than a bare SIGKILL.
        most = value + 1 if which == resource.RLIMIT_CPU else value
        try:
            resource.setrlimit(which, (value, most))
        except (ValueError, OSError):
            highest = resource.getrlimit(which)[1]
            resource.setrlimit(which, (highest, highest))
            say(f"`limits`: {name} stays {highest}, the most that the proxy has; not {value}.")


def replace(argv: list[bytes], env: dict[bytes, bytes]) -> None:
    """Be the guest's program from here on; come back only with a Refusal.

    A name without a slash is looked for on the guest's PATH, as `execvpe` of `os` does; that one
    imports a module on the way, and the user that we are now may not be able to read it.
    """
    command = argv[0]
    places = [b""]
    if b"/" not in command:
        places = [place + b"/" for place in env.get(b"PATH", b"").split(b":") if place]
    seen: OSError | None = None
    for place in places:
        try:
            os.execve(place + command, argv, env)  # noqa: S606 # no shell is what is wanted
        except OSError as error:
            if seen is None or seen.errno in _ABSENT:
                seen = error
        except ValueError as error:  # A zero byte, which no argv can hold.
            raise Refusal(NOT_RUNNABLE, f"`command`, `args` or `env`: {error}") from error
    raise _unrun(command, env, seen or FileNotFoundError(errno.ENOENT, "there is no PATH"))


def _unrun(command: bytes, env: dict[bytes, bytes], error: OSError) -> Refusal:
    """What is said of a program that could not be run."""
    where = f"`command`: {os.fsdecode(command)!r} cannot be run: {error.strerror}"
    if error.errno in _PASSING:
        return Refusal(NOT_NOW, f"{where}.")
    if error.errno not in _ABSENT:
        return Refusal(
            NOT_RUNNABLE,
            f"{where}. It must be an executable file (chmod +x) of this machine's kind, or begin "
            "with #! and an interpreter, in folders that its user may enter.",
        )
    if b"/" not in command:
        path = os.fsdecode(env.get(b"PATH", b""))
        advice = f"It was looked for in {path}; install it, or give a path with a slash."
    elif os.path.exists(command):  # noqa: PTH110 # pathlib costs more than all the rest here
        advice = "The file is there, so the interpreter in its #! line, or its loader, is not."
    else:
        advice = "A path is relative to the manifest's folder; write one that is there."
    return Refusal(NOT_FOUND, f"{where}. {advice}")


def say(text: str) -> None:
    """One line for the guest's log."""
    os.write(2, f"loomproxy: {text}\n".encode("utf-8", "backslashreplace"))


def main() -> None:
    """Read the order, and carry it out; on a Refusal say one line and leave."""
    with os.fdopen(int(sys.argv[1]), "rb") as file:
        order = marshal.load(file)  # noqa: S302 # the node wrote it, with this same interpreter
    os.umask(0o077)
    try:
        limit(order["limits"])  # some may have to be raised, which only root can
        if order["user"]:
            become(**order["user"])
        bind(order["parent_pid"])
        limit(order["limits_last"])
        replace(order["argv"], order["env"])
    except Refusal as refusal:
        say(str(refusal))
        os._exit(refusal.status)


if __name__ == "__main__":
    main()
