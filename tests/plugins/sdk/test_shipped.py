"""The examples as they are shipped: their manifests agree with their programs, and they run."""

import asyncio
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from loomproxy.plugins import contract
from loomproxy.plugins.manifest import Manifest
from tests.plugins.sdk import providers, shipped
from tests.plugins.sdk.shipped import FOLDER
from tests.plugins.sdk.speak import TOKEN, Link, asking, served
from tests.plugins.sdk.test_run import ROOT, ask, connected
from tests.plugins.sdk.upstream import Speak, provider
from tests.support import pythons
from tests.support.waiting import eventually

CONFIGS: dict[str, dict[str, Any]] = {
    "echo-python": {"delay": 0.0},
    "example-python": {"prefix": "You said:"},
    "anthropic-python": {"api_key": "k", "models": "claude-x"},
    "ollama": {},
}


def manifest(name: str) -> Manifest:
    """A manifest, as written."""
    return msgspec.convert(
        yaml.safe_load((FOLDER / name / "plugin.yaml").read_text()), Manifest, strict=False
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_a_program_says_what_its_manifest_says(name: str, tmp_path: Path) -> None:
    told = manifest(name)
    path = str(tmp_path / "p.sock")
    process = subprocess.Popen(
        [told.command, *told.args],
        cwd=FOLDER / name,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            contract.SOCKET_VARIABLE: path,
            contract.TOKEN_VARIABLE: TOKEN,
        },
        stderr=subprocess.PIPE,
    )
    try:
        connection = eventually(lambda: connected(path), "the plugin listens")
        status, metadata = ask(connection, "GET", "/metadata")
        assert status == 200
        assert msgspec.convert(metadata, contract.Metadata) == told.metadata
        assert ask(connection, "GET", "/health")[1]["healthy"] is False
        assert ask(connection, "POST", "/initialize", {"no such key": 1})[0] == 400
        assert ask(connection, "POST", "/initialize", CONFIGS[name]) == (200, {})
        if name != "ollama":
            assert ask(connection, "GET", "/health")[1]["healthy"] is True
            models = ask(connection, "GET", "/models")[1]
            assert msgspec.convert(models, list[contract.ModelInfo])
        assert ask(connection, "POST", "/cleanup") == (200, {})
        connection.close()
        process.terminate()
        _, said = process.communicate(timeout=10)
        assert (process.returncode, said) == (0, b"")
    finally:
        process.kill()
        process.communicate()


def test_the_builtin_example_is_a_manifest_and_nothing_else() -> None:
    told = manifest("openai-compatible")
    assert (told.type, told.command, told.metadata.provider_type) == (
        "builtin",
        "",
        "openai-compatible",
    )
    assert told.models is None, "its upstream is asked"
    assert sorted(path.name for path in (FOLDER / "openai-compatible").iterdir()) == [
        "README.md",
        "plugin.yaml",
    ]


@pytest.fixture(scope="module")
def teaching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The socket of the example without an SDK."""
    path = str(tmp_path_factory.mktemp("teaching") / "p.sock")
    process = subprocess.Popen(
        ["python3", "plugin.py"],
        cwd=FOLDER / "example-python",
        env={"PATH": os.environ["PATH"], "LOOM_PLUGIN_SOCKET": path, "LOOM_PLUGIN_TOKEN": TOKEN},
        stderr=subprocess.PIPE,
    )
    yield path
    process.terminate()
    _, said = process.communicate(timeout=10)
    assert (process.returncode, said) == (0, b"")


def test_the_teaching_example_answers_streams_and_refuses(teaching: str) -> None:
    connection = eventually(lambda: connected(teaching), "the plugin listens")
    asked = {"model": "example-1", "messages": [{"role": "user", "content": "a b"}]}
    assert ask(connection, "POST", "/chat/completions", asked)[0] == 503
    ask(connection, "POST", "/initialize", {"prefix": "Echo:"})
    status, answer = ask(connection, "POST", "/chat/completions", asked)
    assert status == 200
    whole = msgspec.convert(answer, contract.ChatResponse)
    assert whole.choices[0].message.content == "Echo: a b"
    for wrong, status in (
        ({**asked, "model": "x"}, 404),
        ([], 400),
        ({**asked, "messages": 3}, 400),
    ):
        got, error = ask(connection, "POST", "/chat/completions", wrong)
        assert got == status
        msgspec.convert(error, contract.PluginError)
    body = json.dumps({**asked, "stream": True})
    connection.request("POST", "/chat/completions", body, {"Authorization": f"Bearer {TOKEN}"})
    *events, done, end = connection.getresponse().read().decode().split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    chunks = [
        msgspec.json.decode(event.removeprefix("data: "), type=contract.StreamChunk)
        for event in events
    ]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Echo: a b"
    assert chunks[-1].usage == contract.Usage(2, 3, 5)
    assert ask(connection, "POST", "/cleanup") == (200, {})
    connection.close()


@pytest.mark.parametrize(
    ("name", "speak", "config", "model"),
    [
        ("anthropic-python", providers.anthropic, {"api_key": "k"}, "claude-sonnet-4-5"),
        ("ollama", providers.ollama, {}, "llama3.2:latest"),
    ],
)
async def test_a_translating_example_finds_its_providers_models_and_misses_others(
    name: str, speak: Speak, config: dict[str, Any], model: str
) -> None:
    made = shipped.module(name).plugin
    async with (
        provider(speak) as upstream,
        served(made, {"endpoint": upstream.url, **config}) as link,
    ):
        listed = (await link.ask("GET", "/models")).json
        body = {**asking(stream=True), "model": model}
        first = await link.ask("POST", "/chat/completions", body)
        missed = await link.ask("POST", "/chat/completions", {**body, "model": "none"})
        health = (await link.ask("GET", "/health")).json
    assert [entry["id"] for entry in listed] == [model]
    assert first.events[-1] == "[DONE]"
    assert (missed.status, missed.json["code"]) == (404, "model_not_found")
    assert health["healthy"]


@pytest.mark.parametrize("version", ["3.9", "3.10", "3.11", "3.12", "3.13"])
async def test_an_older_or_newer_python_of_the_system_will_do(version: str, tmp_path: Path) -> None:
    python = pythons.find(version)
    if python is None:
        pytest.skip(f"this machine has no Python {version}")
    path = str(tmp_path / "p.sock")
    process = await asyncio.create_subprocess_exec(
        python,
        "plugin.py",
        cwd=FOLDER / "ollama",
        env={"PYTHONPATH": str(ROOT), "LOOM_PLUGIN_SOCKET": path, "LOOM_PLUGIN_TOKEN": TOKEN},
        stderr=subprocess.PIPE,
    )
    try:
        eventually(lambda: connected(path), "the plugin listens").close()
        async with provider(providers.ollama) as upstream:
            link = Link(*await asyncio.open_unix_connection(path))
            await link.ask("POST", "/initialize", {"endpoint": upstream.url})
            assert (await link.ask("GET", "/health")).json["healthy"]
            body = {**asking(stream=True), "model": "llama3.2:latest"}
            assert (await link.ask("POST", "/chat/completions", body)).events[-1] == "[DONE]"
            process.terminate()
            _, said = await process.communicate()
            link.leave()
        assert (process.returncode, said) == (0, b"")
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("GARBAGE\r\n\r\n", 400),
        ("PATCH /health HTTP/1.1\r\n\r\n", 501),
        ("POST /cleanup HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n", 400),
        ("POST /cleanup HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        ("GET /metadata HTTP/1.1\r\n\r\n", 401),
    ],
)
def test_the_teaching_example_refuses_in_the_contracts_words(
    teaching: str, text: str, status: int
) -> None:
    connection = eventually(lambda: connected(teaching), "the plugin listens")
    connection.sock.sendall(text.encode())
    connection.sock.shutdown(socket.SHUT_WR)
    head, _, body = connection.sock.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.split()[1] == str(status).encode()
    msgspec.json.decode(body, type=contract.PluginError)
    connection.close()
