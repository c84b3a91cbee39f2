"""The real nginx and the real HAProxy, configured to do what ours does: pass everything on."""

import asyncio
import contextlib
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from tests.differential.lanes import FIXED, FIXED_BODY, OTHERS_TIMEOUT_S, recorders
from tests.differential.play import Lanes
from tests.support.places import free_port

NAMES: Final = ("nginx", "haproxy")
_START_WITHIN_S: Final = 10.0
_STOP_WITHIN_S: Final = 10.0
_PATH: Final = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/sbin:/bin"
_VERSION: Final = re.compile(r"(?:nginx/|HAProxy version )([0-9][^\s-]*)")

Places = list[tuple[int, int]]  # the port of each lane, and that of its upstream


def command(name: str) -> str:
    """Where the program is; whoever starts the tests has installed it (`scripts/test`)."""
    found = shutil.which(name, path=_PATH)
    assert found, f"{name} is not installed. Install the Debian package of that name."
    return found


def version(name: str) -> str:
    """Its version, as its makers count."""
    said = subprocess.run((command(name), "-v"), capture_output=True, text=True, check=True)
    match = _VERSION.search(said.stdout + said.stderr)
    assert match, said
    return match[1]


@contextlib.asynccontextmanager
async def other(name: str) -> AsyncIterator[Lanes]:
    """A running one, by name."""
    configure, arguments = _KINDS[name]
    async with recorders() as (made, upstreams):
        ports = [free_port() for _ in made]
        with tempfile.TemporaryDirectory(prefix=f"{name}-") as place:
            directory = Path(place)
            text = configure(directory, list(zip(ports, upstreams, strict=True)))
            (directory / "conf").write_text(text)
            with _running((command(name), *arguments(directory)), directory) as process:
                await _listening(process, ports, directory)
                yield list(zip(ports, made, strict=True))


@contextlib.contextmanager
def _running(arguments: tuple[str, ...], directory: Path):
    with (directory / "said").open("wb") as said:
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def _listening(process: subprocess.Popen[bytes], ports: list[int], directory: Path) -> None:
    """Wait until every lane accepts; connections that are refused are tried again."""
    try:
        async with asyncio.timeout(_START_WITHIN_S):
            for port in ports:
                while not await _accepts(port):
                    assert process.poll() is None, (directory / "said").read_text()
                    await asyncio.sleep(0.01)  # nobody announces that a port has been opened
    except TimeoutError:
        raise AssertionError((directory / "said").read_text()) from None


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return False
    # Where nobody listens yet, TCP may connect a port of ours with itself.
    with_itself = writer.get_extra_info("sockname") == writer.get_extra_info("peername")
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return not with_itself


def _nginx(directory: Path, places: Places) -> str:
    lanes = "".join(
        f"""
        upstream lane{at} {{ server 127.0.0.1:{upstream}; keepalive 8; }}
        server {{
            listen 127.0.0.1:{port};
            location / {{ proxy_pass http://lane{at}; }}
            location = {FIXED} {{ return 200 {FIXED_BODY}; }}
        }}"""
        for at, (port, upstream) in enumerate(places)
    )
    temporary = "".join(
        f"{kind}_temp_path {directory / kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
    daemon off;
    master_process off;
    pid {directory / "pid"};
    error_log stderr crit;
    events {{ worker_connections 512; }}
    http {{
        access_log off;
        {temporary}
        client_header_timeout {OTHERS_TIMEOUT_S}s;
        client_body_timeout {OTHERS_TIMEOUT_S}s;
        keepalive_timeout {OTHERS_TIMEOUT_S}s;
        proxy_read_timeout {OTHERS_TIMEOUT_S}s;
        proxy_http_version 1.1;
        proxy_request_buffering off;
        proxy_next_upstream off;
        proxy_set_header Host $http_host;
        proxy_set_header Connection "";
        proxy_set_header X-Forwarded-For $remote_addr;
        {lanes}
    }}
    """


def _haproxy(_directory: Path, places: Places) -> str:
    lanes = "".join(
        f"""
listen lane{at}
    bind 127.0.0.1:{port}
    http-request return status 200 content-type text/plain string {FIXED_BODY} if {{ path {FIXED} }}
    server upstream 127.0.0.1:{upstream}
"""
        for at, (port, upstream) in enumerate(places)
    )
    return f"""
global
    nbthread 1
    maxconn 512
defaults
    mode http
    option forwardfor
    retries 0
    timeout connect {OTHERS_TIMEOUT_S}s
    timeout client {OTHERS_TIMEOUT_S}s
    timeout server {OTHERS_TIMEOUT_S}s
    timeout http-request {OTHERS_TIMEOUT_S}s
{lanes}"""


_KINDS: Final[
    dict[str, tuple[Callable[[Path, Places], str], Callable[[Path], tuple[str, ...]]]]
] = {
    "nginx": (_nginx, lambda at: ("-p", str(at), "-e", "stderr", "-c", str(at / "conf"))),
    "haproxy": (_haproxy, lambda at: ("-db", "-f", str(at / "conf"))),
}
