"""What is written about plugins is so: names, clauses, commands and examples are the code's own."""

import re
from pathlib import Path

import click
import pytest

from loomproxy.cli.plugins import plugins
from loomproxy.core.chat.complaint import STATUS_OF_CODE
from loomproxy.plugins import sdk
from loomproxy.plugins.conformance.examine import CLAUSES
from loomproxy.plugins.sdk.errors import STATUSES
from loomproxy.plugins.status import State

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "plugin-development.md").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
DOCUMENTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
    *sorted((ROOT / "loomproxy" / "plugins" / "scaffold").rglob("*.template")),
]
EXAMPLES = re.findall(r"^```python\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"loomproxy plugins ([a-z]+)((?: [^\n`|;)&]+)?)")
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")


@pytest.mark.parametrize("name", sorted(sdk.__all__))
def test_every_public_name_of_the_sdk_is_explained(name: str) -> None:
    assert re.search(rf"`sdk\.{name}\b", GUIDE), (
        f"docs/plugin-development.md says nothing of {name}"
    )


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_compiles_and_uses_what_there_is(text: str) -> None:
    compile(text, "docs/plugin-development.md", "exec")
    used = set(re.findall(r"\bsdk\.(\w+)", text))
    assert used
    assert used <= set(sdk.__all__)


def test_every_clause_of_the_examination_is_listed() -> None:
    table = GUIDE.partition("| clause |")[2].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| `([a-z-]+\.[a-z-]+)` \| (.+?) \|", table, re.MULTILINE))
    assert rows == {clause.id: clause.sentence for clause in CLAUSES}


def test_every_error_code_is_listed_with_its_statuses() -> None:
    rows = re.findall(r"^\| `(\w+)`[^|]*\| (\d{3}) \| (\d{3})\b", GUIDE, re.MULTILINE)
    listed = {code: (int(said), int(given)) for code, said, given in rows}
    assert listed == {code: (STATUSES[code], STATUS_OF_CODE[code]) for code in STATUSES}


def test_every_state_is_told_to_operators() -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", OPERATIONS, re.MULTILINE))
    assert {state.value for state in State} <= rows


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_about_plugins_that_is_named_exists(path: Path) -> None:
    context = click.Context(plugins)
    for name, rest in COMMAND.findall(path.read_text(encoding="utf-8")):
        command = plugins.get_command(context, name)
        assert command is not None, f"loomproxy plugins {name}"
        options = {option for one in command.params for option in one.opts}
        said = set(re.findall(r"(?<=\s)(-[a-z]|--[a-z-]+)\b", rest))
        assert said <= options, f"loomproxy plugins {name}{rest}"


def anchors(path: Path) -> set[str]:
    """What can be linked to in a document, as GitHub makes it of headings."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", DOCUMENTS[:-1], ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(
        r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    for place, anchor in LINK.findall(text):
        if place.startswith(("http://", "https://")):
            continue
        target = path.parent / place if place else path
        assert target.exists(), place
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{place}#{anchor}"
