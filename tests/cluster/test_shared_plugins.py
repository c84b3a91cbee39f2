"""Which plugins are wanted, in which version and with what, is published for all instances."""

import json
from pathlib import Path
from typing import Any

from tests.plugins.garden import Garden
from tests.support.instances import Together, asked, published
from tests.support.loom import Loom
from tests.support.waiting import eventually

SCHEMA = [{"name": "key", "type": "string"}]


def plugin(loom: Loom) -> Any:
    (only,) = asked(loom, "/api/v1/plugins")["plugins"]
    return only


def wanted(**desired: Any) -> str:
    plugins = {"desired": {"acme": desired}, "config": {"acme": {"key": "a"}, "eu": {"key": "b"}}}
    return json.dumps({"routes": [], "plugins": plugins})


def test_what_is_wanted_of_a_plugin_is_so_everywhere(together: Together, tmp_path: Path) -> None:
    garden = Garden(tmp_path)
    garden.plant("acme", metadata={"config_schema": SCHEMA})
    here = {"plugins": {"directory": str(garden.directory)}}
    looms = [together.start(name, **here) for name in ("one", "two")]

    def all_are(holds: Any, what: str) -> None:
        for loom in looms:
            eventually(lambda loom=loom: holds(plugin(loom)), what, within_s=20.0)

    all_are(lambda it: it["state"] == "ready", "it runs")
    version = plugin(looms[0])["version"]
    assert published(looms[0], wanted(enabled=False), tmp_path) == 0
    all_are(lambda it: it["state"] == "disabled", "it is stopped everywhere")
    done = looms[0].run("plugins", "enable", "acme", "--admin", f"unix:{looms[0].admin}")
    assert done.returncode == 1, "what is wanted of all is not changed on one"
    assert "plugins.desired.acme.enabled is false" in done.stderr
    assert published(looms[0], wanted(version=version, config="eu"), tmp_path) == 0
    all_are(lambda it: it["state"] == "ready" and it["config"] == {"key": "b"}, "it is told that")
    generation = plugin(looms[0])["generations"][0]["number"]
    assert published(looms[0], wanted(version="9.9.9", config="eu"), tmp_path) == 0
    all_are(lambda it: "9.9.9 is wanted" in it["last_error"], "it says why it does not change")
    assert plugin(looms[0])["state"] == "ready", "what serves goes on"
    assert plugin(looms[0])["generations"][0]["number"] == generation
