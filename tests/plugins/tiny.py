"""A plugin with the standard library alone, small and quick to start; files say how it behaves.

`LOOM_TINY` is a directory: a file `unhealthy`, `mute` or `slow` there changes what it does from
then on, and it notes there what was asked of it. What it is comes from the line WHAT below.
"""

import json
import os
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

WHAT = {"version": "1.0.0", "model": "one"}

KNOBS = Path(os.environ["LOOM_TINY"])
NAME = os.environ["LOOM_PLUGIN_NAME"]


def note(word):
    with (KNOBS / "notes").open("a") as file:
        file.write(f"{word}\n")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    config = None

    def do_GET(self):
        while (KNOBS / "mute").exists():
            time.sleep(0.02)
        if self.headers["authorization"] != f"Bearer {os.environ['LOOM_PLUGIN_TOKEN']}":
            self.answer(401, {"code": "authentication_failed", "message": "no"})
        elif self.path == "/health":
            healthy = Handler.config is not None and not (KNOBS / "unhealthy").exists()
            message = "fine" if healthy else "not so well"
            self.answer(
                200, {"healthy": healthy, "message": message, "timestamp": "2026-01-01T00:00:00Z"}
            )
        elif self.path == "/metadata":
            self.answer(
                200,
                {
                    "name": NAME,
                    "version": WHAT["version"],
                    "plugin_api_version": WHAT.get("api", "1.0.0"),
                    "provider_type": WHAT.get("type", NAME),
                },
            )
        else:
            self.answer(200, [{"id": WHAT["model"], "name": WHAT["model"]}])

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
        if self.path == "/chat/completions":
            self.answer(200, completion(body))
            return
        if self.path == "/initialize":
            Handler.config = body
            note(f"initialize {json.dumps(body, sort_keys=True)}")
        else:
            note("cleanup")
        self.answer(200, {})

    def answer(self, status, thing):
        data = json.dumps(thing).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass

    def address_string(self):
        return "unix"


def completion(asked):
    """An answer that says which version gave it."""
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": asked["model"],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": WHAT["version"]},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    block_on_close = False


if __name__ == "__main__":
    print("hello from", NAME, flush=True)
    if (KNOBS / "die").exists():
        sys.exit("I do not like it here")
    with Server(os.environ["LOOM_PLUGIN_SOCKET"], Handler) as server:
        threading.stack_size(1 << 18)
        server.serve_forever()
