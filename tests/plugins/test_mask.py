"""What a plugin says of what it was told in confidence."""

import asyncio
from pathlib import Path

import pytest

from loomproxy.plugins.contract import ConfigField, Metadata
from loomproxy.plugins.manifest import Auth, Found, Manifest
from loomproxy.plugins.mask import SECRET_CHARS_MIN, Mask, mask
from loomproxy.plugins.wish import Wish
from tests.plugins.estate import estate

KEY = "sk-canary-0123456789"
SCHEMA = [{"name": "key", "type": "string", "required": True, "sensitive": True}]


@pytest.mark.parametrize(
    ("secrets", "text", "told"),
    [
        ((), "nothing to hide", "nothing to hide"),
        ((KEY,), f"{KEY}, and {KEY}", "***, and ***"),
        ((KEY, KEY + "-more"), f"{KEY}-more", "***"),
        (("x" * (SECRET_CHARS_MIN - 1),), "x" * 20, "x" * 20),
        (("first-line\n  second-line\n",), "of second-line and first-line", "of *** and ***"),
    ],
)
def test_secrets_are_replaced_wherever_they_stand(
    secrets: tuple[str, ...], text: str, told: str
) -> None:
    assert Mask(secrets)(text) == told


def test_what_is_masked_is_what_was_given_in_confidence() -> None:
    schema = (
        ConfigField("key", "string", sensitive=True),
        ConfigField("pin", "int", sensitive=True),
        ConfigField("absent", "string", sensitive=True),
        ConfigField("region", "string"),
    )
    manifest = Manifest(
        metadata=Metadata("acme", "1.0.0", "1.0.0", "acme", config_schema=schema),
        endpoint="http://127.0.0.1:9",
        auth=Auth(secret="shown-to-it"),
    )
    found = Found(Path("/x/plugin.yaml"), Path("/x"), manifest, frozenset({"argument"}))
    config: dict[str, object] = {"key": KEY, "pin": 12345678, "region": "eu-central"}
    hide = mask(Wish("acme", found, config=config), "its-token")
    said = f"{KEY} shown-to-it its-token argument eu-central 12345678"
    assert hide(said) == "*** *** *** *** eu-central 12345678"


def test_a_plugin_s_lines_and_complaints_reach_nobody_with_its_secrets() -> None:
    async def play() -> None:
        async with estate() as it:
            folder = it.plant("acme", metadata={"config_schema": SCHEMA})
            code = (folder / "plugin.py").read_text()
            prattle = """            print("got", body, os.environ["LOOM_PLUGIN_TOKEN"], flush=True)
            if (KNOBS / "refuse").exists():
                said = {"code": "internal_error", "message": f"not {body['key']}"}
                return self.answer(500, said)
"""
            place = "            Handler.config = body\n"
            assert place in code
            (folder / "plugin.py").write_text(code.replace(place, prattle + place))
            it.knob("acme", "refuse").touch()
            await it.begin(config={"acme": {"key": KEY}})
            await it.until(lambda: "internal_error" in it.status("acme").last_error)
            assert "not ***" in it.status("acme").last_error
            it.knob("acme", "refuse").unlink()
            await it.until(lambda: it.is_ready("acme"))
            lines = [line.text for line in it.manager.logs("acme", 0, 100)]
            assert "got {'key': '***'} ***" in lines
            assert KEY not in str(it.manager.status()) + str(lines)

    asyncio.run(play())
