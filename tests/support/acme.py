"""A small real plugin for the tests of those who keep plugins: the contract, in standard Python.

It says on stderr what is asked of it, and leaves by itself when the model `crash` is asked for.
"""

import json
import os
import socketserver
from http.server import BaseHTTPRequestHandler
from typing import Any

METADATA = {
    "name": "Acme",
    "version": os.environ.get("ACME_VERSION", "1.0.0"),
    "plugin_api_version": "1.0.0",
    "provider_type": "acme",
    "config_schema": [
        {"name": "api_key", "type": "string", "required": True, "sensitive": True},
        {"name": "tries", "type": "int", "default": 3},
    ],
}
MODELS = [{"id": "small", "name": "Small"}, {"id": "large", "name": "Large"}]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    healthy = False

    def do_GET(self) -> None:
        """What it is, how it is, what it serves."""
        if not self.trusts():
            return
        answers: dict[str, Any] = {
            "/metadata": METADATA,
            "/health": {"healthy": Handler.healthy, "message": "all well"},
            "/models": MODELS,
        }
        self.answer(200, answers[self.path])

    def do_POST(self) -> None:
        """What it does."""
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        if not self.trusts():
            return
        if self.path == "/initialize":
            print(f"initialized, {asked['tries']} tries", flush=True)
            Handler.healthy = True
            self.answer(200, {})
        elif self.path == "/chat/completions":
            if asked["model"] == "crash":
                os._exit(7)
            self.answer(200, completion(asked))
        else:
            self.answer(200, {})

    def trusts(self) -> bool:
        """Whether the caller shows our token; it is told when not."""
        if self.headers["Authorization"] == f"Bearer {os.environ['LOOM_PLUGIN_TOKEN']}":
            return True
        refusal = {"code": "authentication_failed", "message": "who?", "transient": False}
        self.answer(401, refusal)
        return False

    def answer(self, status: int, value: Any) -> None:
        """Send JSON."""
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        """A Unix socket has none."""
        return "-"

    def log_message(self, _format: str, *_arguments: object) -> None:
        """Probes are not worth a line."""


def completion(asked: Any) -> Any:
    """An answer of one word."""
    message = {"role": "assistant", "content": "hello"}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": asked["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


class Server(socketserver.ThreadingUnixStreamServer):
    """All connections."""

    request_queue_size = 64


if __name__ == "__main__":
    print("\x1b[1mup\x1b[0m", flush=True)
    Server(os.environ["LOOM_PLUGIN_SOCKET"], Handler).serve_forever()
