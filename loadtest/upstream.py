"""The upstream of files behind every proxy under test: one nginx worker that answers from memory.

It never closes a connection by itself within a measurement and writes no access log, so that what
differs between two measurements is the proxy. What nginx cannot play is played by `live`.
"""

from pathlib import Path
from string import Template

from loadtest.accounting import KIB_BYTES

# The two upstreams, by which of them a workload needs.
FILES = "files"
LIVE = "live"

SMALL_PATH = "/small"
SMALL_BODY = b"hello\n"
FILE_BYTES = {"/16k": 16 * KIB_BYTES, "/1m": KIB_BYTES * KIB_BYTES}
REQUESTS_PER_CONNECTION_MAX = 1_000_000_000  # Never reached: nginx would close after 1000.

CONFIG = Template(
    """daemon off;
worker_processes 1;
pid $directory/upstream.pid;
error_log stderr warn;
events { worker_connections 8192; }
http {
  access_log off;
  client_body_temp_path $directory/upstream-body;
  keepalive_requests $requests_max;
  keepalive_timeout 600s;
  sendfile on;
  tcp_nopush on;
  open_file_cache max=16;
  default_type application/octet-stream;
  server {
    listen 127.0.0.1:$port backlog=4096;
    root $directory/files;
    location = $small_path { default_type text/plain; return 200 "$small"; }
  }
}
"""
)


def write(directory: Path, port: int) -> list[str]:
    """Write configuration and files to `directory`; return the argv that starts it on `port`."""
    files = directory / "files"
    files.mkdir()
    for path, size_bytes in FILE_BYTES.items():
        (files / path.lstrip("/")).write_bytes(b"x" * size_bytes)
    config = directory / "upstream.conf"
    config.write_text(
        CONFIG.substitute(
            directory=directory,
            port=port,
            requests_max=REQUESTS_PER_CONNECTION_MAX,
            small_path=SMALL_PATH,
            small=SMALL_BODY.decode("ascii").replace("\n", "\\n"),
        )
    )
    return ["nginx", "-c", str(config), "-p", str(directory), "-e", "stderr"]
