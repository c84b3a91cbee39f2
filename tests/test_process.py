"""Children: how they are started, watched and stopped; with real processes."""

import asyncio
import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from loomproxy import process
from loomproxy.process import (
    LINES_KEPT_MAX,
    LINES_PER_S_MAX,
    Exit,
    clean_environment,
    own_argv,
    spawn,
    spawn_guest,
)

RUNNERS: list[Callable[[Coroutine[Any, Any, None]], None]] = [asyncio.run, uvloop.run]
each_loop = pytest.mark.parametrize("run", RUNNERS, ids=["asyncio", "uvloop"])
DEADLINE_S = 30.0


class Watched:
    """A child of python code, what it said, and its end."""

    def __init__(self, code: str, *, pass_fds: tuple[int, ...] = ()) -> None:
        self.lines: list[str] = []
        self.exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.spoke = asyncio.Event()
        self.process = spawn(
            [sys.executable, "-c", code],
            env=clean_environment(process.environment()),
            pass_fds=pass_fds,
            left=self.exit.set_result,
            said=self._said,
        )

    def _said(self, line: str) -> None:
        self.lines.append(line)
        self.spoke.set()

    async def ended(self) -> Exit:
        async with asyncio.timeout(DEADLINE_S):
            return await self.exit

    async def first_line(self) -> str:
        async with asyncio.timeout(DEADLINE_S):
            await self.spoke.wait()
        return self.lines[0]


def alive(pid: int) -> bool:
    """Whether `pid` runs: a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@each_loop
def test_end_of_a_child_is_seen_with_its_status_and_last_words(
    run: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    async def play() -> None:
        child = Watched("import sys; sys.stderr.write('it hurts\\nx'); sys.exit(3)")
        end = await child.ended()
        assert end == Exit(3, ("it hurts", "x"))
        assert str(end) == "exit status 3"
        assert child.lines == ["it hurts", "x"]
        assert not child.process.running
        child.process.kill()  # there is nobody any more, and nobody else is hit

    run(play())


@each_loop
def test_child_that_obeys_is_not_killed(run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
    code = (
        "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0));"
        "print('up', file=sys.stderr, flush=True); signal.pause()"
    )

    async def play() -> None:
        child = Watched(code)
        await child.first_line()
        await child.process.stop(DEADLINE_S)
        assert (await child.ended()).code == 0

    run(play())


@each_loop
def test_child_that_does_not_obey_is_killed(
    run: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    code = (
        "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('up', file=sys.stderr, flush=True); signal.pause(); signal.pause()"
    )

    async def play() -> None:
        child = Watched(code)
        await child.first_line()
        await child.process.stop(0.05)
        end = await child.ended()
        assert end.code == -signal.SIGKILL
        assert str(end) == "SIGKILL"

    run(play())


def test_what_a_child_leaves_behind_goes_with_it() -> None:
    code = (
        "import subprocess, sys;"
        "left = subprocess.Popen(['sleep', '600']); print(left.pid, file=sys.stderr, flush=True)"
    )

    async def play() -> None:
        child = Watched(code)
        pid = int(await child.first_line())
        assert (await child.ended()).code == 0
        with contextlib.suppress(ProcessLookupError):  # gone, and reaped, already
            await _readable(os.pidfd_open(pid))
        assert not alive(pid)

    asyncio.run(play())


def test_talkative_child_costs_a_bounded_amount() -> None:
    code = (
        "import sys; [print('line', n, file=sys.stderr) for n in range(1000)];"
        "sys.stderr.write('y' * 1_000_000)"
    )

    async def play() -> None:
        child = Watched(code)
        end = await child.ended()
        assert len(end.lines) == LINES_KEPT_MAX
        assert end.lines[-2:-1] == ("line 999",)
        assert 0 < len(end.lines[-1]) <= process.LINE_BYTES_MAX
        assert child.lines[0] == "line 0"

    asyncio.run(play())


class Heard:
    """A guest of python code: what it said on both streams, and its end."""

    def __init__(self, code: str, cwd: Path) -> None:
        self.lines: list[tuple[str, str]] = []
        self.exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.spoke = asyncio.Event()
        self.process = spawn_guest(
            [sys.executable, "-I", "-S", "-c", code],
            cwd=cwd,
            env={},
            left=self.exit.set_result,
            said=self._said,
        )

    def _said(self, stream: str, line: str) -> None:
        self.lines.append((stream, line))
        self.spoke.set()

    async def says(self, claim: Callable[[str], bool]) -> str:
        """Wait for a line."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                for _stream, line in self.lines:
                    if claim(line):
                        return line
                self.spoke.clear()
                await self.spoke.wait()


@each_loop
def test_both_streams_of_a_guest_are_heard_in_its_own_directory(
    run: Callable[[Coroutine[Any, Any, None]], None], tmp_path: Path
) -> None:
    code = (
        "import os, sys; print(os.getcwd(), flush=True); print('e', file=sys.stderr, flush=True);"
        "sys.stdout.write('unfinished')"
    )

    async def play() -> None:
        guest = Heard(code, tmp_path)
        async with asyncio.timeout(DEADLINE_S):
            end = await guest.exit
        assert sorted(guest.lines) == [
            ("stderr", "e"),
            ("stdout", str(tmp_path)),
            ("stdout", "unfinished"),
        ]
        assert sorted(end.lines) == sorted(line for _stream, line in guest.lines)

    run(play())


def await_exit(pid: int) -> None:
    """Wait for the end of a child, and leave its status to others."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@each_loop
def test_lines_that_are_not_told_are_counted_when_their_second_is_over_and_the_next_are_told_again(
    run: Callable[[Coroutine[Any, Any, None]], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "_SECOND_S", 0.05)
    code = (
        f"import sys, signal; print('x\\n' * {LINES_PER_S_MAX + 70}, end='', flush=True)\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('again', flush=True)); print('last')\n"
        "sys.stdout.flush(); print('up', file=sys.stderr, flush=True); signal.pause()"
    )

    async def play() -> None:
        guest = Heard(code, tmp_path)
        await guest.says(lambda line: line == "up")
        assert await guest.says(lambda line: "not shown" in line) == (
            f"(71 lines not shown: more than {LINES_PER_S_MAX} in a second)"
        )
        assert guest.lines.count(("stdout", "x")) == LINES_PER_S_MAX
        guest.process.terminate()
        await guest.says(lambda line: line == "again")
        async with asyncio.timeout(DEADLINE_S):
            end = await guest.exit
        assert [line for line in end.lines if line != "up"][-3:] == ["x", "last", "again"]

    run(play())


def test_last_words_are_read_from_a_pipe_that_was_made_larger(tmp_path: Path) -> None:
    code = (
        "import fcntl, os, signal; fcntl.fcntl(1, 1031, 1 << 20)\n"  # F_SETPIPE_SZ
        "os.write(2, b'up\\n'); signal.sigwait({signal.SIGTERM})\n"
        "os.write(1, b'x' * 4095 + b'\\n' + b'word ' * 40_000 + b'\\nlast\\n')"
    )

    async def play() -> None:
        guest = Heard(f"import signal; signal.pthread_sigmask(0, {{15}}); {code}", tmp_path)
        await guest.says(lambda line: line == "up")
        guest.process.terminate()
        await_exit(guest.process.pid)  # the loop stands still, so all of it is heard at once
        async with asyncio.timeout(DEADLINE_S):
            end = await guest.exit
        assert end.lines[-1] == "last"
        assert end.code == 0

    asyncio.run(play())


def test_guest_that_cannot_be_watched_is_not_left_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = []

    def none_left(pid: int) -> int:
        pids.append(pid)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "pidfd_open", none_left)

    async def play() -> None:
        with pytest.raises(OSError, match="Too many open files"):
            Heard("import signal; signal.pause()", tmp_path)

    asyncio.run(play())
    assert not alive(pids[0])


def test_child_gets_the_descriptors_it_was_meant_to_have_and_no_others() -> None:
    async def play() -> None:
        ours, theirs = socket.socketpair()
        other = os.open("/dev/null", os.O_RDONLY)
        with ours, theirs:
            code = (
                f"import os, sys; os.write({theirs.fileno()}, b'hello')\n"
                f"try: os.fstat({other}); print('open', file=sys.stderr)\n"
                "except OSError: print('closed', file=sys.stderr)"
            )
            child = Watched(code, pass_fds=(theirs.fileno(),))
            assert (await child.ended()).lines == ("closed",)
            assert ours.recv(100) == b"hello"
        os.close(other)

    asyncio.run(play())


def test_program_that_is_not_there_is_an_error_and_not_a_child() -> None:
    async def play() -> None:
        with pytest.raises(FileNotFoundError):
            spawn(["/no/such/program"], env={}, left=lambda _exit: None, said=lambda _line: None)

    asyncio.run(play())


def test_child_is_told_neither_our_secrets_nor_what_systemd_told_us() -> None:
    ours = {
        "PATH": "/bin",
        "LC_ALL": "C",
        "SSL_CERT_FILE": "/etc/ca.pem",
        "DB_PASSWORD": "secret",
        "LOOMPROXY_ADMIN_TOKEN": "secret",
        "NOTIFY_SOCKET": "/run/x",
        "WATCHDOG_USEC": "1",
    }
    env = clean_environment(ours)
    assert env.pop("PYTHONPATH").split(os.pathsep)[0] == str(Path(process.__file__).parent.parent)
    assert env == {"PATH": "/bin", "LC_ALL": "C", "SSL_CERT_FILE": "/etc/ca.pem"}


def test_own_argv_runs_this_code_from_any_directory(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("raise SystemExit('the wrong click')")
    argv = own_argv("--version")
    assert argv[-2:] == ["loomproxy", "--version"]
    done = subprocess.run(
        [*argv[:-3], "-c", "import loomproxy, click; print(loomproxy.__file__)"],
        env=clean_environment(process.environment()),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()).parent == Path(process.__file__).parent


def test_child_dies_with_its_parent() -> None:
    child_code = (
        "import os, sys, signal; from loomproxy.process import die_with_parent;"
        "die_with_parent(os.getppid()); print(os.getpid(), flush=True); signal.pause()"
    )
    parent_code = (
        "import subprocess, sys, signal;"
        f"subprocess.Popen([sys.executable, '-c', {child_code!r}]); signal.pause()"
    )
    env = clean_environment(process.environment())
    with subprocess.Popen(
        [sys.executable, "-c", parent_code], env=env, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        pidfd = os.pidfd_open(pid)
        assert alive(pid)
        parent.kill()
        with asyncio.Runner() as runner:
            runner.run(_readable(pidfd))
        os.close(pidfd)


def test_child_whose_parent_is_gone_already_leaves() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from loomproxy.process import die_with_parent; die_with_parent(1 << 30)",
        ],
        env=clean_environment(process.environment()),
        check=False,
    )
    assert done.returncode == 1


async def _readable(fd: int) -> None:
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(fd, event.set)
    async with asyncio.timeout(DEADLINE_S):
        await event.wait()
    loop.remove_reader(fd)


_ADOPTS = """
import asyncio, ctypes, os
from loomproxy import process

ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: as if it were process 1

def has_children():
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) or True
    except ChildProcessError:
        return False

async def play():
    assert process.reap_orphans() == 0
    left = asyncio.get_running_loop().create_future()
    child = process.spawn(
        ["sh", "-c", "sleep 60 & exit 7"],
        env={"PATH": os.environ["PATH"]}, left=left.set_result, said=print,
    )
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process.reap_orphans() == 0  # It has ended, and somebody waits for it.
    assert (await left).code == 7
    reaping = asyncio.create_task(process.reaping_orphans())
    async with asyncio.timeout(20):
        while has_children():
            await asyncio.sleep(0.01)
    reaping.cancel()
    assert process.reap_orphans() == 0

process.ORPHANS_EVERY_S = 0.01
asyncio.run(play())
"""


def test_what_guests_leave_behind_is_let_go_where_we_are_given_it_and_our_children_are_not() -> (
    None
):
    ended = subprocess.run([sys.executable, "-c", _ADOPTS], capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
