"""Upstreams that prove in TLS who they are, or do not, and one proxy before them all."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.authority import Authority
from tests.support.caller import Response
from tests.support.loom import Loom, Settings, looms, pool, settings, to
from tests.support.origin import Origin, head
from tests.support.places import free_port
from tests.support.waiting import WITHIN_S, eventually

POURED_BYTES = 8 << 20
"""What `pour` answers with."""

Serve = Callable[[socket.socket], None]


@contextlib.contextmanager
def bare(serve: Serve, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server on blocking sockets, for what none on an event loop does: alerts, rude ends.

    It serves one connection after the other, and closes each as a socket is closed: without
    close_notify.
    """
    with contextlib.ExitStack() as held, socket.create_server(("127.0.0.1", 0)) as door:
        over = threading.Event()

        def run() -> None:
            while True:
                line, _ = door.accept()
                held.enter_context(line).settimeout(WITHIN_S)
                if over.is_set():
                    return
                with contextlib.suppress(OSError):
                    if context is None:
                        serve(line)
                        continue
                    with context.wrap_socket(line, server_side=True) as secured:
                        serve(secured)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield f"https://localhost:{door.getsockname()[1]}"
        finally:
            over.set()
            with socket.create_connection(door.getsockname()):
                thread.join(WITHIN_S)


def hang_up(line: socket.socket) -> None:
    """Read what comes, and close."""
    line.recv(1 << 16)
    line.close()


def decline(line: socket.socket) -> None:
    """As an HTTP server answers what is none."""
    line.recv(1 << 16)
    line.sendall(head(400) + b"what?")
    line.close()


def once(line: socket.socket) -> None:
    """Answer one request, and close at the next: rudely, without close_notify."""
    line.recv(1 << 16)
    line.sendall(head(200, [("Content-Length", "2")]) + b"hi")
    line.recv(1 << 16)


def pour(line: socket.socket) -> None:
    """Answer with much, and close at once."""
    line.recv(1 << 16)
    line.sendall(head(200, [("Content-Length", str(POURED_BYTES))]) + b"p" * POURED_BYTES)


def pour_in_order(line: socket.socket) -> None:
    """Answer with much, say that this was all, and close."""
    pour(line)
    assert isinstance(line, ssl.SSLSocket)
    line.unwrap()


@contextlib.contextmanager
def nginx(directory: Path, certificate: Path) -> Iterator[str]:
    """An nginx that serves what is in `directory`."""
    port = free_port()
    (directory / "nginx.conf").write_text(
        f"""
        daemon off; master_process off; pid {directory}/pid; error_log {directory}/error.log;
        events {{}}
        http {{
          access_log off; client_body_temp_path {directory}/b; proxy_temp_path {directory}/p;
          fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u;
          scgi_temp_path {directory}/s;
          server {{
            listen 127.0.0.1:{port} ssl; root {directory};
            ssl_certificate {certificate}; ssl_certificate_key {certificate};
          }}
        }}"""
    )
    command = ("nginx", "-p", str(directory), "-c", str(directory / "nginx.conf"))
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: _listens(port), "nginx")
            yield f"https://localhost:{port}"
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@dataclass
class Scenery:
    """Origins that prove themselves in many ways, and one proxy before them all."""

    loom: Loom
    authority: Authority
    origins: dict[str, Origin]
    directory: Path  # nginx serves it, and what "renewed" trusts is here
    renewal: Path  # what it should trust instead
    asked: list[Any]  # names that clients asked the origin "good" for

    def ask(self, place: str, target: str = "/x", **more: Any) -> Response:
        return self.loom.ask(f"/{place}{target}", **more)

    def because(self, reason: str) -> None:
        """The log says why TLS failed."""
        eventually(
            lambda: any(
                reason in line and 'event="tls failed"' in line and "endpoint=https://" in line
                for line in self.loom.said().splitlines()
            ),
            f"{reason!r} for TLS in the log",
        )


def _place(url: str, **tls: Any) -> Settings:
    return pool(url, tls=tls, ejection={"failures": 0}, keepalive={"idle_timeout": "1m"})


def _contexts(it: Authority, new: Authority, asked: list[Any]) -> dict[str, ssl.SSLContext]:
    """Of the origins, by name; names that clients ask the first for are added to `asked`."""
    good = it.server(it.certificate("good"))
    good.sni_callback = lambda _line, name, _context: asked.append(name)
    return {
        "good": good,
        "self": it.server(it.self_signed("self")),
        "other": it.server(it.certificate("other", "DNS:other.example")),
        "expired": it.server(it.certificate("expired", days=-1)),
        "asking": it.server(it.directory / "good.pem", ask=True),
        "new": new.server(new.certificate("new")),
    }


def _to_origins(url: dict[str, str], it: Authority, directory: Path) -> dict[str, Settings]:
    """Pools of the origins, which trust in many ways."""
    ca, good = {"ca_file": str(it.file)}, str(it.directory / "good.pem")
    probe = {"path": "/well", "interval": "2s", "timeout": "2s", "rise": 1, "fall": 1}
    return {
        **{name: _place(each, **ca) for name, each in url.items()},
        "renewed": _place(url["new"], ca_file=str(directory / "trusted.pem")),
        "system": _place(url["good"]),
        "numbered": _place(url["good"].replace("localhost", "127.0.0.1"), **ca),
        "named": _place(url["other"], **ca, server_name="Other.Example"),
        "anybody": _place(url["self"], verify=False),
        "shown": _place(url["asking"], **ca, client_certificate=good),
        "probed": {**_place(url["good"], **ca), "probe": probe},
        "distrusted": {**_place(url["self"], **ca), "probe": probe},
    }


def _strangers(
    it: Authority, contexts: dict[str, ssl.SSLContext], held: contextlib.ExitStack
) -> dict[str, Settings]:
    """Pools of those that do things no origin does."""
    old = it.old_server(it.directory / "good.pem")
    serving: dict[str, tuple[Serve, ssl.SSLContext | None]] = {
        "plain": (decline, None),
        "rude": (hang_up, None),
        "silent": (lambda _line: None, None),
        "old": (hang_up, old),
        "strict": (hang_up, contexts["asking"]),
        "once": (once, contexts["good"]),
        "pour": (pour, contexts["good"]),
        "pour_in_order": (pour_in_order, contexts["good"]),
    }
    return {
        name: _place(held.enter_context(bare(*how)), ca_file=str(it.file))
        for name, how in serving.items()
    }


@contextlib.contextmanager
def scenery(subject: str, place: Path) -> Iterator[Scenery]:
    """The whole, with its files below `place`."""
    for name in ("authority", "renewal", "files"):
        (place / name).mkdir()
    it, new, files = Authority(place / "authority"), Authority(place / "renewal"), place / "files"
    shutil.copy(it.file, files / "trusted.pem")
    asked: list[Any] = []
    contexts = _contexts(it, new, asked)
    with contextlib.ExitStack() as held:
        origins = {
            name: held.enter_context(Origin(name, tls=context, named="localhost"))
            for name, context in contexts.items()
        }
        pools = {
            **_to_origins({name: each.url for name, each in origins.items()}, it, files),
            **_strangers(it, contexts, held),
            "nginx": _place(
                held.enter_context(nginx(files, it.directory / "good.pem")), ca_file=str(it.file)
            ),
        }
        routes = [
            to(name, f"/{name}", name=name, rewrite={"strip_prefix": f"/{name}"}, host="endpoint")
            for name in pools
        ]
        routes[list(pools).index("silent")]["timeouts"] = {"connect": "100ms"}
        made = held.enter_context(looms(subject))
        limits = {"body_bytes_max": "1GiB"}
        loom = made.start(settings(pools=pools, routes=routes, limits=limits))
        yield Scenery(loom, it, origins, files, new.file, asked)
        made.close()
        for origin in origins.values():
            assert not origin.failures, origin.failures
