"""`loomproxy plugins test` as its users meet it: lines, exit status, options, addresses."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from loomproxy.cli.plugins_local import test as command
from loomproxy.plugins.conformance.examine import CLAUSES
from tests.plugins.conformance.test_faults import FAULTY, SECRET, folder
from tests.support.waiting import eventually

TOKEN = "by-hand-4f1c"


def run(*arguments: str) -> Result:
    done = CliRunner().invoke(command, arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A good plugin that somebody else runs, and its address."""
    path = tmp_path_factory.mktemp("hand") / "s"
    process = subprocess.Popen(
        [sys.executable, "-S", "-E", FAULTY],
        env={"LOOM_PLUGIN_SOCKET": str(path), "LOOM_PLUGIN_TOKEN": TOKEN},
        umask=0o077,
    )
    eventually(path.exists, "the plugin's socket")
    yield f"unix:{path}"
    process.terminate()
    assert process.wait(10) == 0


def test_a_line_per_clause_and_a_summary(tmp_path: Path) -> None:
    done = run(str(folder(tmp_path, "answer-usage")), "--config", f"api_key={SECRET}")
    lines = done.output.splitlines()
    heads = [line for line in lines if line[:4] in {"PASS", "FAIL", "SKIP"}]
    assert [line.split()[1] for line in heads] == [clause.id for clause in CLAUSES]
    assert [line.split()[1] for line in heads if line.startswith("FAIL")] == ["chat.usage"]
    at = next(number for number, line in enumerate(lines) if "chat.usage" in line)
    assert lines[at + 1].strip() == "seen: the answer without usage"
    assert lines[-2].startswith(f"{tmp_path} does not keep the contract: ")
    assert "1 failed" in lines[-2]
    assert lines[-1] == "Failed: chat.usage"
    assert done.exit_code == 1


def test_a_plugin_that_runs_already_is_examined_at_its_address(by_hand: str) -> None:
    done = run(by_hand, "--token", TOKEN, "--config", f"api_key={SECRET}", "--json")
    value = json.loads(done.output)
    assert (value["target"], value["ok"], done.exit_code) == (by_hand, True, 0), done.output
    marks = {one["clause"]: one["verdict"] for one in value["verdicts"]}
    skipped = {name for name, mark in marks.items() if mark == "SKIP"}
    assert skipped - {"stream.incremental"} == {
        *("manifest.valid", "metadata.matches", "chat.before-initialize"),
        *("exit.clean", "exit.nothing-left", "log.secrets"),
    }
    assert Path(by_hand.removeprefix("unix:")).is_socket()  # it is still there


def test_without_its_token_nothing_but_that_is_learnt(by_hand: str) -> None:
    done = run(by_hand)
    assert done.exit_code == 1
    failed = [line.split()[1] for line in done.output.splitlines() if line.startswith("FAIL")]
    assert failed == ["auth.right"]
    assert "--token" in done.output


def test_a_configuration_file_is_read_with_its_references(
    by_hand: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULTY_KEY", SECRET)
    file = tmp_path / "config.yaml"
    file.write_text("api_key: ${FAULTY_KEY}\nsize: 3\n")
    assert run(by_hand, "--token", TOKEN, "--config-file", str(file)).exit_code == 0
    file.write_text("- a list\n")
    done = run(by_hand, "--config-file", str(file))
    assert (done.exit_code, "not a mapping" in done.output) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["api_key"], "config.api_key: it is missing"),
        (["api_key=k", "size=many"], "config.size"),
        (["api_key=k", "size=99"], "config.size"),
        (["api_key=k", "frobs=1"], "config.frobs"),
    ],
)
def test_a_configuration_that_the_schema_refuses_is_told(
    by_hand: str, arguments: list[str], words: str
) -> None:
    pairs = [argument for argument in arguments if "=" in argument]
    done = run(by_hand, "--token", TOKEN, *(part for pair in pairs for part in ("--config", pair)))
    assert done.exit_code == 1
    assert words in done.output
    assert "--config KEY=VALUE" in done.output


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("/nonexistent", "it is no folder"),
        ("https://127.0.0.1:1", "no connection"),
        ("unix:relative", "no absolute path"),
        ("http://127.0.0.1:1", "no connection"),
    ],
)
def test_what_cannot_be_examined_fails_one_clause(target: str, words: str) -> None:
    done = run(target)
    assert done.exit_code == 1
    assert words in done.output
    assert sum(line.startswith("FAIL") for line in done.output.splitlines()) == 1


def test_a_folder_without_a_manifest_or_with_two_is_told(tmp_path: Path) -> None:
    assert "it holds no manifest" in run(str(tmp_path)).output
    (tmp_path / "plugin.yaml").write_text("")
    (tmp_path / "plugin.json").write_text("{}")
    assert "plugin.json and plugin.yaml" in run(str(tmp_path)).output


def test_options_that_make_no_sense_are_refused(by_hand: str) -> None:
    for options in (["--config", "key"], ["--config", "=1"], ["--timeout", "0"], ["--token", "ü"]):
        assert run(by_hand, *options).exit_code == 2
