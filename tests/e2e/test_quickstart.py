"""The first command of the README: what it starts answers what its greeting says to try."""

import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.loom import Loom, Looms
from tests.support.places import free_port
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
CHAT = re.compile(r"curl -s (http://\S+/v1/chat/completions) -d '(.+)'")


def test_quickstart_answers_the_chat_that_it_says_to_try(proxies: Looms, tmp_path: Path) -> None:
    text = (ROOT / "conf" / "quickstart.yaml").read_text(encoding="utf-8")
    places = {
        "127.0.0.1:8080": f"127.0.0.1:{free_port()}",
        "127.0.0.1:9000": f"127.0.0.1:{free_port()}",
        "../examples/": f"{ROOT}/examples/",
        "workers: 2": "workers: 1",
    }
    for place, other in places.items():
        assert place in text
        text = text.replace(place, other)
    config = tmp_path / "quickstart.yaml"
    config.write_text(text, encoding="utf-8")
    loom = proxies.serve(str(config))
    text = eventually(lambda: _greeting(loom), "its greeting")
    said = CHAT.search(text)
    assert said is not None, text
    url, body = said.groups()
    whole = eventually(lambda: _answer(url, body), "the plugin is ready")
    assert whole["choices"][0]["message"]["content"] == "Hello there"
    assert whole["usage"] == {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}


def _greeting(loom: Loom) -> str:
    text = loom.said_path.read_text(encoding="utf-8")
    return text if "/health\n" in text else ""


def _answer(url: str, body: str) -> Any:
    """What it answers; None while the plugin is starting."""
    request = urllib.request.Request(url, data=body.encode())
    try:
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            if error.status == 503:
                return None
            raise
