"""The plugin contract by hand: one file, Python's standard library, no SDK.

Read it from top to bottom and you have seen the whole contract: where a plugin listens, how it
knows its caller, the six calls, a stream, an error, and how it ends. It answers with what the user
said last, behind a prefix. In another language it would look the same.
"""

from __future__ import annotations

import contextlib
import datetime
import hmac
import json
import os
import select
import signal
import socketserver
import sys
import threading
import time
import traceback
import uuid
from http.server import BaseHTTPRequestHandler
from typing import Any

BODY_BYTES_MAX = 32 * 1024 * 1024
IDLE_TIMEOUT_S = 75.0  # of a connection on which nothing is asked
GRACE_S = 4  # for running answers after SIGTERM; the proxy kills after 5 s

METADATA = {
    "name": "Example",
    "version": "1.0.0",
    "plugin_api_version": "1.0.0",
    "provider_type": "example-python",
    "description": "Repeats the last message behind a prefix; shows the contract without an SDK.",
    "capabilities": {"streaming": True},
    "config_schema": [
        {
            "name": "prefix",
            "type": "string",
            "description": "What each answer begins with.",
            "default": "You said:",
            "validation": {"max_length": 200},
        }
    ],
}
MODELS = [
    {
        "id": "example-1",
        "name": "Example 1",
        "context_window": 8192,
        "max_output_tokens": 8192,
        "input_cost_per_mtoken": 0.0,
        "output_cost_per_mtoken": 0.0,
        "capabilities": {"streaming": True},
    }
]


class State:
    """What the plugin remembers between calls. Calls come on several threads."""

    token = os.environ.get("LOOM_PLUGIN_TOKEN", "")
    config: dict[str, Any] | None = None  # None: not initialized
    in_flight = 0
    lock = threading.Lock()


class PluginError(Exception):
    """What goes wrong, in the contract's words: a status, and {code, message, transient}."""

    def __init__(self, status: int, code: str, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"code": code, "message": message, "transient": transient}


class Handler(BaseHTTPRequestHandler):
    """One connection; the proxy keeps it open for many calls."""

    protocol_version = "HTTP/1.1"  # keep-alive
    timeout = IDLE_TIMEOUT_S
    wbufsize = -1  # written in one piece at each flush()

    # --- the six calls ---

    def metadata(self, _body: Any) -> Any:
        """GET /metadata: must agree with plugin.yaml on provider_type."""
        return METADATA

    def initialize(self, body: Any) -> Any:
        """POST /initialize: the configuration, checked by the proxy and here once more."""
        if not isinstance(body, dict):
            raise PluginError(400, "invalid_request", "The configuration is no object.")
        unknown = sorted(body.keys() - {"prefix"})
        if unknown:
            raise PluginError(400, "invalid_request", f"There is no key {unknown[0]!r}.")
        prefix = body.get("prefix", "You said:")
        if not isinstance(prefix, str) or len(prefix) > 200:
            raise PluginError(400, "invalid_request", "prefix: is no text of at most 200 letters.")
        State.config = {"prefix": prefix}
        return {}

    def health(self, _body: Any) -> Any:
        """GET /health: 200 also when the answer is no."""
        healthy = State.config is not None
        return {
            "healthy": healthy,
            "message": "OK" if healthy else "not initialized",
            "latency_ms": 0,
            "timestamp": datetime.datetime.now(datetime.timezone.utc).isoformat(),
        }

    def models(self, _body: Any) -> Any:
        """GET /models: a bare list."""
        return MODELS

    def cleanup(self, _body: Any) -> Any:
        """POST /cleanup: the proxy is about to end this process."""
        State.config = None
        return {}

    def chat_completions(self, body: Any) -> Any:
        """POST /chat/completions: a whole answer, or a stream."""
        check_request(body)
        if State.config is None:
            raise PluginError(503, "provider_unavailable", "Not initialized.", transient=True)
        said = last_words(body["messages"])
        words = [*State.config["prefix"].split(), *said]
        usage = {
            "prompt_tokens": len(said),
            "completion_tokens": len(words),
            "total_tokens": len(said) + len(words),
        }
        # What a whole answer and each chunk of a stream have in common.
        head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": body["model"],
        }
        if body.get("stream"):
            self.stream(head, words, usage)
            return None
        message = {"role": "assistant", "content": " ".join(words)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {**head, "object": "chat.completion", "choices": [choice], "usage": usage}

    def stream(self, head: dict[str, Any], words: list[str], usage: dict[str, int]) -> None:
        """Answer in events: chunks, the last with usage, then [DONE]. Without that it was cut."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            self.chunk(head, {"role": "assistant", "content": ""})
            for index, word in enumerate(words):
                self.chunk(head, {"content": word if index == 0 else f" {word}"})
            self.chunk(head, {}, finish_reason="stop", usage=usage)
            self.event("[DONE]")
        except (ConnectionError, PluginError):
            raise
        except Exception:
            # The status was said long ago: now an error is an event, and no [DONE] follows.
            traceback.print_exc()
            error = {"code": "internal_error", "message": "The plugin failed.", "transient": False}
            self.event(json.dumps({"error": error}))
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def chunk(
        self,
        head: dict[str, Any],
        delta: dict[str, Any],
        finish_reason: str | None = None,
        usage: dict[str, int] | None = None,
    ) -> None:
        """Send one chunk of OpenAI's chat.completion.chunk."""
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        data = {**head, "object": "chat.completion.chunk", "choices": [choice]}
        if usage is not None:
            data["usage"] = usage
        self.event(json.dumps(data))

    def event(self, data: str) -> None:
        """Send one event. A client that has left is noticed here: that is cancellation."""
        if select.select([self.connection], [], [], 0)[0]:
            raise ConnectionAbortedError("the caller has left")
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
        self.wfile.flush()

    # --- HTTP around them ---

    CALLS = {
        "/metadata": ("GET", metadata),
        "/initialize": ("POST", initialize),
        "/health": ("GET", health),
        "/models": ("GET", models),
        "/chat/completions": ("POST", chat_completions),
        "/cleanup": ("POST", cleanup),
    }

    def answer(self) -> None:
        """Read one call, answer it; whatever goes wrong is a PluginError."""
        with State.lock:
            State.in_flight += 1
        try:
            data = self.read_body()
            expected = f"Bearer {State.token}".encode()
            given = self.headers.get("Authorization", "").encode("latin-1", "replace")
            if not hmac.compare_digest(given, expected):  # in constant time
                raise PluginError(401, "authentication_failed", "Not this plugin's token.")
            method, call = self.CALLS.get(self.path.partition("?")[0], ("", None))
            if call is None:
                raise PluginError(404, "invalid_request", "A plugin has no such path.")
            if method != self.command:
                raise PluginError(405, "invalid_request", f"{self.path} takes {method}.")
            answered = call(self, self.parse(data) if method == "POST" else None)
            if answered is not None:
                self.reply(200, answered)
        except PluginError as error:
            self.reply(error.status, error.body)
        except ConnectionError:
            self.close_connection = True
        except Exception:
            traceback.print_exc()  # for the log, not for the caller
            body = {"code": "internal_error", "message": "The plugin failed.", "transient": False}
            self.reply(500, body)
        finally:
            with State.lock:
                State.in_flight -= 1

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = answer  # noqa: N815 - http.server's names

    def read_body(self) -> bytes:
        """Return the body: with a length, or in chunks."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b""
            while size := self.chunk_size():
                if len(body) + size > BODY_BYTES_MAX:
                    self.close_connection = True
                    raise PluginError(413, "invalid_request", "The body is too large.")
                body += self.rfile.read(size)
                self.rfile.readline(100)
            while self.rfile.readline(65536).strip():
                pass  # trailer fields
            return body
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > BODY_BYTES_MAX:
            self.close_connection = True
            raise PluginError(413, "invalid_request", f"Content-Length {length} is not allowed.")
        return self.rfile.read(int(length))

    def chunk_size(self) -> int:
        """Return the size of the next chunk of a body; 0 is the last."""
        digits = self.rfile.readline(100).partition(b";")[0].strip()
        try:
            if not digits.isalnum():  # int() would take a sign, too
                raise ValueError
            return int(digits, 16)
        except ValueError:
            self.close_connection = True
            raise PluginError(400, "invalid_request", "A chunk has no size.") from None

    @staticmethod
    def parse(body: bytes) -> Any:
        """Return what a body says; POST /cleanup has none."""
        try:
            return json.loads(body or b"null")
        except (ValueError, RecursionError) as error:
            raise PluginError(400, "invalid_request", f"The body is no JSON: {error}") from None

    def reply(self, status: int, body: Any) -> None:
        """Send a JSON answer."""
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        self.wfile.flush()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is no HTTP that we know; http.server calls it, and would answer in HTML."""
        self.close_connection = True
        self.request_version = self.protocol_version  # of what it could not read
        body = {"code": "invalid_request", "message": message or explain or "", "transient": False}
        self.reply(code, body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
        """Say nothing of each call: the proxy's access log does."""


def check_request(body: Any) -> None:
    """Refuse what cannot be answered."""
    if not isinstance(body, dict):
        raise PluginError(400, "invalid_request", "The body is no object.")
    if not isinstance(body.get("model"), str):
        raise PluginError(400, "invalid_request", "model: is no text.")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise PluginError(400, "invalid_request", "messages: is no list with a message.")
    if not all(isinstance(message, dict) for message in messages):
        raise PluginError(400, "invalid_request", "messages: holds what is no object.")
    if body["model"] not in {model["id"] for model in MODELS}:
        raise PluginError(404, "model_not_found", f"There is no model {body['model']!r}.")


def last_words(messages: list[dict[str, Any]]) -> list[str]:
    """Return the words of the last message, whose content is text or a list of parts."""
    content = messages[-1].get("content") or ""
    if isinstance(content, list):
        content = " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content).split()


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """A thread for each connection, on a Unix socket (`transport: unix`)."""

    daemon_threads = True
    request_queue_size = 128

    def server_bind(self) -> None:
        """Bind the socket so that no other user may connect, from the first moment."""
        mask = os.umask(0o177)
        try:
            super().server_bind()
        finally:
            os.umask(mask)


class TcpServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """A thread for each connection, on a port of the loopback (`transport: tcp`)."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128


def main() -> None:
    """Listen where the proxy says, until SIGTERM."""
    path = os.environ.get("LOOM_PLUGIN_SOCKET")
    port = os.environ.get("LOOM_PLUGIN_PORT")
    if not State.token or not (path or port):
        sys.exit("This is a provider plugin: loomproxy starts it, or `loomproxy plugins test .`")
    server: socketserver.BaseServer
    if path:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        server = UnixServer(path, Handler)
    else:
        host = os.environ.get("LOOM_PLUGIN_HOST", "127.0.0.1")
        server = TcpServer((host, int(port or 0)), Handler)

    def stop(*_: object) -> None:
        # shutdown() waits for serve_forever() to end, so it must not be called on the same thread.
        threading.Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    end_at = time.monotonic() + GRACE_S
    while State.in_flight and time.monotonic() < end_at:
        time.sleep(0.01)


if __name__ == "__main__":
    main()
