"""Every clause has faults that it alone finds: a plugin with one of them fails it and no other."""

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from loomproxy.plugins.conformance.examine import CLAUSES, examine
from loomproxy.plugins.conformance.target import target
from loomproxy.plugins.conformance.verdict import Mark, Verdict

FAULTY = Path(__file__).with_name("faulty.py")
SECRET = "sk-examined-7c1e"

FAULTS = {
    "": "",
    "chatter": "",
    "manifest": "manifest.valid",
    "leaves": "start.answers",
    "silent": "start.answers",
    "garbage": "start.answers",
    "open-socket": "start.private",
    "all-addresses": "start.private",
    "open-models": "auth.missing",
    "prefix-token": "auth.wrong",
    "token-scheme": "auth.right",
    "metadata-text": "metadata.valid",
    "redirect": "metadata.valid",
    "metadata-other": "metadata.matches",
    "metadata-api": "metadata.api-version",
    "metadata-default": "metadata.schema",
    "health-503": "health.before-initialize",
    "chat-early": "chat.before-initialize",
    "no-required": "initialize.missing-required",
    "no-types": "initialize.wrong-type",
    "no-config": "initialize.ok",
    "unhealthy": "health.after-initialize",
    "models-wrapped": "models.array",
    "answer-empty": "chat.answer",
    "hang": "chat.answer",
    "flood": "chat.answer",
    "answer-model": "chat.model",
    "answer-usage": "chat.usage",
    "strict-fields": "chat.unknown-fields",
    "text-only": "chat.parts",
    "any-model": "chat.unknown-model",
    "json-500": "chat.bad-json",
    "any-messages": "chat.invalid",
    "no-stream": "stream.events",
    "stream-kind": "stream.events",
    "stream-reason": "stream.finish",
    "stream-usage": "stream.usage",
    "stream-undone": "stream.done",
    "stream-endless": "stream.done",
    "stream-held": "stream.incremental",
    "stream-leak": "stream.cancel",
    "streams-serial": "concurrency.streams",
    "stream-ids": "concurrency.streams",
    "all-paths": "http.not-found",
    "get-chat": "http.method",
    "no-keep-alive": "http.keep-alive",
    "small-body": "http.large-body",
    "no-chunked": "http.chunked-request",
    "short-ids": "requests.id",
    "few-at-once": "concurrency.calls",
    "no-cleanup": "cleanup.ok",
    "error-shape": "errors.shape",
    "stays": "exit.clean",
    "child": "exit.nothing-left",
    "tell-token": "log.secrets",
    # Further ways to break what a single fault broke above, several at a time.
    "chat-crash types-500 model-code json-crash stream-text post-metadata leaves-badly": (
        "chat.before-initialize initialize.wrong-type chat.unknown-model chat.bad-json "
        "stream.events http.method exit.clean"
    ),
    "no-auth stream-error tell-config": "auth.missing auth.wrong stream.events log.secrets",
    "stream-more": "stream.done",
    "health-bare stream-torn": "health.before-initialize health.after-initialize stream.done",
}
"""Faults of faulty.py, and the clauses that find them."""

WAITING = {"hang", "stream-endless", "stream-leak"}
"""Faults that are found by waiting: a call may take less."""


def folder(place: Path, fault: str) -> Path:
    """A plugin's folder with this fault."""
    manifest = {
        "metadata": {
            "name": "Faulty",
            "version": "1.0.0",
            "plugin_api_version": "1.0.0",
            "provider_type": "faulty",
            "capabilities": {"streaming": True},
            "config_schema": [
                {"name": "api_key", "type": "string", "required": True, "sensitive": True},
                {"name": "size", "type": "int", "default": 1, "validation": {"min": 1, "max": 9}},
            ],
        },
        "command": sys.executable,
        "args": ["-S", "-E", FAULTY.name],
        "env": {"FAULTS": fault},
        "transport": "tcp" if fault == "all-addresses" else "unix",
        "startup_timeout": 0.5 if fault in {"silent", "garbage"} else 20,
        "stop_timeout": 0.2 if fault == "stays" else 20,
    }
    if fault == "manifest":
        manifest["frobs"] = 1
    (place / "plugin.json").write_text(json.dumps(manifest))
    shutil.copy(FAULTY, place)
    return place


def examined(place: Path, fault: str) -> dict[str, Verdict]:
    within_s = 2.0 if fault in WAITING else 20.0
    words = {"api_key": SECRET, "size": "3"}
    subject = target(str(place), dict(os.environ), words=words, within_s=within_s)
    return {verdict.clause: verdict for verdict in asyncio.run(examine(subject), debug=False)}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_its_clause_and_no_other(tmp_path: Path, fault: str) -> None:
    verdicts = examined(folder(tmp_path, fault), fault)
    failed = [name for name, verdict in verdicts.items() if verdict.mark is Mark.FAIL]
    said = "\n".join(f"{name}: {verdicts[name].detail}" for name in failed)
    assert " ".join(failed) == FAULTS[fault], said
    for name in failed:
        assert "seen: " in verdicts[name].detail
        assert "expected: " in verdicts[name].detail
        assert SECRET not in verdicts[name].detail
    if not fault:
        skipped = {name for name, one in verdicts.items() if one.mark is Mark.SKIP}
        assert skipped <= {"stream.incremental"}  # it may be too fast to tell


def test_every_clause_is_found_wanting_by_some_fault() -> None:
    found = {clause for clauses in FAULTS.values() for clause in clauses.split()}
    assert found == {clause.id for clause in CLAUSES}
