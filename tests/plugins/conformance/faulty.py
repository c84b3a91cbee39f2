"""A small plugin that keeps the contract, but for the faults that its environment names.

Nothing but the standard library. `FAULTS` is a key of the table in test_faults.py.
"""

import json
import os
import signal
import socketserver
import stat
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

FAULTS = set(os.environ.get("FAULTS", "").split())
TOKEN = os.environ["LOOM_PLUGIN_TOKEN"]
SLOW_S = 0.1
MODELS = [{"id": "model-1", "capabilities": {"streaming": True}}]
METADATA = {
    "name": "Faulty",
    "version": "1.0.0",
    "plugin_api_version": "1.0.0",
    "provider_type": "faulty",
    "capabilities": {"streaming": True},
    "config_schema": [
        {"name": "api_key", "type": "string", "required": True, "sensitive": True},
        {"name": "size", "type": "int", "default": 1, "validation": {"min": 1, "max": 9}},
    ],
}
OTHERWISE = {
    "metadata-other": {"provider_type": "another"},
    "metadata-api": {"plugin_api_version": "2.0.0"},
    "metadata-default": {"config_schema": [{"name": "size", "type": "int", "default": "one"}]},
}
for fault in FAULTS & OTHERWISE.keys():
    METADATA |= OTHERWISE[fault]

config = {}
busy = []
few = threading.Semaphore(8)
lock = threading.Lock()
kept = []


def has(fault):
    """Whether it was asked for."""
    return fault in FAULTS


class Refusal(Exception):
    """An error object with its status."""

    def __init__(self, status, code, message="no"):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def opened_again(path):
    """Who started it closes the socket once, at a moment of its own: open it after that."""
    end = time.monotonic() + 5
    while stat.S_IMODE(path.stat().st_mode) not in (0o600, 0o666) and time.monotonic() < end:
        time.sleep(0.001)
    path.chmod(0o666)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one piece

    def log_message(self, *_):
        pass

    def address_string(self):
        return "unix"

    def do_GET(self):
        self.answer("GET")

    def do_POST(self):
        self.answer("POST")

    def answer(self, method):
        if has("open-socket"):
            opened_again(Path(os.environ["LOOM_PLUGIN_SOCKET"]))
        if has("garbage"):
            self.wfile.write(b"\x00\xff\x1b[31m not HTTP at all\r\n\r\n")
            self.close_connection = True
            return
        try:
            try:
                body = self.body()
                self.check_token()
                status, value = 200, self.call(f"{method} {self.path}", body)
            except Refusal as refusal:
                error = {"code": refusal.code, "message": refusal.message}
                status, value = refusal.status, error
                if has("error-shape") and status == 404:
                    value = {"error": "boom"}
            if value is not None:
                self.say(status, json.dumps(value).encode())
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def say(self, status, body, kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if has("no-keep-alive"):
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"" if has("no-chunked") else b"".join(parts)
        size = int(self.headers.get("Content-Length") or 0)
        if has("small-body") and size > 65536:
            self.close_connection = True
            raise ConnectionResetError
        return self.rfile.read(size)

    def check_token(self):
        shown = self.headers.get("Authorization", "")
        wanted = f"Bearer {TOKEN}"
        if has("no-auth") or (has("open-models") and self.path == "/models"):
            return
        if has("prefix-token") and shown.startswith(wanted):
            return
        if has("token-scheme"):
            wanted = f"Token {TOKEN}"
        if shown != wanted:
            raise Refusal(401, "authentication_failed")

    def call(self, call, body):
        if has("redirect") and call == "GET /metadata":
            raise Refusal(302, "internal_error")
        if has("post-metadata") and call == "POST /metadata":
            return METADATA
        if has("get-chat") and call == "GET /chat/completions":
            return {}
        if has("all-paths") and call.startswith("GET /loomproxy"):
            return {}
        known = {
            "GET /metadata": self.metadata,
            "GET /health": self.health,
            "GET /models": self.models,
            "POST /initialize": self.initialize,
            "POST /chat/completions": self.chat,
            "POST /cleanup": self.cleanup,
        }
        if call not in known:
            raise Refusal(404, "invalid_request")
        return known[call](body)

    def metadata(self, _):
        if has("metadata-text"):
            self.say(200, b"hello")
            return None
        return METADATA

    def health(self, _):
        if has("health-503") and not config:
            raise Refusal(503, "provider_unavailable")
        if has("health-bare"):
            return {"status": "ok"}
        return {
            "healthy": bool(config) and not has("unhealthy"),
            "timestamp": "2026-01-31T12:00:00Z",
        }

    def models(self, _):
        return {"data": MODELS} if has("models-wrapped") else MODELS

    def initialize(self, body):
        given = json.loads(body)
        if "api_key" not in given and not has("no-required"):
            raise Refusal(400, "invalid_request", "api_key: it is missing")
        if not isinstance(given.get("size", 1), int) and not has("no-types"):
            raise Refusal(500 if has("types-500") else 400, "invalid_request", "size: no number")
        if has("no-config") and isinstance(given.get("size"), int):
            raise Refusal(401, "authentication_failed")
        config.update(given)
        if has("tell-config"):
            print("initialised with", given, flush=True)
        return {}

    def cleanup(self, _):
        if has("no-cleanup"):
            raise Refusal(500, "internal_error")
        return {}

    def asked(self, body):
        try:
            asked = json.loads(body)
            wrong = not isinstance(asked, dict)
        except ValueError:
            wrong = True
        if wrong:
            if has("json-500"):
                raise Refusal(500, "internal_error")
            if has("json-crash"):
                raise ConnectionResetError
            raise Refusal(400, "invalid_request")
        messages = asked.get("messages")
        if has("any-messages") and messages == []:
            return asked
        good = isinstance(messages, list) and messages and isinstance(messages[0], dict)
        if not good or "model" not in asked:
            raise Refusal(400, "invalid_request")
        return asked

    def chat(self, body):
        asked = self.usable(body)
        if has("hang"):
            threading.Event().wait()
        if has("flood"):
            self.say(200, b'{"id": "' + b"x" * (9 << 20) + b'"}')
            return None
        if asked.get("stream") and not has("no-stream"):
            with lock if has("streams-serial") else threading.Lock():
                return self.stream(len(body) > 1000)
        if not has("few-at-once"):
            return self.completion()
        with few:
            try:
                busy.append(1)
                time.sleep(SLOW_S)
                if len(busy) > 4:
                    raise Refusal(500, "internal_error")
                return self.completion()
            finally:
                busy.pop()

    def usable(self, body):
        if not config and has("chat-crash"):
            self.close_connection = True
            raise ConnectionResetError
        if not config and not has("chat-early"):
            raise Refusal(503, "provider_unavailable")
        asked = self.asked(body)
        if has("strict-fields") and "seed" in asked:
            raise Refusal(400, "invalid_request")
        if has("text-only") and isinstance(asked["messages"][0]["content"], list):
            raise Refusal(500, "internal_error")
        self.check_model(asked["model"])
        return asked

    def check_model(self, model):
        if has("short-ids") and len(self.headers["X-Request-ID"]) > 64:
            raise Refusal(400, "invalid_request")
        if model != "model-1" and not has("any-model") and config:
            code = "invalid_request" if has("model-code") else "model_not_found"
            raise Refusal(404, code)

    def completion(self):
        message = {"role": "assistant", "content": "Hello."}
        answer = {
            "id": "x",
            "object": "chat.completion",
            "created": 1,
            "model": "another" if has("answer-model") else "model-1",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }
        if has("answer-usage"):
            del answer["usage"]
        return {} if has("answer-empty") else answer

    def stream(self, quick):
        kind = "application/json" if has("stream-kind") else "text/event-stream"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        events = list(self.events())
        if has("stream-held"):
            time.sleep(SLOW_S * 3)
            events = ["\n\n".join(f"data: {event}" for event in events).removeprefix("data: ")]
        for event in events:
            if has("streams-serial") and not quick:
                time.sleep(SLOW_S / 4)
            self.chunk(f"data: {event}\n\n".encode())
        if has("stream-endless"):
            while True:
                self.chunk(b": still there\n\n")
                time.sleep(SLOW_S)
        if has("stream-leak"):
            kept.append(os.dup(self.connection.fileno()))
        if has("stream-torn"):
            self.close_connection = True
            return
        self.wfile.write(b"0\r\n\r\n")

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def events(self):
        number = "same" if has("stream-ids") else f"{time.monotonic_ns()}-{id(self)}"
        base = {"id": number, "object": "chat.completion.chunk", "created": 1, "model": "model-1"}
        usage = {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
        choices = [({"content": word}, None) for word in ("one", "two", "three")]
        if has("stream-error"):
            yield json.dumps({"error": {"code": "internal_error", "message": "no"}})
            return
        if has("stream-text"):
            yield "hello"
        finish = None if has("stream-reason") else "stop"
        for delta, reason in [*choices, ({}, finish)]:
            more = {"usage": usage} if delta == {} and not has("stream-usage") else {}
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            yield json.dumps({**base, "choices": [choice], **more})
        if not has("stream-undone"):
            yield "[DONE]"
        if has("stream-more"):
            yield json.dumps({**base, "choices": [], "usage": usage})


SETTING = {"daemon_threads": True, "request_queue_size": 64, "allow_reuse_address": True}
Unix = type("Unix", (socketserver.ThreadingUnixStreamServer,), SETTING)
Tcp = type("Tcp", (socketserver.ThreadingTCPServer,), SETTING)


def chatter():
    """More lines than anybody wants to read."""
    for number in range(100_000):
        print("line", number, file=sys.stderr if number % 2 else sys.stdout)
    sys.stdout.flush()


def main():
    if has("leaves"):
        print("no such setting: frobs", file=sys.stderr)
        sys.exit(3)
    if has("silent"):
        threading.Event().wait()
    if "LOOM_PLUGIN_SOCKET" in os.environ:
        path = os.environ["LOOM_PLUGIN_SOCKET"]
        server = Unix(path, Handler)
    else:
        host = "0.0.0.0" if has("all-addresses") else os.environ["LOOM_PLUGIN_HOST"]
        server = Tcp((host, int(os.environ["LOOM_PLUGIN_PORT"])), Handler)
    if has("tell-token"):
        print("my token is", TOKEN, flush=True)
    if has("chatter"):
        threading.Thread(target=chatter, daemon=True).start()
    if has("child"):
        subprocess.Popen(["sleep", "60"], start_new_session=True)
    status = 3 if has("leaves-badly") else 0
    signal.signal(signal.SIGTERM, lambda *_: has("stays") or os._exit(status))
    server.serve_forever(poll_interval=0.05)


if __name__ == "__main__":
    main()
