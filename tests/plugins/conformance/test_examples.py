"""Every example of the tree, unmodified, keeps every clause of the contract that concerns it."""

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

import loomproxy
from loomproxy.plugins.conformance.examine import CLAUSES, examine
from loomproxy.plugins.conformance.target import target
from loomproxy.plugins.conformance.verdict import Mark, Verdict
from tests.plugins.conformance import fakes
from tests.plugins.sdk.upstream import Speak, provider

TREE = Path(loomproxy.__file__).parent.parent
EXAMPLES = TREE / "examples" / "plugins"


class Needs(msgspec.Struct, frozen=True):
    """What an example needs beside itself; `{url}` is the fake provider's."""

    speak: Speak | None = None
    words: dict[str, str] = {}
    environ: dict[str, str] = {}
    model: str = ""


NEEDS = {
    "anthropic-python": Needs(
        fakes.anthropic, words={"endpoint": "{url}", "api_key": fakes.KEY}, model=fakes.CLAUDE
    ),
    "ollama": Needs(fakes.ollama, words={"endpoint": "{url}"}, model=fakes.LLAMA),
    "openai-compatible": Needs(
        fakes.openai,
        environ={"OPENAI_COMPATIBLE_ENDPOINT": "{url}/v1", "OPENAI_API_KEY": fakes.KEY},
        model=fakes.MODEL,
    ),
}

OF_REQUIRED_KEYS = {"chat.before-initialize", "initialize.missing-required"}
TOO_FAST_TO_TELL = {"stream.incremental"}
OF_BUILTIN = {
    *("manifest.valid", "start.answers", "chat.answer", "chat.model", "chat.usage"),
    *("stream.events", "stream.finish", "stream.usage", "stream.done"),
}

TABLE: dict[str, dict[str, Verdict]] = {}


def names() -> list[object]:
    """The examples; one that has to be built takes long."""
    return [
        pytest.param(path.name, marks=[pytest.mark.slow] if (path / "go.mod").exists() else [])
        for path in sorted(EXAMPLES.iterdir())
        if any(path.glob("plugin.*"))
    ]


@contextlib.asynccontextmanager
async def nobody() -> AsyncIterator[None]:
    yield None


async def examined(folder: Path, needs: Needs) -> dict[str, Verdict]:
    async with provider(needs.speak) if needs.speak else nobody() as here:
        url = here.url if here else ""
        subject = target(
            str(folder),
            {**os.environ, **{name: text.format(url=url) for name, text in needs.environ.items()}},
            words={name: text.format(url=url) for name, text in needs.words.items()},
            model=needs.model,
        )
        return {verdict.clause: verdict for verdict in await examine(subject)}


def built(folder: Path, place: Path) -> Path:
    """A copy with its program, made without a network."""
    copy = shutil.copytree(folder, place / folder.name)
    subprocess.run(
        ["go", "build", "-o", folder.name],
        cwd=copy,
        env={
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "CGO_ENABLED": "0",
            "GOCACHE": str(TREE / ".cache" / "go-build"),
            "GOPROXY": "off",
            "GOTOOLCHAIN": "local",
        },
        check=True,
    )
    return copy


@pytest.mark.parametrize("name", names())
def test_an_example_keeps_the_contract(tmp_path: Path, name: str) -> None:
    folder = EXAMPLES / name
    if (folder / "go.mod").exists():
        folder = built(folder, tmp_path)
    verdicts = asyncio.run(examined(folder, NEEDS.get(name, Needs())), debug=False)
    TABLE[name] = verdicts
    if len(TABLE) == len(names()):
        print(table())
    for verdict in verdicts.values():
        assert verdict.ok, f"{verdict.clause}: {verdict.detail}"
    skipped = {one.clause for one in verdicts.values() if one.mark is Mark.SKIP}
    if name == "openai-compatible":
        assert set(verdicts) - skipped == OF_BUILTIN
    else:
        assert skipped <= OF_REQUIRED_KEYS | TOO_FAST_TO_TELL


def table() -> str:
    """Clauses by examples, of those that were examined so far."""
    lines = [" ".join(["clause".ljust(28), *TABLE])]
    for clause in CLAUSES:
        marks = [TABLE[name][clause.id].mark.value.ljust(len(name)) for name in TABLE]
        lines.append(" ".join([clause.id.ljust(28), *marks]).rstrip())
    return "\n".join(lines)
